"""The turns of Qt's event loop, and how long it waits between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEventLoop, Qt, QTimer

_TURN = 5
"""Milliseconds from one turn to the next where nothing else is to be done."""


@dataclass(frozen=True)
class Waits:
    """Quantiles of how long something took, in milliseconds."""

    median: float
    p99: float
    p999: float
    longest: float

    @classmethod
    def of(cls, turns: Sequence[float]) -> Waits:
        """Take the quantiles of the times between `turns`, in seconds from any start."""
        return cls.of_lengths(np.diff(turns))

    @classmethod
    def of_lengths(cls, seconds: Sequence[float] | NDArray[np.float64]) -> Waits:
        """Take the quantiles of lengths in seconds."""
        return cls(*(float(q) * 1000 for q in np.percentile(seconds, (50, 99, 99.9, 100))))

    def __str__(self) -> str:
        return f"{self.median:8.1f} {self.p99:8.1f} {self.p999:8.1f} {self.longest:8.1f}"


def turns_until(is_over: Callable[[float], bool]) -> list[float]:
    """Run the event loop, and return when it turned, in seconds from any start.

    Parameters
    ----------
    is_over
        Asked at each turn with the seconds since the start; may do something, too.
    """
    loop, timer = QEventLoop(), QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    turns = [time.perf_counter()]

    def turn() -> None:
        turns.append(time.perf_counter())
        if is_over(turns[-1] - turns[0]):
            timer.stop()
            loop.quit()

    timer.timeout.connect(turn)
    timer.start(_TURN)
    loop.exec()
    return turns


def wait_until(condition: Callable[[], bool]) -> None:
    """Run the event loop until `condition` holds."""
    turns_until(lambda _: condition())
