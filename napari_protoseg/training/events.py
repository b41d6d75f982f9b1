"""What training says while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from napari_protoseg.events import Event, Progress


@dataclass(frozen=True)
class StepFinished(Event):
    """One optimiser step.

    Parameters
    ----------
    step, steps
        Steps taken in all epochs so far, and in all.
    epoch
        Number of the epoch, from 0.
    loss, classification, matching
        Of the step's batch; where pixels are trained on, `classification` is of all of them.
    pairs, skipped
        Pairs that took part in matching, and that could not.
    accuracy
        Share of known image-level labels of the batch predicted right before the step, 0..1; None
        where that is not looked at, or none is known.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    classification: float
    matching: float
    pairs: int
    skipped: int
    accuracy: float | None = None

    @property
    def progress(self) -> Progress:
        """How many of the steps are taken."""
        return Progress("Training", self.step, self.steps)


@dataclass(frozen=True)
class EpochFinished(Event):
    """One pass over the training images.

    Parameters
    ----------
    epoch, epochs
        Number of the epoch, from 0, and how many there are.
    loss
        Mean over its steps.
    held_out_loss
        On the held-out cases: of image-level labels, or of pixels where these are trained on;
        None where there are none.
    held_out_accuracy
        Share of known image-level labels predicted right there, 0..1; None where there are none,
        or pixels are trained on.
    score
        mIoU on the validation masks; None where there are none.
    best
        Whether this is the best epoch so far.
    """

    epoch: int
    epochs: int
    loss: float
    held_out_loss: float | None
    held_out_accuracy: float | None
    score: float | None
    best: bool
