"""A training that was stopped, closed or killed anywhere goes on as if it had not been."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
import torch.nn.functional as F  # noqa: N812
from driven_jobs import finish, stop_after
from tiny_training import CONFIG, RECORD, STEPS, inputs, network, same, trained
from torch import Tensor

from napari_protoseg.errors import CheckpointError, ImageError
from napari_protoseg.events import Notice
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.loop import BEST, LAST, TrainingResult, train_network


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of the training that nothing happens to."""
    return trained(tmp_path_factory.mktemp("uninterrupted"))


def resumed(folder: Path) -> tuple[dict[str, Tensor], TrainingResult]:
    """Take the training in `folder` up in a model with other weights, and end it."""
    torch.manual_seed(99)
    fresh = network()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(torch.randn_like(parameter))
    given = inputs(folder, model=fresh)
    result, _ = finish(train_network(given, CONFIG, resume=True))
    return fresh.state_dict(), result


def test_the_same_seed_gives_the_same_weights_and_another_one_others(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    assert same(trained(tmp_path / "again"), uninterrupted)
    other = CONFIG.model_copy(update={"seed": 4})
    assert not same(trained(tmp_path / "other", other), uninterrupted)


def test_training_says_where_it_computes_each_step_and_each_epoch(tmp_path: Path):
    result, events = finish(train_network(inputs(tmp_path), CONFIG))
    kinds = [type(event) for event in events]
    epoch = [StepFinished] * 3 + [EpochFinished]
    assert kinds == [Notice, *epoch, *epoch]
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


# A notice, and in each of two epochs three steps and their end.
@pytest.mark.parametrize("event", range(1, 10))
def test_a_training_stopped_at_any_event_resumes_to_the_same_weights(
    tmp_path: Path, uninterrupted: dict[str, Tensor], event: int
):
    first, events = finish(train_network(inputs(tmp_path), CONFIG), stop_after(event))
    assert len(events) == event, "it stops at once"
    assert first.finished is False
    assert first.checkpoint.name == (LAST if event < 5 else BEST)
    weights, second = resumed(tmp_path)
    assert same(weights, uninterrupted)
    assert second.finished
    assert len(second.history) == 2
    assert same(Checkpoint(tmp_path / "round" / LAST).restore().state_dict(), uninterrupted)


def test_a_training_stopped_many_times_gives_the_same_weights(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path)
    result, _ = finish(train_network(given, CONFIG), stop_after(2))
    stops = 0
    while not result.finished:
        given = inputs(tmp_path)
        result, _ = finish(train_network(given, CONFIG, resume=True), stop_after(2))
        stops += 1
    assert stops >= STEPS - 1
    assert same(given.model.state_dict(), uninterrupted)


class Forgetful(PrototypeNetwork):
    """A network that draws random numbers while it trains."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward(F.dropout(images, 0.3, self.training))


@pytest.mark.parametrize("event", [3, 5, 6])
def test_random_numbers_go_on_where_they_were(tmp_path: Path, event: int):
    whole = trained(tmp_path / "whole", model=network(Forgetful))
    first = inputs(tmp_path / "cut", model=network(Forgetful))
    finish(train_network(first, CONFIG), stop_after(event))
    torch.rand(7)
    second = inputs(tmp_path / "cut", model=network(Forgetful))
    finish(train_network(second, CONFIG, resume=True))
    assert same(second.model.state_dict(), whole)


@pytest.mark.parametrize("event", [1, 3, 5, 7])
def test_a_job_that_is_closed_has_saved(
    tmp_path: Path, uninterrupted: dict[str, Tensor], event: int
):
    job = train_network(inputs(tmp_path), CONFIG)
    for _ in range(event):
        next(job)
    job.close()
    state = Checkpoint(tmp_path / "round" / LAST).state
    assert state is not None
    assert (state.epoch, state.batch) == {1: (0, 0), 3: (0, 2), 5: (1, 0), 7: (1, 2)}[event]
    assert same(resumed(tmp_path)[0], uninterrupted)


def test_a_killed_process_resumes_to_the_same_weights(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    child = subprocess.Popen(
        [sys.executable, tiny_training.__file__, str(tmp_path)], stdout=subprocess.PIPE, text=True
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
        assert same(resumed(tmp_path)[0], trained(tmp_path / "whole"))
    finally:
        torch.set_num_threads(threads)


def test_a_checkpoint_is_written_when_its_time_has_come(tmp_path: Path):
    now = 0.0
    given = inputs(tmp_path, clock=lambda: now, checkpoint_seconds=60.0)
    last = tmp_path / "round" / LAST
    job = train_network(given, CONFIG)
    next(job)
    next(job)
    next(job)
    assert not last.exists()
    now = 61.0
    next(job)
    assert last.exists(), "before the third step"
    before = last.stat().st_mtime_ns, last.stat().st_ino
    next(job)
    assert (last.stat().st_mtime_ns, last.stat().st_ino) != before, "at the end of the epoch"
    job.close()


def test_a_finished_training_resumes_to_nothing_more(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    trained(tmp_path)
    result, events = finish(train_network(inputs(tmp_path), CONFIG, resume=True))
    assert result.finished
    assert [type(event) for event in events] == [Notice]


@pytest.mark.parametrize(
    "change", [{"epochs": 3}, {"seed": 4}, {"matching_weight": 0.2}, {"batch_size": 3}]
)
def test_another_configuration_does_not_resume(tmp_path: Path, change: dict[str, float]):
    finish(train_network(inputs(tmp_path), CONFIG), stop_after(2))
    before = (tmp_path / "round" / LAST).read_bytes()
    with pytest.raises(CheckpointError, match="another configuration"):
        finish(train_network(inputs(tmp_path), CONFIG.model_copy(update=change), resume=True))
    assert (tmp_path / "round" / LAST).read_bytes() == before


def test_another_bank_does_not_resume(tmp_path: Path):
    finish(train_network(inputs(tmp_path), CONFIG), stop_after(2))
    edited = RECORD.model_copy(update={"bank": "edited"})
    with pytest.raises(CheckpointError, match="bank"):
        finish(train_network(inputs(tmp_path, record=edited), CONFIG, resume=True))


def test_resuming_needs_a_training_that_has_begun(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no training to resume"):
        finish(train_network(inputs(tmp_path), CONFIG, resume=True))


def test_the_best_model_alone_does_not_resume(tmp_path: Path):
    trained(tmp_path)
    (tmp_path / "round" / BEST).replace(tmp_path / "round" / LAST)
    with pytest.raises(CheckpointError):
        finish(train_network(inputs(tmp_path), CONFIG, resume=True))


def test_an_image_that_vanishes_is_named_and_training_resumes_once_it_is_back(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path)
    victim = given.images[4].path
    content = victim.read_bytes()
    job = train_network(given, CONFIG)
    for _ in range(5):
        next(job)
    victim.unlink()
    with pytest.raises(ImageError, match=victim.name):
        finish(job)
    with pytest.raises(ImageError, match=victim.name):
        resumed(tmp_path)
    victim.write_bytes(content)
    assert same(resumed(tmp_path)[0], uninterrupted)


def test_a_held_out_image_that_vanishes_leaves_a_training_that_resumes(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
):
    given = inputs(tmp_path)
    victim = given.held_out[0].path
    content = victim.read_bytes()
    job = train_network(given, CONFIG)
    for _ in range(4):
        next(job)
    victim.unlink()
    with pytest.raises(ImageError, match=victim.name):
        next(job)
    victim.write_bytes(content)
    assert same(resumed(tmp_path)[0], uninterrupted)
