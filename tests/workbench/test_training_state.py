"""The page of training without Qt: what it asks for, what it keeps, how it goes on after errors."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from inline_runner import InlineRunner, StepRunner
from tiny_backbone import TINY, tiny_weights
from tiny_project import build, make_project, write_training_tiles

from napari_protoseg.cli import commands
from napari_protoseg.errors import StorageError, TrainingError
from napari_protoseg.events import Event
from napari_protoseg.jobs.estimate import Estimate
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.previews import EpochPreview
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.training.config import PRESETS, Matching, Preset, TrainingConfig
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.tasks import Problem
from napari_protoseg.workbench.training_page import TrainingState


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("made")
    write_training_tiles(workspace / "tiles")
    make_project(workspace)
    return workspace


@pytest.fixture(scope="module")
def banked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("banked") / "workspace"
    shutil.copytree(made, workspace)
    build(workspace)
    return workspace


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TrainRequest:
    """Two epochs of two steps each, of a small network, with held-out images."""
    weights = tiny_weights(tmp_path_factory.mktemp("weights"))
    config = TrainingConfig(
        backbone=TINY, epochs=2, batch_size=6, held_out=0.3, matching=Matching.NONE
    )
    return TrainRequest(config=config, backbone_weights=weights)


@pytest.fixture
def runner() -> StepRunner:
    return StepRunner()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def training(
    runner: StepRunner, clock: Clock, banked: Path, tmp_path: Path
) -> Iterator[TrainingState]:
    session = Session(runner, lambda: Settings(device="cpu"))
    training = TrainingState(session, clock)
    training.choose(Preset.QUICK)
    session.open(copied(banked, tmp_path))
    yield training
    session.close()


def copied(workspace: Path, folder: Path) -> Path:
    """Copy a workspace with its tiles, and return its project."""
    return Path(shutil.copytree(workspace, folder / "workspace")) / "project"


def step(number: int, epoch: int = 0) -> StepFinished:
    return StepFinished(number, 20, epoch, 1 / number, 0.5, 0.0, 1, 0)


def step_until(runner: StepRunner, session: Session, kind: type[Event]) -> None:
    """Step the running job until it has said an event of a kind."""
    heard: list[Event] = []
    listen = heard.append
    session.progressed.connect(listen)
    while not any(isinstance(event, kind) for event in heard):
        assert not runner.jobs[-1].over, "it has ended before"
        runner.jobs[-1].step()
    session.progressed.disconnect(listen)


def test_the_window_trains_like_the_terminal_unless_told_otherwise():
    training = TrainingState(Session(StepRunner()))
    of_terminal = inspect.signature(commands.train).parameters["preset"].default
    assert training.request == TrainRequest(preset=of_terminal)
    assert training.preset is Preset.STANDARD


def test_what_is_needed_is_said_one_after_the_other(made: Path, tmp_path: Path):
    runner = StepRunner()
    session = Session(runner)
    training = TrainingState(session)
    assert training.needs() == "Open a project first."
    session.open(copied(made, tmp_path))
    assert training.needs() == "Build a prototype bank first."
    with pytest.raises(TrainingError, match="Build a prototype bank first"):
        training.train()
    assert runner.jobs == []
    session.close()


def test_a_bank_that_was_there_or_is_built_lets_it_train(
    training: TrainingState, runner: StepRunner
):
    assert training.needs() is None
    assert training.resume_needs() == "No training has been stopped."
    training.train()
    assert training.needs() == "Train is under way; wait for it, or stop it."
    assert training.is_training
    runner.finish()
    assert training.needs() is None


def test_what_is_needed_is_said_without_reading_the_project(
    training: TrainingState, monkeypatch: pytest.MonkeyPatch
):
    def read(*args: object) -> None:
        raise AssertionError("it is asked on each redraw")

    project = training.session.require_project()
    for name in ("latest_bank", "latest_round", "images"):
        monkeypatch.setattr(type(project), name, read)
    assert training.needs() is None
    assert training.resume_needs() is not None


def test_a_preset_that_lacks_something_says_what(training: TrainingState):
    training.choose(Preset.PAPER)
    reason = training.needs()
    assert reason is not None
    assert "a bank of the encoder swin_tiny_patch4_window7_224" in reason
    training.choose(Preset.QUICK)
    assert training.needs() is None


def test_a_preset_brings_its_options_and_those_filled_in_are_trained(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    assert not training.has_options
    training.choose(Preset.STANDARD)
    assert training.has_options
    assert training.request.config == PRESETS[Preset.STANDARD]
    training.set_options(small, "Epochs: not a number.")
    assert training.needs() == "Epochs: not a number."
    training.set_options(small)
    training.train()
    runner.finish()
    ended = training.session.require_project().latest_round()
    assert ended is not None
    assert ended.status is RoundStatus.FINISHED
    kept = TrainRequest.model_validate_json(ended.config_json)
    assert kept.config == small.config
    assert [event.step for event in training.steps] == [1, 2, 3, 4]
    assert [event.epoch for event in training.epochs] == [0, 1]


def test_steps_and_epochs_become_curves(training: TrainingState, runner: StepRunner, small):
    training.set_options(small)
    training.train()
    runner.finish()
    each, smoothed = training.curves.losses()
    assert each.x == smoothed.x == (1, 2, 3, 4)
    assert each.y == tuple(event.loss for event in training.steps)
    assert smoothed.y[0] == each.y[0]
    assert max(smoothed.y) - min(smoothed.y) < max(each.y) - min(each.y)
    (accuracy,) = training.curves.scores()
    assert accuracy.name == "accuracy on held-out images"
    assert accuracy.x == (1, 2)
    assert accuracy.y == tuple(event.held_out_accuracy for event in training.epochs)


def test_the_quick_preset_has_a_curve_and_a_time_left_as_well(
    training: TrainingState, runner: StepRunner, clock: Clock
):
    training.train()
    session = training.session
    for _ in range(3):
        step_until(runner, session, StepFinished)
        clock.time += 2
    assert training.curves.time_left() == pytest.approx(2.0 * (training.steps[0].steps - 3))
    assert training.time_left().endswith("left")
    runner.finish()
    each, _ = training.curves.losses()
    assert each.x == tuple(range(1, training.steps[0].steps + 1))
    assert each.y[-1] < each.y[0]
    (accuracy,) = training.curves.scores()
    assert accuracy.name == "accuracy on images trained on"
    assert accuracy.x == tuple(range(1, training.request.config.epochs + 1))
    assert accuracy.y[-1] > accuracy.y[0]


def test_the_open_image_is_shown_after_each_epoch(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    first, second = training.session.require_project().images()[:2]
    seen: list[Event] = []
    listen = seen.append
    training.session.progressed.connect(listen)
    training.set_options(small)
    training.session.show(first)
    training.train()
    step_until(runner, training.session, EpochPreview)
    training.session.show(second)
    runner.finish()
    previews = [event for event in seen if isinstance(event, EpochPreview)]
    assert [preview.image_id for preview in previews] == [first.id, second.id]


def test_the_time_left_follows_the_clock_and_a_pause_takes_none(
    training: TrainingState, clock: Clock, runner: StepRunner
):
    session = training.session
    assert training.time_left() == ""
    training.train()
    task = session.task
    assert task is not None
    for number in range(1, 4):
        clock.time += 15
        session.progressed.emit(step(number))
    assert training.time_left() == "About 4 minutes left"
    task.pause()
    clock.time += 10_000
    task.resume()
    clock.time += 15
    session.progressed.emit(step(4))
    assert training.curves.time_left() == pytest.approx(16 * 15)
    runner.finish()
    assert training.time_left() == ""


def test_features_take_no_more_of_the_disk_than_the_settings_allow(
    training: TrainingState, runner: StepRunner
):
    session = training.session
    cache = session.require_project().cache
    kept = []
    for gigabytes in (1.0, 1e-5):
        session.settings = lambda gigabytes=gigabytes: Settings("cpu", cache_gigabytes=gigabytes)
        shutil.rmtree(cache, ignore_errors=True)
        training.estimate()
        runner.finish()
        training.train()
        runner.finish()
        assert training.problem is None
        kept.append(sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()))
    plenty, little = kept
    assert plenty > 1e-5 * 2**30 >= little


def test_curves_tell_when_they_have_grown(training: TrainingState, runner: StepRunner):
    counted: list[int] = []

    def count() -> None:
        counted.append(len(training.steps))

    training.advanced.connect(count)
    training.session.progressed.emit(step(1))
    assert counted == [], "no training of this page"
    training.train()
    training.session.progressed.emit(step(1))
    assert counted == [1]
    runner.finish()


def test_a_training_that_fails_leaves_a_sentence_and_what_it_saved_to_go_on(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    session = training.session
    training.set_options(small)
    training.train()
    step_until(runner, session, EpochFinished)
    victim = session.require_project().images()[0].path
    aside = victim.rename(victim.with_suffix(".aside"))
    runner.finish()
    assert training.problem is not None
    assert victim.name in training.problem.sentence
    assert "Traceback" in training.problem.details
    assert training.needs() is None, "another can be trained"
    assert training.unfinished is not None
    assert training.unfinished.status is RoundStatus.FAILED
    aside.rename(victim)
    training.resume()
    assert training.problem is None
    assert [event.epoch for event in training.epochs] == [0], "what it had measured is shown again"
    runner.finish()
    assert [event.epoch for event in training.epochs] == [0, 1]
    assert training.unfinished is None


@pytest.mark.parametrize("verb", ["train", "resume", "estimate"])
def test_nothing_of_the_last_training_is_forgotten_for_a_task_that_cannot_start(
    training: TrainingState, runner: StepRunner, small: TrainRequest, verb: str
):
    def cannot_save() -> None:
        raise StorageError("the disk is full", where="mask", remedy="Make room.")

    training.set_options(small)
    training.train()
    step_until(runner, training.session, EpochFinished)
    assert training.session.task is not None
    training.session.task.stop()
    runner.finish()
    assert training.resume_needs() is None
    training.problem = Problem("An estimate has failed.", "")
    kept = training.outcome, training.problem, training.steps, training.epochs
    assert "was stopped" in training.outcome
    training.session.before_saving.append(cannot_save)
    with pytest.raises(StorageError, match="the disk is full"):
        getattr(training, verb)()
    assert (training.outcome, training.problem, training.steps, training.epochs) == kept
    assert len(runner.jobs) == 1
    training.session.before_saving.remove(cannot_save)


def test_one_that_fails_before_it_has_saved_anything_is_begun_anew(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    weights = Path("missing.safetensors")
    training.set_options(small.model_copy(update={"backbone_weights": weights}))
    training.train()
    runner.finish()
    assert training.problem is not None
    assert "missing.safetensors" in training.problem.sentence
    assert training.unfinished is None
    training.set_options(small)
    assert training.needs() is None
    training.train()
    assert training.problem is None
    runner.finish()
    assert training.problem is None


def test_a_stopped_round_goes_on_after_the_project_was_closed(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    session = training.session
    training.set_options(small)
    training.train()
    step_until(runner, session, EpochFinished)
    assert session.task is not None
    session.task.stop()
    runner.finish()
    folder = session.require_project().folder
    session.close_project()
    assert training.unfinished is None
    assert training.epochs == []
    session.open(folder)
    assert training.resume_needs() is None
    training.resume()
    runner.finish()
    ended = session.require_project().latest_round()
    assert ended is not None
    assert (ended.id, ended.status) == (1, RoundStatus.FINISHED)
    assert training.resume_needs() == "No training has been stopped."


def test_estimates_are_measured_for_the_presets_that_can_be_trained(
    banked: Path, tmp_path: Path, small: TrainRequest
):
    session = Session(InlineRunner(), lambda: Settings(device="cpu"))
    training = TrainingState(session)
    session.open(copied(banked, tmp_path))
    training.set_options(small)
    assert training.estimate_of(Preset.STANDARD) is None
    training.estimate()
    chosen, quick = training.estimate_of(Preset.STANDARD), training.estimate_of(Preset.QUICK)
    assert isinstance(chosen, Estimate)
    assert isinstance(quick, Estimate)
    assert chosen.steps == 4
    assert training.estimate_of(Preset.PAPER) is None, "it lacks weights"
    assert training.steps == [], "nothing was trained"
    session.model_changed.emit()
    assert training.estimate_of(Preset.QUICK) is None, "its features may be cached now"
    assert training.estimate_of(Preset.STANDARD) == chosen
    longer = small.config.model_copy(update={"epochs": 9})
    training.set_options(small.model_copy(update={"config": longer}))
    assert training.estimate_of(Preset.STANDARD) is None, "the options have changed"
    training.set_options(small)
    session.images_changed.emit()
    assert training.estimate_of(Preset.STANDARD) is None, "the images have changed"
    session.close()


def test_an_estimate_that_fails_says_why(
    training: TrainingState, runner: StepRunner, small: TrainRequest
):
    training.set_options(small)
    for image in training.session.require_project().images():
        image.path.unlink()
    training.estimate()
    runner.finish()
    assert training.problem is not None
    assert "Traceback" in training.problem.details
    assert training.unfinished is None
    assert training.needs() is None


def test_the_device_is_named_and_one_that_is_missing_is_a_sentence(training: TrainingState):
    assert training.device().startswith("CPU (")
    training.session.settings = lambda: replace(Settings(), device="cuda:63")
    assert "no such device on this machine" in training.device()
