"""Jobs in background threads: behind the window, in napari's list of running tasks."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import zarr
from napari.qt.threading import WorkerBase, WorkerBaseSignals, create_worker
from qtpy.QtCore import QObject, Qt, Signal

from napari_protoseg.events import Job, Request
from napari_protoseg.workbench.tasks import Driver, Listener

_CLOSE_SECONDS = 120.0
"""How long a job may take to save."""
_NICE = 10
"""By how much a job gives way to the window, on the system's scale of 0 to 19."""


class _JobSignals(WorkerBaseSignals):
    happened = Signal(object)
    ended = Signal(object)
    failed = Signal(object)


class _Title:
    """What napari's list of running tasks, which names each by its function, shows for a job."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class JobWorker(WorkerBase):
    """Drives one job in a thread; events, result and error are signalled to the main thread.

    The thread is the job's alone, and gives way to the window where both want the same core: what
    a thread of Qt's pool gives up in favour of others, it could not take back for its next task.
    Nor does it wait for a place in that pool, which has one for each core: with a single one, no
    image could be opened while a network trains.

    It differs from napari's own worker for generators in that a stop is a request that the job
    answers in order, that the job is closed in its thread, and that no error passes for a result.

    Parameters
    ----------
    title
        What is being done.
    job
        Not started yet.
    listener
        Kept alive until it has heard the end: Qt holds the methods that it calls weakly.
    """

    def __init__(self, title: _Title, job: Job[Any], listener: Listener) -> None:
        super().__init__(SignalsClass=_JobSignals)
        self.title = title
        self._thread = threading.Thread(target=self.run, name=str(title))
        self._job = job
        # Kept until all is heard: who hears, and the worker itself, which nobody else may keep.
        # napari lists each worker as long as its window lives, so it is all let go at the end; not
        # by a method of the worker, which Qt may have deleted when it is called.
        self._kept: list[object] = [listener, self]
        self.finished.connect(self._kept.clear)
        self.happened.connect(listener.happened)
        self.ended.connect(listener.ended)
        self.failed.connect(listener.failed)
        self._go_on = threading.Event()
        self._go_on.set()
        self._stopping = threading.Event()
        self._abandoned = threading.Event()

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has begun, and has not left yet."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait until the thread has left, but not for ever."""
        self._thread.join(seconds)

    def work(self) -> None:
        """Ask for events until the job ends; called in its thread."""
        _give_way()
        try:
            if not self._abandoned.is_set():
                self._drive()
        finally:
            self._job.close()

    def pause(self) -> None:
        """Ask for no more events."""
        self._go_on.clear()

    def resume(self) -> None:
        """Go on."""
        self._go_on.set()

    def stop(self) -> None:
        """Answer the next event with a request to stop."""
        self._stopping.set()
        self._go_on.set()

    def quit(self) -> None:
        """Close the job at its next event: it saves and leaves. napari asks so when it closes."""
        self._abandoned.set()
        self._go_on.set()

    def _drive(self) -> None:
        answer: Request | None = None
        while True:
            try:
                event = self._job.send(answer)
            except StopIteration as end:
                self.ended.emit(end.value)
                return
            except Exception as error:  # noqa: BLE001 (whoever listens shows it)
                self.failed.emit(error)
                return
            self.happened.emit(event)
            self._go_on.wait()
            if self._abandoned.is_set():
                return
            answer = Request.STOP if self._stopping.is_set() else None


def _give_way() -> None:
    """Let others go first where a core is short: this thread, and those that it starts.

    Only Linux has this for a single thread; elsewhere all share alike.
    """
    if sys.platform == "linux":
        os.nice(_NICE)


class _MainThread(QObject):
    """Does what other threads hand over, in the thread in which this was made."""

    handed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.handed.connect(self._do, Qt.ConnectionType.QueuedConnection)

    def _do(self, action: Callable[[], None]) -> None:
        action()


class ThreadRunner:
    """Starts each job in a thread of its own; made in the main thread."""

    def __init__(self) -> None:
        # The threads that zarr reads and writes by are shared by the whole process, and begin
        # with their first use: where that is a job's, the window would wait for them for ever.
        zarr.group({})
        self._workers: weakref.WeakSet[JobWorker] = weakref.WeakSet()
        self._main = _MainThread()

    def start(self, title: str, job: Job[Any], listener: Listener) -> Driver:
        """Drive `job`; while it runs, the window asks before it closes."""
        worker: JobWorker = create_worker(
            _Title(title), job, listener, _worker_class=JobWorker, _ignore_errors=True
        )
        self._workers.add(worker)
        worker.start()
        return worker

    def hand_over(self, action: Callable[[], None]) -> None:
        """Let the main thread do something in its next turn."""
        self._main.handed.emit(action)

    def close(self) -> None:
        """Close every running job, and wait until each has saved and left."""
        running = [worker for worker in self._workers if worker.is_alive]
        for worker in running:
            worker.quit()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for worker in running:
            worker.wait(max(deadline - time.monotonic(), 0))
