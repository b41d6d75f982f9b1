"""Running `protoseg` as a person does, and what may be expected of every error that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tiny_project import tree
from typer.testing import CliRunner

from napari_protoseg.cli.commands import application

DONE, USAGE, INPUT, STORAGE, STOPPED = 0, 2, 3, 4, 130


@dataclass(frozen=True)
class Ran:
    """What a command left on the terminal."""

    out: str
    err: str


def protoseg(*arguments: str | Path, code: int = DONE) -> Ran:
    """Run a command in this process; it has to end with `code`, and with no traceback."""
    ran = CliRunner().invoke(application, [*map(str, arguments)])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert ran.exit_code == code, ran.output
    return Ran(ran.stdout, ran.stderr)


def refusal(*arguments: str | Path, untouched: Path, code: int = INPUT) -> str:
    """Run a command that has to refuse, and return the last line that it says.

    That is one sentence of what and where, and one of the way out; `untouched` is afterwards
    as it was, byte for byte, or still absent.
    """
    existed, before = untouched.exists(), tree(untouched)
    ran = protoseg(*arguments, code=code)
    assert untouched.exists() is existed
    after = tree(untouched)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert not changed
    return the_error(ran.err)


def the_error(err: str) -> str:
    """Return the error of a command, which has three parts and is the last that it says."""
    assert "Traceback" not in err
    line = err.rstrip("\n").splitlines()[-1]
    assert re.fullmatch(r"Error: .+: .+\. [A-Z].+", line), line
    return line


class Process:
    """A command in a process of its own, which gets a signal once it has said something."""

    def __init__(self, *arguments: str | Path, at: str, signal: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "napari_protoseg.cli", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._at, self._signal = at, signal
        self._said = ""
        # A thread, so that several of them may run at once and none waits for a reader.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stderr is not None
        with self._child.stderr as stream:
            for line in stream:
                if self._at in line:
                    self._child.send_signal(self._signal)
                self._said += line

    def end(self) -> tuple[int, str]:
        """Wait for its end, and return its exit code and all that it said."""
        code = self._child.wait(timeout=200)
        self._reader.join()
        return code, self._said
