"""Jobs in threads: events reach the main thread, and every end is told."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zarr

pytest.importorskip("napari")

from qtpy.QtCore import QThreadPool

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Event, Job, Progress, Request
from napari_protoseg.plugin.threads import ThreadRunner


class Heard:
    """Keeps what it hears, and on which thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[threading.Thread] = set()
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False

    def happened(self, event: Event) -> None:
        self.threads.add(threading.current_thread())
        self.events.append(event)

    def ended(self, result: Any) -> None:
        self.threads.add(threading.current_thread())
        self.result, self.over = result, True

    def failed(self, error: BaseException) -> None:
        self.threads.add(threading.current_thread())
        self.error, self.over = error, True


class Counting:
    """A job that counts up to a number, or for ever, and keeps how it was left."""

    def __init__(self, total: int = 10**9) -> None:
        self.total = total
        self.left = ""
        self.thread: threading.Thread | None = None
        self.reached = threading.Event()

    def job(self) -> Job[int]:
        self.thread = threading.current_thread()
        try:
            for number in range(1, self.total + 1):
                threading.Event().wait(0.001)
                self.reached.set()
                if (yield Progress("Counting", number, self.total)) is Request.STOP:
                    self.left = "stopped"
                    return number
        except GeneratorExit:
            self.left = "closed"
            raise
        return self.total


@pytest.fixture
def runner(qapp: Any) -> Iterator[ThreadRunner]:
    runner = ThreadRunner()
    yield runner
    runner.close()


def test_a_job_runs_beside_the_main_thread_and_is_heard_on_it(runner: ThreadRunner, qtbot: Any):
    counting, heard = Counting(5), Heard()
    runner.start("Count", counting.job(), heard)
    qtbot.waitUntil(lambda: heard.over)
    assert heard.result == 5
    assert [event.done for event in heard.events] == [1, 2, 3, 4, 5]
    assert heard.threads == {threading.main_thread()}
    assert counting.thread is not threading.main_thread()


@pytest.mark.parametrize(
    "error", [TrainingError("no", where="here", remedy="Try."), RuntimeError("torch"), ValueError()]
)
def test_no_error_passes_for_a_result(runner: ThreadRunner, qtbot: Any, error: Exception):
    def job() -> Job[int]:
        yield Progress("Trying", 0, 1)
        raise error

    heard = Heard()
    runner.start("Fail", job(), heard)
    qtbot.waitUntil(lambda: heard.over)
    assert heard.error is error
    assert heard.result is None


def test_a_stop_is_answered_by_the_job(runner: ThreadRunner, qtbot: Any):
    counting, heard = Counting(), Heard()
    driver = runner.start("Count", counting.job(), heard)
    qtbot.waitUntil(lambda: len(heard.events) > 2)
    driver.stop()
    qtbot.waitUntil(lambda: heard.over)
    assert counting.left == "stopped"
    assert heard.result >= 3


def test_a_paused_job_asks_for_nothing_until_it_is_resumed(runner: ThreadRunner, qtbot: Any):
    heard = Heard()
    driver = runner.start("Count", Counting().job(), heard)
    qtbot.waitUntil(lambda: len(heard.events) > 2)
    driver.pause()
    qtbot.wait(50)
    seen = len(heard.events)
    qtbot.wait(100)
    assert len(heard.events) == seen
    driver.resume()
    qtbot.waitUntil(lambda: len(heard.events) > seen)


def test_a_paused_job_can_be_stopped(runner: ThreadRunner, qtbot: Any):
    counting, heard = Counting(), Heard()
    driver = runner.start("Count", counting.job(), heard)
    driver.pause()
    driver.stop()
    qtbot.waitUntil(lambda: heard.over)
    assert counting.left == "stopped"


def test_closing_waits_until_the_job_has_left_in_its_own_thread(runner: ThreadRunner, qtbot: Any):
    counting = Counting()
    driver = runner.start("Count", counting.job(), Heard())
    qtbot.waitUntil(counting.reached.is_set)
    driver.pause()
    runner.close()
    assert counting.left == "closed"


def test_a_job_that_has_just_begun_is_left_when_all_is_closed(runner: ThreadRunner, qtbot: Any):
    counting = Counting()
    runner.start("Count", counting.job(), Heard())
    runner.close()
    qtbot.wait(50)
    assert counting.left in ("", "closed")
    assert not any(t is counting.thread and t.is_alive() for t in threading.enumerate()) or (
        counting.left == "closed"
    )


def test_a_listener_that_nobody_else_keeps_is_told(runner: ThreadRunner, qtbot: Any):
    told: list[Any] = []

    class Listening(Heard):
        def ended(self, result: Any) -> None:
            told.append(result)

    runner.start("Count", Counting(3).job(), Listening())
    qtbot.waitUntil(lambda: told == [3])


def test_who_has_heard_the_end_is_let_go_however_long_the_driver_is_kept(
    runner: ThreadRunner, qtbot: Any
):
    heard = Heard()
    left = weakref.ref(heard)
    driver = runner.start("Count", Counting(3).job(), heard)
    del heard
    qtbot.waitUntil(lambda: left() is None)
    driver.stop()  # from napari's list of tasks, where it still stands


def test_a_short_job_does_not_wait_for_a_long_one_however_few_cores_there_are(
    runner: ThreadRunner, qtbot: Any
):
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        long, short = Heard(), Heard()
        driver = runner.start("Train", Counting().job(), long)
        qtbot.waitUntil(lambda: len(long.events) > 2)
        runner.start("Open image", Counting(3).job(), short)
        qtbot.waitUntil(lambda: short.over)
        assert not long.over
        driver.stop()
        qtbot.waitUntil(lambda: long.over)
    finally:
        pool.setMaxThreadCount(before)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux")
def test_only_the_job_and_the_threads_that_it_starts_give_way(runner: ThreadRunner, qtbot: Any):
    def nice_now() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def job() -> Job[tuple[int, int]]:
        yield Progress("Computing", 0, 1)
        array = zarr.create_array({}, shape=(4,), dtype="uint8")  # starts what zarr shares
        array[:] = 1
        with ThreadPoolExecutor(1) as started:
            return nice_now(), started.submit(nice_now).result()

    heard = Heard()
    runner.start("Compute", job(), heard)
    qtbot.waitUntil(lambda: heard.over)
    at_window = nice_now()
    assert min(heard.result) > at_window
    qtbot.waitUntil(lambda: not any(t.name.startswith("Compute") for t in threading.enumerate()))
    alive = {t.native_id for t in threading.enumerate() if t.native_id is not None}
    assert {os.getpriority(os.PRIO_PROCESS, native) for native in alive} == {at_window}
