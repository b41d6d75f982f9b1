"""How a training ended, in words, and what comes next."""

from __future__ import annotations

from napari_protoseg.jobs.models import newest_trained_round
from napari_protoseg.jobs.train import TrainedRound
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Stage

_NEXT = {
    Stage.PROTOTYPES: "Next: look at its masks on Review.",
    Stage.SEGMENTATION: "It segments without labels: make masks with it on a terminal.",
}


def outcome_of(project: Project, ended: TrainedRound) -> str:
    """Say whether a round is trained or was stopped, and what that has left."""
    number, stage = ended.round.id, ended.round.stage
    if ended.finished:
        return f"Round {number} is trained{_figure(ended)}. {_NEXT[stage]}"
    at_hand = newest_trained_round(project, stage)
    if at_hand is not None and at_hand.id != number:
        return (
            f"Round {number} was stopped before its first epoch had ended; it can go on. Until "
            f"then the model is that of round {at_hand.id}."
        )
    return f"Round {number} was stopped; its best state is kept{_figure(ended)}."


def _figure(ended: TrainedRound) -> str:
    """Say what was measured of a round, to be added to a sentence."""
    if ended.score is None:
        return ""
    return f": mIoU {ended.score:.3f} on {ended.masked} images with masks"
