"""The best epoch is that of the lowest held-out loss, or of the highest score if there is one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from driven_jobs import finish
from tiny_training import CONFIG, RECORD, inputs, network, same

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Event, Job, Progress, Request
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.build import create_model
from napari_protoseg.network.record import ModelKind
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.images import TrainingImage, plain_batches
from napari_protoseg.training.loop import BEST, LAST, TrainingInputs, train_network
from napari_protoseg.training.objective import classification_loss

FOUR = CONFIG.model_copy(update={"epochs": 4})


def held_out_loss(given: TrainingInputs, config: TrainingConfig, name: str) -> float:
    """Measure the held-out loss of a checkpoint anew."""
    model = Checkpoint(given.folder / name).restore()
    (batch,) = plain_batches(given.held_out, given.read, batch_size=9, max_side=config.max_side)
    with torch.no_grad():
        loss = classification_loss(model, model(batch.images), batch.labels, config.stage_weights)
    return float(loss) / int((batch.labels >= 0).sum())


@pytest.mark.parametrize("rate", [1e-3, 0.5])
def test_best_is_the_epoch_of_the_lowest_held_out_loss(tmp_path: Path, rate: float):
    config = FOUR.model_copy(update={"head_rate": rate, "backbone_rate": rate})
    given = inputs(tmp_path)
    result, _ = finish(train_network(given, config))
    losses = [event.held_out_loss for event in result.history]
    assert result.checkpoint == given.folder / BEST
    lowest = [math.inf, *(min(losses[: i + 1]) for i in range(3))]
    assert [event.best for event in result.history] == [
        loss < before for loss, before in zip(losses, lowest, strict=True)
    ]
    assert held_out_loss(given, config, BEST) == pytest.approx(min(losses), rel=1e-4)
    assert held_out_loss(given, config, LAST) == pytest.approx(losses[-1], rel=1e-4)
    assert all(0 <= event.held_out_accuracy <= 1 for event in result.history)


def test_a_score_decides_where_there_is_one(tmp_path: Path):
    scores = iter([0.3, 0.6, 0.6, 0.2])
    snapshots = []

    def score(model: torch.nn.Module) -> Job[float]:
        yield Progress("Measuring", 1, 1)
        snapshots.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(scores)

    given = inputs(tmp_path, score=score)
    result, _ = finish(train_network(given, FOUR))
    assert [event.best for event in result.history] == [True, True, False, False]
    assert [event.score for event in result.history] == [0.3, 0.6, 0.6, 0.2]
    assert same(Checkpoint(result.checkpoint).restore().state_dict(), snapshots[1])


def test_a_training_that_is_stopped_while_it_is_scored_takes_the_score_when_it_goes_on(
    tmp_path: Path,
):
    def score(model: torch.nn.Module) -> Job[float | None]:
        assert not model.training
        return None if (yield Progress("Measuring", 1, 2)) is Request.STOP else 0.5

    def stop(event: Event) -> Request | None:
        return Request.STOP if event == Progress("Measuring", 1, 2) else None

    first, _ = finish(train_network(inputs(tmp_path, score=score), FOUR), stop)
    assert not first.finished
    assert not first.history
    given = inputs(tmp_path, score=score)
    second, _ = finish(train_network(given, FOUR, resume=True))
    assert [event.score for event in second.history] == [0.5] * 4
    whole = inputs(tmp_path / "whole", score=score)
    finish(train_network(whole, FOUR))
    assert same(given.model.state_dict(), whole.model.state_dict())


def test_a_score_that_is_no_number_does_not_stay_the_best(tmp_path: Path):
    scores = iter([math.nan, 0.1, math.nan, 0.05])

    def score(model: torch.nn.Module) -> Job[float]:
        yield Progress("Measuring", 1, 1)
        return next(scores)

    result, _ = finish(train_network(inputs(tmp_path, score=score), FOUR))
    assert [event.best for event in result.history] == [True, True, False, False]


def test_without_held_out_images_the_last_epoch_is_the_best(tmp_path: Path):
    given = inputs(tmp_path, held_out=[])
    result, _ = finish(train_network(given, CONFIG))
    assert all(event.best for event in result.history)
    assert {event.held_out_loss for event in result.history} == {None}
    assert same(Checkpoint(result.checkpoint).restore().state_dict(), given.model.state_dict())


def test_the_batch_normalisation_of_the_model_is_not_trained(tmp_path: Path):
    given = inputs(tmp_path)
    before = {k: v.clone() for k, v in network().state_dict().items() if "running" in k}
    finish(train_network(given, CONFIG))
    after = given.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_a_plain_map_trains_without_matching(tmp_path: Path):
    record = RECORD.model_copy(
        update={"kind": ModelKind.PLAIN_CAM, "class_positions": (0, 1), "bank": None}
    )
    torch.manual_seed(0)
    model = create_model(record)
    assert isinstance(model, PlainCam)
    given = inputs(tmp_path, model=model, record=record, matcher=None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result, events = finish(train_network(given, CONFIG))
    assert not same(before, model.state_dict())
    restored = Checkpoint(result.checkpoint.with_name(LAST)).restore()
    assert isinstance(restored, PlainCam)
    assert same(restored.state_dict(), model.state_dict())
    assert {event.matching for event in events if hasattr(event, "matching")} == {0.0}


def test_training_lowers_the_loss(tmp_path: Path):
    config = CONFIG.model_copy(update={"epochs": 8, "head_rate": 1e-2, "backbone_rate": 1e-2})
    result, _ = finish(train_network(inputs(tmp_path), config))
    assert result.history[-1].loss < 0.8 * result.history[0].loss


def test_there_must_be_something_to_train_on(tmp_path: Path):
    nothing: list[TrainingImage] = []
    with pytest.raises(TrainingError, match="no image with an image-level label"):
        finish(train_network(inputs(tmp_path, images=nothing), CONFIG))
