"""The program is told to end, by the system or by whoever logs out: what is done before it does."""

from __future__ import annotations

import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qtpy.QtCore import QSocketNotifier, QTimer
from qtpy.QtWidgets import QApplication


@contextmanager
def going_on() -> Iterator[None]:
    """Print what is raised within, and go on: the program ends, and the rest is to be saved."""
    try:
        yield
    except Exception:  # noqa: BLE001
        traceback.print_exc()


class Quitting:
    """Watches for the end of the program, until it is let go.

    Python takes a signal only while it computes, and Qt waits without it: so each signal wakes the
    event loop through a socket, and what is to be done is done in the loop's next turn, never in
    the middle of something else. After that the program ends by the signal, as it would have, also
    where something could not be done.

    Parameters
    ----------
    flush
        Brings to disk what is not there yet, where the program may end or go on: at a logout,
        which may be called off.
    close
        Closes all, where it surely ends: after SIGTERM.
    """

    def __init__(self, flush: Callable[[], None], close: Callable[[], None]) -> None:
        self._flush = flush
        self._close = close
        self._former: Any = None
        self._watches_signal = False
        app = QApplication.instance()
        app.aboutToQuit.connect(self._about_to_quit)
        app.commitDataRequest.connect(self._log_out)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            self._watch_signal()

    def let_go(self) -> None:
        """Leave all as it was found."""
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.disconnect(self._about_to_quit)
            app.commitDataRequest.disconnect(self._log_out)
        if self._watches_signal:
            self._watches_signal = False
            self._notifier.setEnabled(False)
            signal.signal(signal.SIGTERM, self._former)
            current = signal.set_wakeup_fd(self._former_wakeup)
            if current == self._wake.fileno():
                self._awake.close()
                self._wake.close()
            else:
                # Who runs the event loop has put another in its place, and will put this one
                # back: it is to be there until the program ends.
                signal.set_wakeup_fd(current)
                self._awake.detach()
                self._wake.detach()

    def _watch_signal(self) -> None:
        self._awake, self._wake = socket.socketpair()
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        self._notifier = QSocketNotifier(self._awake.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._wake_up)
        self._former_wakeup = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        former = signal.signal(signal.SIGTERM, self._take)
        self._former = signal.SIG_DFL if former is None else former
        self._watches_signal = True

    def _wake_up(self) -> None:
        """Read what has woken the loop; Python takes the signal while it does."""
        self._awake.recv(4096)

    def _take(self, number: int, frame: object) -> None:
        QTimer.singleShot(0, self._end)

    def _end(self) -> None:
        for work in (self._flush, self._close, self.let_go):
            with going_on():
                work()
        os.kill(os.getpid(), signal.SIGTERM)

    def _about_to_quit(self) -> None:
        with going_on():
            self._flush()

    def _log_out(self, manager: object) -> None:
        with going_on():
            self._flush()
