"""What watches for the end of the program leaves it as it was found."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("napari")

_BEGIN = """
import os
import signal
import threading

from napari.qt import get_qapp
from qtpy.QtCore import QTimer
from napari_protoseg.plugin.quitting import Quitting

signal.signal(signal.SIGINT, signal.default_int_handler)  # as of a program at a terminal
app = get_qapp()
quitting = Quitting(lambda: print("saved", flush=True), lambda: None)
"""

_LET_GO = """
import napari

def leave():
    quitting.let_go()
    app.quit()

QTimer.singleShot(0, leave)
napari.run(force=True)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print("left")
"""

_AGAIN = """
quitting.let_go()
assert signal.set_wakeup_fd(-1) == -1
again = Quitting(lambda: print("saved", flush=True), lambda: None)
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
app.exec_()
"""

_FAIL = """
quitting.let_go()

def fail(what):
    print(what, flush=True)
    raise RuntimeError(what + " in vain")

last = Quitting(lambda: fail("saving"), lambda: fail("closing"))
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
app.exec_()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _BEGIN + code]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def test_napari_which_watches_for_signals_too_ends_well_after_all_was_let_go():
    child = run(_LET_GO)
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines()[-1] == "left"


@pytest.mark.skipif(sys.platform == "win32", reason="no program is asked to end by a signal there")
def test_a_second_watch_hears_the_signal_as_the_first_would():
    import signal

    child = run(_AGAIN)
    assert child.returncode == -signal.SIGTERM, child.stderr
    assert child.stdout.splitlines() == ["saved"]


@pytest.mark.skipif(sys.platform == "win32", reason="no program is asked to end by a signal there")
def test_what_fails_as_the_program_ends_is_said_and_the_rest_is_done():
    import signal

    child = run(_FAIL)
    assert child.returncode == -signal.SIGTERM, child.stderr
    assert child.stdout.splitlines() == ["saving", "closing"]
    assert "RuntimeError: saving in vain" in child.stderr
    assert "RuntimeError: closing in vain" in child.stderr
