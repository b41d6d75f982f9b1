"""Drives a job to its end, as a terminal or a window does."""

from __future__ import annotations

from collections.abc import Callable

from napari_protoseg.events import Event, Job, Request, Result


def finish(
    job: Job[Result], answer: Callable[[Event], Request | None] = lambda event: None
) -> tuple[Result, list[Event]]:
    """Run a job to its end, and return its result and what it said."""
    events: list[Event] = []
    reply = None
    try:
        while True:
            events.append(job.send(reply))
            reply = answer(events[-1])
    except StopIteration as end:
        return end.value, events


def stop_after(number: int) -> Callable[[Event], Request | None]:
    """Answer the event with this number, counted from 1, with a request to stop."""
    seen = iter(range(1, 1000))
    return lambda event: Request.STOP if next(seen) == number else None
