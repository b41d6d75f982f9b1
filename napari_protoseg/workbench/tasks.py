"""A job under way, as a page shows it, and whoever drives it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from psygnal import Signal, SignalInstance

from napari_protoseg.errors import ProtosegError, Stopped
from napari_protoseg.events import Event, Job, Progress


class TaskState(Enum):
    """How a task stands."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True)
class Problem:
    """Why something did not work.

    Parameters
    ----------
    sentence
        For a person: what, where, and what to do.
    details
        For a report: the traceback.
    """

    sentence: str
    details: str

    @classmethod
    def of(cls, error: BaseException) -> Problem:
        """Describe an error; one that is none of ours is called unexpected."""
        sentence = str(error)
        if not isinstance(error, ProtosegError):
            sentence = f"Unexpected: {type(error).__name__}: {error}"
        return cls(sentence, "".join(traceback.format_exception(error)))


class Listener(Protocol):
    """Who hears from a driven job, on the main thread."""

    def happened(self, event: Event) -> None:
        """Take an event that the job has yielded."""

    def ended(self, result: Any) -> None:
        """Take what the job has returned."""

    def failed(self, error: BaseException) -> None:
        """Take what the job has raised."""


class Driver(Protocol):
    """Drives one job somewhere."""

    def pause(self) -> None:
        """Ask for no more events for now."""

    def resume(self) -> None:
        """Go on asking for events."""

    def stop(self) -> None:
        """Answer the next event with `Request.STOP`."""


class Runner(Protocol):
    """Starts jobs: in threads under Qt."""

    def start(self, title: str, job: Job[Any], listener: Listener) -> Driver:
        """Drive `job`, and tell `listener` on the main thread."""

    def hand_over(self, action: Callable[[], None]) -> None:
        """Let the main thread do something soon; may be called in any thread."""

    def close(self) -> None:
        """Stop every job that still runs, and wait until each has saved and left."""


class Task:
    """A job under way.

    Parameters
    ----------
    title
        What is being done, in words for a person ("Build bank").
    done
        Called with the job's result.
    stores
        Signals of what the job may have stored before it fails.
    """

    changed = Signal()
    happened = Signal(object)

    def __init__(
        self, title: str, done: Callable[[Any], None], stores: Sequence[SignalInstance] = ()
    ) -> None:
        self.title = title
        self.stores = tuple(stores)
        self.state = TaskState.RUNNING
        self.progress: Progress | None = None
        self.problem: Problem | None = None
        self.was_stopped = False
        """Whether a person has asked it to stop."""
        self.last_words: str | None = None
        """What a person is told where a stop has left nothing to keep."""
        self._done = done
        self._driver: Driver | None = None

    @property
    def is_over(self) -> bool:
        """Whether the job has returned or failed."""
        return self.state is TaskState.ENDED

    def pause(self) -> None:
        """Pause after the step under way."""
        if self.state is TaskState.RUNNING and self._driver is not None:
            self._driver.pause()
            self._become(TaskState.PAUSED)

    def resume(self) -> None:
        """Go on."""
        if self.state is TaskState.PAUSED and self._driver is not None:
            self._driver.resume()
            self._become(TaskState.RUNNING)

    def stop(self) -> None:
        """End in order after the step under way, keeping what is worth keeping."""
        if self.state in (TaskState.RUNNING, TaskState.PAUSED) and self._driver is not None:
            self.was_stopped = True
            self._driver.stop()
            self._become(TaskState.STOPPING)

    def begun(self, driver: Driver) -> None:
        """Remember who drives the job, until it is over."""
        if not self.is_over:
            self._driver = driver

    def advance(self, event: Event) -> None:
        """Keep the progress, and pass every event on."""
        if event.progress is not None:
            self.progress = event.progress
        self.happened.emit(event)

    def end(self, problem: Problem | None = None, last_words: str | None = None) -> None:
        """Note that the job is over, why where it has failed, and what it says of a stop."""
        self.problem, self.last_words = problem, last_words
        self._driver = None
        self._become(TaskState.ENDED)

    def hand_over(self, result: Any) -> None:
        """Give the job's result to whoever waits for it."""
        self._done(result)

    def abandon(self) -> None:
        """Let the result go: whoever waited for it is gone."""
        self._done = _ignored

    def _become(self, state: TaskState) -> None:
        self.state = state
        self.changed.emit()


def _ignored(result: object) -> None:
    """Take a result that nobody wants any more."""


class TaskListener:
    """Brings what a driven job says into its `Task`.

    Parameters
    ----------
    task
        Which.
    over
        Called once, after the task has ended in whichever way and its result is handed over.
    handing
        Its context is entered while the result is handed over.
    """

    def __init__(
        self,
        task: Task,
        over: Callable[[Task], None],
        handing: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._task = task
        self._over = over
        self._handing = handing

    def happened(self, event: Event) -> None:
        """Pass an event on."""
        self._task.advance(event)

    def ended(self, result: Any) -> None:
        """End the task, then hand over the result."""
        self._task.end()
        try:
            with self._handing():
                self._task.hand_over(result)
        finally:
            self._over(self._task)

    def failed(self, error: BaseException) -> None:
        """End the task with a problem; that a person has stopped it is none."""
        if isinstance(error, Stopped):
            self._task.end(last_words=error.sentence)
        else:
            self._task.end(Problem.of(error))
        self._over(self._task)
