"""How a training ended, in words."""

from __future__ import annotations

from pathlib import Path

from tiny_project import NOW

from napari_protoseg.jobs.train import TrainedRound
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.workbench.training_outcome import outcome_of


def stopped_at_once(project: Project) -> TrainedRound:
    begun = project.new_round(1, "{}", created=NOW)
    project.update_round(begun.id, RoundStatus.STOPPED, finished=NOW)
    return TrainedRound(begun, begun.folder / "last.safetensors", False, None, 0)


def test_a_round_that_was_stopped_at_once_says_which_model_there_is(trained: Path):
    with Project.open(trained / "project") as project:
        assert outcome_of(project, stopped_at_once(project)) == (
            "Round 2 was stopped before its first epoch had ended; it can go on. Until then the "
            "model is that of round 1."
        )


def test_the_only_round_is_kept_as_it_is(banked: Path):
    with Project.open(banked / "project") as project:
        assert outcome_of(project, stopped_at_once(project)) == (
            "Round 1 was stopped; its best state is kept."
        )
