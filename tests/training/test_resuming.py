"""A training that was stopped, closed or killed anywhere goes on as if it had not been."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
import torch.nn.functional as F  # noqa: N812
from driven_jobs import finish, stop_after
from tiny_training import CONFIG, FORMS, STEPS, inputs, same, trained
from torch import Tensor

from napari_protoseg.errors import CheckpointError, ImageError
from napari_protoseg.events import Notice, Progress
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.fingerprint import DataFingerprint
from napari_protoseg.training.loop import BEST, LAST, TrainingResult, train_network


# What is averaged competes, too.
@pytest.fixture(
    scope="module",
    params=[
        "averaged",
        *(pytest.param(form, marks=pytest.mark.slow) for form in ("mean maps", "competing")),
    ],
)
def config(request: pytest.FixtureRequest) -> TrainingConfig:
    return FORMS[request.param]


@pytest.fixture(scope="module")
def uninterrupted(
    config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    """Weights of the training that nothing happens to."""
    return trained(tmp_path_factory.mktemp("uninterrupted"), config)


EPOCH = [*[StepFinished] * 3, *[Progress] * 2, EpochFinished]
"""Three steps, two batches of held-out images, and the end."""


def before_steps(config: TrainingConfig) -> int:
    """Return how many events come before the first step: a notice, and batches to centre on."""
    return 1 + 3 * config.competing


def resumed(folder: Path, config: TrainingConfig) -> tuple[dict[str, Tensor], TrainingResult]:
    """Take the training in `folder` up in a model with other weights, and end it."""
    torch.manual_seed(99)
    given = inputs(folder, config)
    fresh = given.model
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(torch.randn_like(parameter))
    result, _ = finish(train_network(given, config, resume=True))
    return fresh.state_dict(), result


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    assert same(trained(tmp_path / "again", config), uninterrupted)
    other = config.model_copy(update={"seed": 4})
    assert not same(trained(tmp_path / "other", other), uninterrupted)


def test_training_says_where_it_computes_each_step_and_each_epoch(
    tmp_path: Path, config: TrainingConfig
):
    result, events = finish(train_network(inputs(tmp_path, config), config))
    kinds = [type(event) for event in events]
    assert kinds == [Notice, *[Progress] * (before_steps(config) - 1), *EPOCH, *EPOCH]
    steps = [event for event in events if isinstance(event, StepFinished)]
    assert [event.step for event in steps] == list(range(1, STEPS + 1))
    assert {event.steps for event in steps} == {STEPS}
    assert all(event.pairs + event.skipped > 0 for event in steps)
    assert result.finished
    assert [event.epoch for event in result.history] == [0, 1]
    ends = [event for event in events if isinstance(event, EpochFinished)]
    assert result.history == tuple(ends)
    means = [sum(s.loss for s in steps if s.epoch == e) / 3 for e in (0, 1)]
    assert [event.loss for event in ends] == pytest.approx(means)


def test_a_training_stopped_at_any_event_resumes_to_the_same_weights(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    first_end = before_steps(config) + len(EPOCH)
    for event in range(1, first_end + len(EPOCH) + 1):
        folder = tmp_path / str(event)
        first, events = finish(train_network(inputs(folder, config), config), stop_after(event))
        assert len(events) == event, "it stops at once"
        assert first.finished is False
        assert first.checkpoint.name == (LAST if event < first_end else BEST)
        weights, second = resumed(folder, config)
        assert same(weights, uninterrupted), event
        assert second.finished
        assert len(second.history) == 2
        assert same(Checkpoint(folder / "round" / LAST).restore().state_dict(), uninterrupted)


def test_a_training_stopped_many_times_gives_the_same_weights(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path, config)
    result, _ = finish(train_network(given, config), stop_after(5))
    stops = 0
    while not result.finished:
        given = inputs(tmp_path, config)
        result, _ = finish(train_network(given, config, resume=True), stop_after(5))
        stops += 1
    assert stops >= 2
    assert same(given.model.state_dict(), uninterrupted)


class Forgetful(PrototypeNetwork):
    """A network that draws random numbers while it trains."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward(F.dropout(images, 0.3, self.training))


@pytest.mark.parametrize("event", [2, 4, 7])
def test_random_numbers_go_on_where_they_were(tmp_path: Path, config: TrainingConfig, event: int):
    whole = trained(tmp_path / "whole", config, kind=Forgetful)
    first = inputs(tmp_path / "cut", config, kind=Forgetful)
    finish(train_network(first, config), stop_after(before_steps(config) + event))
    torch.rand(7)
    second = inputs(tmp_path / "cut", config, kind=Forgetful)
    finish(train_network(second, config, resume=True))
    assert same(second.model.state_dict(), whole)


@pytest.mark.parametrize(
    ("event", "stands"),
    [(-1, (0, 0)), (0, (0, 0)), (2, (0, 2)), (4, (0, 3)), (6, (1, 0)), (8, (1, 2))],
)
def test_a_job_that_is_closed_has_saved(
    tmp_path: Path,
    config: TrainingConfig,
    uninterrupted: dict[str, Tensor],
    event: int,
    stands: tuple[int, int],
):
    job = train_network(inputs(tmp_path, config), config)
    for _ in range(max(before_steps(config) + event, 1)):
        next(job)
    job.close()
    state = Checkpoint(tmp_path / "round" / LAST).state
    assert state is not None
    assert (state.epoch, state.batch) == stands
    assert same(resumed(tmp_path, config)[0], uninterrupted)


