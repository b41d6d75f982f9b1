"""Runners that need no Qt: a job driven at once, or step by step when told."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from napari_protoseg.events import Job, Request
from napari_protoseg.workbench.tasks import Driver, Listener


class SteppedJob:
    """A job that goes on by `step`, unless it is paused."""

    def __init__(self, job: Job[Any], listener: Listener) -> None:
        self._job, self._listener = job, listener
        self._answer: Request | None = None
        self.paused = False
        self.over = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def stop(self) -> None:
        self._answer = Request.STOP
        self.paused = False

    def step(self) -> None:
        """Ask for one event, and tell the listener."""
        try:
            event = self._job.send(self._answer)
        except StopIteration as end:
            self.over = True
            self._listener.ended(end.value)
        except Exception as error:  # noqa: BLE001 (as a thread would)
            self.over = True
            self._listener.failed(error)
        else:
            self._listener.happened(event)

    def finish(self) -> None:
        """Step until the job is over."""
        while not self.over:
            self.step()


class StepRunner:
    """Keeps started jobs in `jobs`, for the test to step through."""

    def __init__(self) -> None:
        self.jobs: list[SteppedJob] = []
        self._handed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def start(self, title: str, job: Job[Any], listener: Listener) -> Driver:
        self.jobs.append(SteppedJob(job, listener))
        return self.jobs[-1]

    def finish(self) -> None:
        """Bring all jobs to their end, also those that were started meanwhile."""
        while waiting := [job for job in self.jobs if not job.over]:
            for job in waiting:
                job.finish()

    def hand_over(self, action: Callable[[], None]) -> None:
        self._handed.put(action)

    def turn(self) -> None:
        """Do what other threads have handed over, as the main thread does in its next turn."""
        while not self._handed.empty():
            self._handed.get()()

    def close(self) -> None:
        for job in self.jobs:
            job.stop()
        self.finish()


class InlineRunner(StepRunner):
    """Drives each job to its end at once."""

    def start(self, title: str, job: Job[Any], listener: Listener) -> Driver:
        driver = super().start(title, job, listener)
        assert isinstance(driver, SteppedJob)
        driver.finish()
        return driver
