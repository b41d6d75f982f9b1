"""The losses of one step: classification by known labels, matching by pairs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from driven_jobs import finish
from tiny_training import (
    CONFIG,
    CPU,
    POSITIONS,
    WIDTH,
    batch,
    inputs,
    matcher,
    network,
    unweighted,
)
from torch import Tensor, nn

from napari_protoseg.errors import TrainingError
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.matching import PairFeatures, reference_losses
from napari_protoseg.network.reduction import select_prototypes
from napari_protoseg.training.config import Compat, Matching, TrainingConfig
from napari_protoseg.training.images import Batch
from napari_protoseg.training.loop import train_network
from napari_protoseg.training.objective import classification_loss
from napari_protoseg.training.step import Matcher, Step, StepLosses


class GivenMaps(MapModel):
    """A model whose maps are parameters: one image, whatever it shows."""

    def __init__(self, maps: Tensor, positions: tuple[int, ...], classes: int) -> None:
        super().__init__(positions, classes, (16,))
        self.maps = nn.Parameter(maps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.maps[: len(images)],)


def cross_entropy(logit: float, label: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -math.log(probability if label == 1 else 1 - probability)


def losses(model: MapModel, given: Batch, config: TrainingConfig = CONFIG) -> StepLosses:
    step = Step(model, matcher(), config, CPU)
    return step.accumulate(given, len(given.images), lambda loss: loss.backward())


def test_the_classification_loss_is_a_stage_weighted_sum_of_cross_entropies():
    model = network().eval()
    generator = torch.Generator().manual_seed(0)
    maps = tuple(torch.randn(2, 3, s, s, generator=generator) for s in (4, 2, 2))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = 0.0
    for stage, weight in zip(maps, (0.1, 1.0, 0.5), strict=True):
        for image in range(2):
            of_prototypes = [float(stage[image, p].mean()) for p in range(3)]
            logits = (sum(of_prototypes[:2]) / 2, of_prototypes[2])
            for c in range(2):
                expected += weight * cross_entropy(logits[c], float(labels[image, c]))
    got = classification_loss(model, maps, labels, (0.1, 1.0, 0.5))
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_unknown_labels_take_no_part():
    model = network().eval()
    maps = [torch.randn(2, 3, s, s, requires_grad=True) for s in (4, 2, 2)]
    labels = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    loss = classification_loss(model, tuple(maps), labels, (0.1, 1.0, 1.0))
    loss.backward()
    for stage in maps:
        assert (stage.grad[0, :2] != 0).all()
        assert (stage.grad[0, 2] == 0).all()
        assert (stage.grad[1] == 0).all()


def test_a_model_of_one_stage_has_the_weight_of_the_last():
    model = GivenMaps(torch.randn(1, 3, 2, 2), POSITIONS, 2)
    labels = torch.ones(1, 2)
    by = [classification_loss(model, (model.maps,), labels, w) for w in ((5.0, 5.0, 1.0), (1.0,))]
    assert by[0].item() == by[1].item()


def test_the_step_divides_by_the_number_of_known_labels():
    model = network().train()
    given = batch()
    known = int((given.labels >= 0).sum())
    assert known == 10
    maps = model(given.images)
    total = classification_loss(model, maps, given.labels, CONFIG.stage_weights).item()
    assert losses(model, given).classification == pytest.approx(total / known, rel=1e-5)


def test_a_batch_without_any_known_label_has_no_loss():
    given = unweighted(torch.rand(2, 3, 32, 32), torch.full((2, 2), -1.0))
    got = losses(network().train(), given, CONFIG.model_copy(update={"sparsity_weight": 0.0}))
    assert (got.total, got.classification, got.matching, got.pairs) == (0, 0, 0, 0)


def test_the_total_adds_matching_and_sparsity_with_their_weights():
    config = CONFIG.model_copy(update={"matching_weight": 0.3, "sparsity_weight": 0.2})
    model = network().train()
    got = losses(model, batch(), config)
    sparsity = model(batch().images)[-1].mean().item()
    assert got.matching > 0
    assert got.total == pytest.approx(
        got.classification + 0.3 * (got.matching + 0.2 * sparsity), rel=1e-5
    )
    alone = losses(model, batch(), config.model_copy(update={"matching": Matching.NONE}))
    assert (alone.total, alone.pairs) == (alone.classification, 0)


def test_the_released_form_is_its_two_losses_over_reencoded_pairs():
    config = CONFIG.model_copy(update={"compat": Compat.REFERENCE, "matching": Matching.REENCODE})
    model, given, against = network().train(), batch(), matcher()
    got = losses(model, given, config)
    with torch.no_grad():
        last = model(given.images)[-1]
        selected = select_prototypes(
            model.prototype_logits(last), given.labels > 0, model.class_positions, strict=True
        )
        assert got.pairs == int(selected.sum()) > 0
        assert not selected[:, 2].any(), "the only prototype of its class"
        resized = nn.functional.interpolate(
            last, given.images.shape[2:], mode="bilinear", align_corners=True
        )
        rows = []
        for image, prototype in selected.nonzero().tolist():
            weight, picture = resized[image, prototype], given.images[image]
            inside = weight >= 0.5 * resized[image].max()
            for product, mask in ((weight * picture, inside), ((1 - weight) * picture, ~inside)):
                low, high = product.amin((1, 2), True), product.amax((1, 2), True)
                rows.append(against.embed(((product - low) / (high - low + 1e-8) * mask)[None])[0])
        features = PairFeatures(torch.stack(rows[::2]), torch.stack(rows[1::2]))
        expected = sum(reference_losses(features, against.prototypes, selected))
    assert got.matching == pytest.approx(expected.item(), rel=1e-4)


def test_one_prototype_for_each_class_matches_by_default_and_not_in_the_released_form():
    maps = torch.rand(1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    model = GivenMaps(maps, (0, 1), 2)
    given = unweighted(torch.rand(1, 3, 32, 32), torch.tensor([[1.0, 0.0]]))
    against = Matcher(matcher().dense, torch.randn(2, WIDTH))

    def of(config: TrainingConfig) -> StepLosses:
        return Step(model, against, config, CPU).accumulate(given, 1, lambda loss: loss.backward())

    default = of(CONFIG)
    assert default.pairs == 1
    assert default.matching > 0
    released = of(
        CONFIG.model_copy(update={"compat": Compat.REFERENCE, "matching": Matching.REENCODE})
    )
    assert (released.pairs, released.matching) == (0, 0)
    assert model.maps.grad is not None
    assert torch.isfinite(model.maps.grad).all()


@pytest.mark.parametrize("matching", [Matching.DENSE, Matching.REENCODE])
def test_a_pair_without_a_negative_is_skipped_and_counted(matching: Matching):
    # Negatives are weighted 0 where their class is present: only absent ones are left.
    config = CONFIG.model_copy(update={"matching": matching, "present_weight": 0.0})
    maps = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    model = GivenMaps(maps, POSITIONS, 2)
    both_present = unweighted(torch.rand(1, 3, 32, 32), torch.tensor([[1.0, 1.0]]))
    got = losses(model, both_present, config)
    assert (got.pairs, got.skipped, got.matching) == (0, 2, 0)
    mixed = unweighted(torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    got = losses(model, mixed, config)
    assert (got.pairs, got.skipped) == (1, 2)
    assert got.matching > 0


@pytest.mark.parametrize("matching", [Matching.DENSE, Matching.REENCODE])
def test_a_map_without_a_foreground_is_skipped_and_counted(matching: Matching):
    maps = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    # Its logit is the highest of its class, but no place of it stands out, nor is positive.
    maps[0, 1], maps[0, 0] = -1.0, maps[0, 0] - 5
    model = GivenMaps(maps, POSITIONS, 2)
    given = unweighted(torch.rand(1, 3, 32, 32), torch.tensor([[1.0, 1.0]]))
    got = losses(model, given, CONFIG.model_copy(update={"matching": matching}))
    assert (got.pairs, got.skipped) == (1, 1)
    assert model.maps.grad is not None
    assert torch.isfinite(model.maps.grad).all()
    with_sparsity_alone = model.maps.grad[0, 1]
    assert float(with_sparsity_alone.std()) == 0, "matching does not shape this map"


def test_at_most_so_many_pairs_take_part_those_of_the_highest_logits():
    maps = torch.arange(4 * 3.0).view(4, 3, 1, 1) + torch.rand(4, 3, 2, 2) / 10
    given = unweighted(torch.rand(4, 3, 32, 32), torch.ones(4, 2))
    for most, pairs in ((None, 8), (20, 8), (3, 3), (1, 1)):
        model = GivenMaps(maps, POSITIONS, 2)
        config = CONFIG.model_copy(
            update={"max_pairs": most, "stage_weights": (0.0, 0.0, 0.0), "sparsity_weight": 0.0}
        )
        got = losses(model, given, config)
        assert got.pairs == pairs
        touched = model.maps.grad.abs().amax((2, 3)) > 0
        highest = maps[:, 1:].mean((2, 3)).flatten().sort().values[-pairs]
        assert torch.equal(touched[:, 1:], maps[:, 1:].mean((2, 3)) >= highest)


def test_present_and_absent_classes_weigh_as_configured():
    model, given = network().train(), batch()
    settings = [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5)]
    values = {
        losses(
            model, given, CONFIG.model_copy(update={"present_weight": p, "absent_weight": a})
        ).matching
        for p, a in settings
    }
    assert len(values) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_training_before_it_harms_the_weights(
    tmp_path: Path, value: float
):
    given = inputs(tmp_path)
    with torch.no_grad():
        given.model.scales.fill_(value)
    before = given.model.adapters[0][0].weight.clone()
    with pytest.raises(TrainingError, match="at step 1") as caught:
        finish(train_network(given, CONFIG))
    assert "learning rate" in caught.value.remedy
    assert torch.equal(given.model.adapters[0][0].weight, before)