def test_a_killed_process_resumes_to_the_same_weights(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    form = next(name for name, form in FORMS.items() if form == config)
    child = subprocess.Popen(
        [sys.executable, tiny_training.__file__, str(tmp_path), form],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "4":
            child.kill()
            break
    child.wait()
    child.stdout.close()
    state = Checkpoint(tmp_path / "round" / LAST).state
    assert state is not None, "it had saved at every step"
    assert (0, 2) <= (state.epoch, state.batch) < (2, 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the child: sums over threads round otherwise
    try:
        assert same(resumed(tmp_path, config)[0], trained(tmp_path / "whole", config))
    finally:
        torch.set_num_threads(threads)


def test_a_checkpoint_is_written_when_its_time_has_come(tmp_path: Path, config: TrainingConfig):
    now = 0.0
    given = inputs(tmp_path, config, clock=lambda: now, checkpoint_seconds=60.0)
    last = tmp_path / "round" / LAST
    job = train_network(given, config)
    for _ in range(before_steps(config) + 2):
        next(job)
    assert not last.exists()
    now = 61.0
    next(job)
    assert last.exists(), "before the third step"
    before = last.stat().st_mtime_ns, last.stat().st_ino
    for _ in range(3):
        next(job)
    assert (last.stat().st_mtime_ns, last.stat().st_ino) != before, "at the end of the epoch"
    job.close()


def test_a_finished_training_resumes_to_nothing_more(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    trained(tmp_path, config)
    result, events = finish(train_network(inputs(tmp_path, config), config, resume=True))
    assert result.finished
    assert [type(event) for event in events] == [Notice]


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"seed": 4}, {"matching_weight": 0.2}, {"batch_size": 3}]
)
def test_another_configuration_does_not_resume(
    tmp_path: Path, config: TrainingConfig, change: dict[str, float]
):
    finish(train_network(inputs(tmp_path, config), config), stop_after(2))
    before = (tmp_path / "round" / LAST).read_bytes()
    with pytest.raises(CheckpointError, match="another configuration"):
        finish(
            train_network(inputs(tmp_path, config), config.model_copy(update=change), resume=True)
        )
    assert (tmp_path / "round" / LAST).read_bytes() == before


def test_another_bank_does_not_resume(tmp_path: Path, config: TrainingConfig):
    finish(train_network(inputs(tmp_path, config), config), stop_after(2))
    given = inputs(tmp_path, config)
    edited = replace(given, record=given.record.model_copy(update={"bank": "edited"}))
    with pytest.raises(CheckpointError, match="bank"):
        finish(train_network(edited, config, resume=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": [("a", (1, 0)), ("c", (0, 1))]}, "images to train on"),
        ({"images": [("b", (0, 1)), ("a", (1, 0))]}, "images to train on"),
        ({"images": [("a", (1, 0)), ("b", (-1, 1))]}, "labels"),
        ({"held_out": [("d", (1, 0))]}, "held-out images"),
        ({"masked": ["d"]}, "images with masks"),
    ],
)
def test_other_data_does_not_resume(tmp_path: Path, change: dict[str, Any], named: str):
    data: dict[str, Any] = {
        "images": [("a", (1, 0)), ("b", (0, 1))],
        "held_out": [("d", (1, 1))],
        "masked": [],
    }
    begun = DataFingerprint.of(**data)
    finish(train_network(inputs(tmp_path, data=begun), CONFIG), stop_after(2))
    before = (tmp_path / "round" / LAST).read_bytes()
    other = inputs(tmp_path, data=DataFingerprint.of(**data | change))
    with pytest.raises(CheckpointError, match=f"since is the.* {named}") as caught:
        finish(train_network(other, CONFIG, resume=True))
    assert "train anew" in caught.value.remedy
    assert (tmp_path / "round" / LAST).read_bytes() == before
    result, _ = finish(train_network(inputs(tmp_path, data=begun), CONFIG, resume=True))
    assert result.finished


def test_a_checkpoint_that_does_not_say_what_it_was_begun_on_resumes(tmp_path: Path):
    finish(train_network(inputs(tmp_path), CONFIG), stop_after(2))
    now = DataFingerprint.of([("a", (1, 0))], [], [])
    result, _ = finish(train_network(inputs(tmp_path, data=now), CONFIG, resume=True))
    assert result.finished


def test_resuming_needs_a_training_that_has_begun(tmp_path: Path, config: TrainingConfig):
    with pytest.raises(CheckpointError, match="no training to resume"):
        finish(train_network(inputs(tmp_path, config), config, resume=True))


def test_the_best_model_alone_does_not_resume(tmp_path: Path, config: TrainingConfig):
    trained(tmp_path, config)
    (tmp_path / "round" / BEST).replace(tmp_path / "round" / LAST)
    with pytest.raises(CheckpointError):
        finish(train_network(inputs(tmp_path, config), config, resume=True))


def test_an_image_that_vanishes_is_named_and_training_resumes_once_it_is_back(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path, config)
    victim = given.images[4].path
    content = victim.read_bytes()
    job = train_network(given, config)
    for _ in range(before_steps(config) + len(EPOCH)):
        next(job)
    victim.unlink()
    with pytest.raises(ImageError, match=victim.name):
        finish(job)
    with pytest.raises(ImageError, match=victim.name):
        resumed(tmp_path, config)
    victim.write_bytes(content)
    assert same(resumed(tmp_path, config)[0], uninterrupted)


def test_a_held_out_image_that_vanishes_leaves_a_training_that_resumes(
    tmp_path: Path, config: TrainingConfig, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path, config)
    victim = given.held_out[0].path
    content = victim.read_bytes()
    job = train_network(given, config)
    for _ in range(before_steps(config) + 3):
        next(job)
    victim.unlink()
    with pytest.raises(ImageError, match=victim.name):
        next(job)
    victim.write_bytes(content)
    assert same(resumed(tmp_path, config)[0], uninterrupted)
