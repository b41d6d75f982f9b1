"""What a model is trained for by labels: means of maps, or pixels that classes compete for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from driven_jobs import finish
from pydantic import ValidationError
from tiny_training import CONFIG, CPU, RECORD, batch, images, inputs, matcher, network
from torch import Tensor

from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.competition import partial_label_loss, top_share_logits
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import Compat, Matching
from napari_protoseg.training.loop import TrainingInputs, train_network
from napari_protoseg.training.objective import (
    HEAVIEST,
    balancing_weights,
    classification_loss,
    label_loss,
)
from napari_protoseg.training.step import Step

COMPETING = CONFIG.model_copy(update={"competing": True, "presence_weight": 0.5})


def test_the_loss_of_labels_is_the_mean_over_those_that_are_known():
    model, given = network().eval(), batch()
    maps = model(given.images)
    known = int((given.labels >= 0).sum())
    got = label_loss(model, maps, given.labels, given.weights, CONFIG, of=given.labels)
    whole = classification_loss(model, maps, given.labels, CONFIG.stage_weights)
    torch.testing.assert_close(got, whole / known)


def test_competing_classes_have_a_loss_of_pixels_and_one_of_images():
    model, given = network().eval(), batch()
    maps = model(given.images)
    got = label_loss(model, maps, given.labels, given.weights, COMPETING, of=given.labels)
    pixels = model.pixel_logits(maps)
    known = given.labels >= 0
    of_images = F.binary_cross_entropy_with_logits(
        top_share_logits(pixels)[known], given.labels[known]
    )
    expected = partial_label_loss(pixels, given.labels).mean() + 0.5 * of_images
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("config", [CONFIG, COMPETING])
def test_losses_of_micro_batches_add_up(config):
    model, given = network().eval(), batch()
    whole = label_loss(
        model, model(given.images), given.labels, given.weights, config, of=given.labels
    )
    parts = [
        label_loss(model, model(part.images), part.labels, part.weights, config, of=given.labels)
        for part in given.split(2)
    ]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-6)


def test_a_step_in_pieces_is_a_step_in_one():
    gradients = []
    for micro_batch in (len(batch().images), 2):
        model = network().train()
        step = Step(model, matcher(), COMPETING, CPU)
        step.accumulate(batch(), micro_batch, lambda loss: loss.backward())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_pixels_of_a_weighty_image_count_more_and_what_it_holds_does_not():
    model, given = network().eval(), batch(2)
    maps = model(given.images)

    def loss(weights: list[float]) -> Tensor:
        changed = torch.tensor(weights)
        return label_loss(model, maps, given.labels, changed, COMPETING, of=given.labels)

    first, second = partial_label_loss(model.pixel_logits(maps), given.labels)
    torch.testing.assert_close(loss([3.0, 1.0]) - loss([1.0, 1.0]), first)
    torch.testing.assert_close(loss([1.0, 3.0]) - loss([1.0, 1.0]), second)


def test_each_combination_of_labels_weighs_the_same():
    labels = [(1, 0)] * 6 + [(0, 1)] * 2 + [(1, 1)]
    weights = balancing_weights(labels)
    assert sum(weights) == pytest.approx(9)
    for start, end in ((0, 6), (6, 8), (8, 9)):
        assert sum(weights[start:end]) == pytest.approx(3)


def test_one_rare_image_does_not_decide_and_one_with_an_unknown_class_is_no_combination():
    labels = [(1, 0)] * 50 + [(0, 1)] * 50 + [(1, 1)]
    assert balancing_weights(labels)[-1] == HEAVIEST
    assert balancing_weights([*labels[:100], (1, -1), (-1, 0)])[-2:] == [1.0, 1.0]
    assert balancing_weights([*labels[:100], (1, -1)])[:100] == [1.0] * 100


def test_a_balanced_training_is_another_one(tmp_path: Path):
    config = COMPETING.model_copy(update={"matching": Matching.NONE})
    few = [(1, 0), (1, 0), (1, 0), (0, 1)]
    found = []
    for is_balanced in (False, True):
        given = competing(tmp_path / str(is_balanced))
        given = replace(given, images=images(tmp_path / "few", few))
        result, _ = finish(
            train_network(given, config.model_copy(update={"balanced": is_balanced}))
        )
        found.append(result.history[-1].loss)
    assert found[0] != found[1]


def competing(folder: Path) -> TrainingInputs:
    record = RECORD.model_copy(update={"competing": True})
    return inputs(folder, model=network(competing=True), record=record)


@pytest.mark.parametrize("matching", [Matching.NONE, Matching.DENSE])
def test_training_lowers_the_loss_of_pixels(tmp_path: Path, matching: Matching):
    config = COMPETING.model_copy(update={"matching": matching, "epochs": 6, "head_rate": 3e-3})
    result, _ = finish(train_network(competing(tmp_path), config))
    assert result.history[-1].loss < 0.9 * result.history[0].loss


def test_whether_classes_compete_is_kept_with_the_model(tmp_path: Path):
    result, _ = finish(train_network(competing(tmp_path), COMPETING))
    model = Checkpoint(result.checkpoint).restore()
    assert model.competing
    maps = model(batch().images)
    torch.testing.assert_close(model.image_logits(maps), top_share_logits(model.pixel_logits(maps)))


def test_the_mean_of_the_last_map_tells_of_classes_that_do_not_compete():
    model = network().eval()
    maps = model(batch().images)
    torch.testing.assert_close(
        model.image_logits(maps), model.class_logits(model.prototype_logits(maps[-1]))
    )


def test_in_the_released_form_classes_do_not_compete():
    with pytest.raises(ValidationError, match="do not compete"):
        type(CONFIG)(compat=Compat.REFERENCE, matching=Matching.REENCODE, competing=True)


def test_a_plain_class_activation_map_may_compete_too():
    torch.manual_seed(0)
    model = PlainCam(create_backbone("test_efficientnet"), 2, competing=True).train()
    given = batch()
    step = Step(model, None, COMPETING, CPU)
    got = step.accumulate(given, 2, lambda loss: loss.backward())
    assert got.total == got.classification > 0
    assert model.classifier.weight.grad.abs().sum() > 0
