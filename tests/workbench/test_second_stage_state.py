"""The second stage on the page of training, without Qt: what it takes, and how it is stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_runner import StepRunner

from napari_protoseg.errors import TrainingError
from napari_protoseg.jobs.segment import SegmentRequest
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.project.records import RoundStatus, Stage
from napari_protoseg.training.config import SECOND_STAGE
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.pixels import PixelConfig
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.training_page import TrainingState

SHORT = SegmentRequest(
    config=SECOND_STAGE.model_copy(update={"epochs": 1, "batch_size": 8}),
    pixels=PixelConfig(decoder=Decoder.SEGFORMER),
)


@pytest.fixture
def runner() -> StepRunner:
    return StepRunner()


@pytest.fixture
def training(
    runner: StepRunner, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[TrainingState]:
    workspace = request.getfixturevalue(getattr(request, "param", "trained_workspace"))
    session = Session(runner, lambda: Settings(device="cpu"))
    training = TrainingState(session)
    assert training.second.needs() == "Open a project first."
    session.open(Path(shutil.copytree(workspace, tmp_path / "workspace")) / "project")
    yield training
    session.close()


@pytest.mark.parametrize("training", ["banked_workspace"], indirect=True)
def test_it_says_that_the_first_stage_comes_first(training: TrainingState, runner: StepRunner):
    assert training.needs() is None
    assert training.second.needs() == (
        "Train on the labels first: it learns from the masks of that model."
    )
    with pytest.raises(TrainingError, match="Train on the labels first"):
        training.second.train()
    assert runner.jobs == []


def test_it_is_trained_with_curves_and_leaves_the_first_stage_as_it_is(
    training: TrainingState, runner: StepRunner
):
    assert training.second.needs() is None
    assert training.second.resume_needs() == "No training of a segmentation network was stopped."
    training.second.set_options(SHORT)
    training.second.train()
    assert training.is_training
    assert training.second.needs() == "Train is under way; wait for it, or stop it."
    runner.finish()
    assert len(training.steps) == 2
    assert len(training.epochs) == 1
    assert "segments without labels" in training.outcome
    project = training.session.require_project()
    ended = project.latest_round(stage=Stage.SEGMENTATION)
    assert ended is not None
    assert ended.status is RoundStatus.FINISHED
    assert SegmentRequest.model_validate_json(ended.config_json).pixels == SHORT.pixels
    assert training.unfinished is None
    assert training.second.unfinished is None
    assert training.second.needs() is None


def test_stopped_it_can_go_on_and_so_can_nothing_else(training: TrainingState, runner: StepRunner):
    training.second.set_options(SHORT)
    training.second.train()
    while not training.steps:
        runner.jobs[-1].step()
    assert isinstance(training.steps[-1], StepFinished)
    assert training.session.task is not None
    training.session.task.stop()
    runner.finish()
    assert "was stopped" in training.outcome
    assert training.second.unfinished is not None
    assert training.unfinished is None, "that of the first stage has ended"
    assert training.second.resume_needs() is None
    training.second.resume()
    runner.finish()
    assert "segments without labels" in training.outcome
    assert training.second.unfinished is None


def test_wrong_options_are_said_and_train_nothing(training: TrainingState):
    training.second.set_options(SHORT, "Epochs: not a number.")
    assert training.second.needs() == "Epochs: not a number."
    with pytest.raises(TrainingError, match="not a number"):
        training.second.train()
