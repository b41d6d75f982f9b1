"""What a running training has said so far, as curves and as the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from napari_protoseg.events import Event
from napari_protoseg.jobs.estimate import TimedStep, time_left
from napari_protoseg.training.events import EpochFinished, StepFinished

_MEMORY = 0.9
"""Share of the smoothed loss that each step keeps of the one before."""


@dataclass(frozen=True)
class Curve:
    """Points of one line.

    Parameters
    ----------
    name
        In words, for a legend.
    x, y
        As many of each.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class TrainingCurves:
    """Collects the steps and epochs of one training; a pause takes no time here.

    Parameters
    ----------
    clock
        Seconds from any start.
    earlier
        Epochs of a training that goes on.
    """

    def __init__(self, clock: Callable[[], float], earlier: Sequence[EpochFinished] = ()) -> None:
        self.steps: list[StepFinished] = []
        self.epochs: list[EpochFinished] = list(earlier)
        self._clock = clock
        self._begun = clock()
        self._timed: list[TimedStep] = []
        self._smoothed: list[float] = []
        self._paused_at: float | None = None
        self._paused = 0.0

    def hear(self, event: Event) -> bool:
        """Take an event of the training; return whether there is anything new to draw."""
        if isinstance(event, StepFinished):
            self.steps.append(event)
            self._timed.append((self._clock() - self._paused, event))
            before = self._smoothed[-1] if self._smoothed else event.loss
            self._smoothed.append(_MEMORY * before + (1 - _MEMORY) * event.loss)
        elif isinstance(event, EpochFinished):
            self.epochs.append(event)
        else:
            return False
        return True

    def pause(self) -> None:
        """Stop the watch; a second time is nothing."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def go_on(self) -> None:
        """Let the watch go on, where it stands."""
        if self._paused_at is not None:
            self._paused += self._clock() - self._paused_at
            self._paused_at = None

    def seconds(self) -> float:
        """Return how long the training has taken so far, without pauses."""
        now = self._clock() if self._paused_at is None else self._paused_at
        return now - self._begun - self._paused

    def time_left(self) -> float | None:
        """Return the seconds that the training will still take; None while that is not known."""
        return time_left(self._timed)

    def losses(self) -> tuple[Curve, ...]:
        """Return the loss of each step, and the same smoothed."""
        steps = tuple(float(event.step) for event in self.steps)
        plain = tuple(event.loss for event in self.steps)
        return (
            Curve("loss of each step", steps, plain),
            Curve("smoothed loss", steps, tuple(self._smoothed)),
        )

    def scores(self) -> tuple[Curve, ...]:
        """Return what each epoch measured of the network, 0..1; a measure without values not.

        Where steps tell how many labels are right, the epoch under way has its mean so far.
        """
        measures: tuple[tuple[str, Callable[[EpochFinished], float | None]], ...] = (
            ("accuracy on held-out images", lambda epoch: epoch.held_out_accuracy),
            ("mIoU on masks", lambda epoch: epoch.score),
        )
        curves = []
        for name, of in measures:
            points = [(e.epoch + 1.0, value) for e in self.epochs if (value := of(e)) is not None]
            if points:
                x, y = zip(*points, strict=True)
                curves.append(Curve(name, x, y))
        of_epoch: dict[int, list[float]] = {}
        for step in self.steps:
            if step.accuracy is not None:
                of_epoch.setdefault(step.epoch, []).append(step.accuracy)
        if of_epoch:
            x = tuple(epoch + 1.0 for epoch in of_epoch)
            y = tuple(fmean(values) for values in of_epoch.values())
            curves.append(Curve("accuracy on images trained on", x, y))
        return tuple(curves)
