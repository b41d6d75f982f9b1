"""A check sees whether the checkpoint of a finished round is of the training that its row tells."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from driven_jobs import finish

from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.check_report import CheckReport
from napari_protoseg.project.folder import Project
from napari_protoseg.training.checkpoint import Checkpoint, TrainingState, write_checkpoint


def checked(workspace: Path) -> CheckReport:
    with Project.open(workspace / "project") as project:
        return finish(check_project(project))[0]


def test_rounds_of_both_stages_that_have_finished_are_well(both_stages: Path) -> None:
    report = checked(both_stages)
    assert report.rounds == 2
    assert report.findings == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_last_checkpoint_with_fewer_epochs_than_its_round_has_finished_is_named(
    both_stages: Path, number: int
) -> None:
    _rewrite_last(both_stages, number, history=(), epoch=0)
    (found,) = checked(both_stages).problems
    assert found.where == f"round {number}"
    assert "last.safetensors is of another training" in found.what
    assert "it has measured 0 epochs, and the round 1" in found.what


def test_a_last_checkpoint_with_as_many_epochs_but_other_figures_is_named(
    both_stages: Path,
) -> None:
    (epoch,) = _last(both_stages, 1).history
    _rewrite_last(both_stages, 1, history=(replace(epoch, loss=epoch.loss + 1),))
    (found,) = checked(both_stages).problems
    assert found.where == "round 1"


def test_figures_of_a_round_that_cannot_be_read_are_named(both_stages: Path) -> None:
    database = both_stages / "project" / "project.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE rounds SET metrics = '{' WHERE id = 2")
    (found,) = checked(both_stages).problems
    assert (found.where, found.what) == ("round 2", "its figures cannot be read")


def _last(workspace: Path, number: int) -> TrainingState:
    path = workspace / "project" / "runs" / f"{number:04d}" / "last.safetensors"
    state = Checkpoint(path).state
    assert state is not None
    return state


def _rewrite_last(workspace: Path, number: int, **changes: object) -> None:
    """Write the last checkpoint of a round again, with a changed state of its training."""
    path = workspace / "project" / "runs" / f"{number:04d}" / "last.safetensors"
    state = _last(workspace, number).model_copy(update=changes)
    checkpoint = Checkpoint(path)
    write_checkpoint(path, checkpoint.record, checkpoint.restore(), state)
