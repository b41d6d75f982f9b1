"""What a job says while it runs, and what may be asked of it: no Qt, no terminal.

A job is a generator. It yields events, and its caller may answer any of them with
`Request.STOP`; the job then ends in order, keeping what is worth keeping, and returns.
Not asking for the next event pauses it. Closing it (`GeneratorExit`) saves and leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar


class Request(Enum):
    """What the caller of a job may send in answer to an event."""

    STOP = "stop"


@dataclass(frozen=True)
class Event:
    """Base of everything that a job yields."""

    @property
    def progress(self) -> Progress | None:
        """How far the job has come, where this event says so."""
        return None


@dataclass(frozen=True)
class Progress(Event):
    """How far a named stage of a job has come.

    Parameters
    ----------
    stage
        What is being done, in words for a person ("Embedding images").
    done, total
        Steps finished and steps in all; ``0 <= done <= total``.
    """

    stage: str
    done: int
    total: int

    @property
    def progress(self) -> Progress:
        """The event itself."""
        return self


class Severity(Enum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True)
class Notice(Event):
    """A sentence that a person should see.

    Parameters
    ----------
    text, severity
        The sentence, and how much it matters.
    on_terminal
        What to type on a terminal to do what it asks for.
    """

    text: str
    severity: Severity = Severity.INFO
    on_terminal: str | None = None


Result = TypeVar("Result")
Job = Generator[Event, Request | None, Result]


def finish(job: Job[Result], show: Callable[[Event], None] | None = None) -> Result:
    """Run a job to its end, and return its result.

    Parameters
    ----------
    job
        Not started yet.
    show
        Called with every event.
    """
    while True:
        try:
            event = next(job)
        except StopIteration as end:
            result: Result = end.value
            return result
        if show is not None:
            show(event)
