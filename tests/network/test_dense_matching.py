"""Matching on dense features, and the loss of one pair."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_networks import random
from torch import Tensor

from napari_protoseg.network.matching import (
    PairFeatures,
    PairLosses,
    dense_features,
    half_maximum_mask,
    masked_images,
    pair_losses,
    reencode,
)

POSITIONS = torch.tensor([0, 0, 1, 2])
SELECTED = torch.tensor([[True, False, True, False], [False, True, False, True]])
PAIRS = [(0, 0), (0, 2), (1, 1), (1, 3)]


def losses(
    features: PairFeatures, prototypes: Tensor, weights: Tensor | None = None, t: float = 0.07
) -> PairLosses:
    weights = torch.ones(2, 4) if weights is None else weights
    return pair_losses(features, prototypes, POSITIONS, SELECTED, weights, t)


def features(seed: int = 0) -> PairFeatures:
    return PairFeatures(random(4, 6, seed=seed), random(4, 6, seed=seed + 1))


def test_features_are_averages_weighted_by_the_scaled_map_and_its_complement():
    dense, maps = random(2, 6, 3, 5), random(2, 4, 3, 5, seed=1)
    got = dense_features(dense, maps, SELECTED)
    for row, (image, prototype) in enumerate(PAIRS):
        plane = maps[image, prototype]
        low, high = float(plane.min()), float(plane.max())
        near, far, near_weight, far_weight = torch.zeros(6), torch.zeros(6), 0.0, 0.0
        for y in range(3):
            for x in range(5):
                weight = (float(plane[y, x]) - low) / (high - low)
                near, near_weight = near + weight * dense[image, :, y, x], near_weight + weight
                far, far_weight = (
                    far + (1 - weight) * dense[image, :, y, x],
                    far_weight + 1 - weight,
                )
        torch.testing.assert_close(got.foreground[row], near / near_weight, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(got.background[row], far / far_weight, atol=1e-6, rtol=1e-6)


def test_maps_of_another_size_are_brought_to_the_dense_map():
    dense, coarse = random(2, 6, 4, 6), random(2, 4, 2, 3, seed=1)
    finer = torch.nn.functional.interpolate(coarse, (4, 6), mode="bilinear", align_corners=False)
    for a, b in zip(
        dense_features(dense, coarse, SELECTED), dense_features(dense, finer, SELECTED), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_gradient_flows_through_the_weights_to_the_selected_maps_alone():
    dense, maps = random(2, 6, 4, 4), random(2, 4, 4, 4, seed=1).requires_grad_()
    total, counted = losses(dense_features(dense, maps, SELECTED), random(4, 6, seed=2)).totals()
    total.backward()
    assert counted == 4
    assert maps.grad is not None
    assert (maps.grad[SELECTED].abs().amax((1, 2)) > 0).all()
    assert (maps.grad[~SELECTED] == 0).all()


def test_a_step_against_the_gradient_turns_the_map_towards_its_own_prototype():
    own, other = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    dense = torch.stack([own, other], 1).view(1, 2, 1, 2)  # left like the one, right the other
    maps = torch.tensor([[[[0.4, 0.5]]]], requires_grad=True)
    maps_of_three = torch.cat([maps, torch.tensor([[[[0.0, 1.0]]]])], 3)
    got = dense_features(
        torch.cat([dense, dense], 3), maps_of_three, torch.ones(1, 1, dtype=torch.bool)
    )
    loss, _ = pair_losses(
        got,
        torch.stack([own, other]),
        torch.tensor([0, 1]),
        torch.tensor([[True, False]]),
        torch.ones(1, 2),
    ).totals()
    loss.backward()
    assert maps.grad[0, 0, 0, 0] < 0 < maps.grad[0, 0, 0, 1]


def test_each_loss_is_what_its_formula_says():
    given, prototypes, t = features(), random(4, 6, seed=7), 0.2
    weights = torch.tensor([[1.0, 1.0, 0.5, 2.0], [3.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    got = losses(given, prototypes, weights, t)

    def e(feature: Tensor, prototype: int) -> float:
        cosine = torch.cosine_similarity(feature, prototypes[prototype], dim=0)
        return math.exp(float(cosine) / t)

    for row, (image, own) in enumerate(PAIRS):
        others = [j for j in range(4) if POSITIONS[j] != POSITIONS[own]]
        w = [float(weights[image, j]) for j in others]
        f, b = given.foreground[row], given.background[row]
        near = sum(wj * e(f, j) for wj, j in zip(w, others, strict=True))
        far = sum(wj * e(b, j) for wj, j in zip(w, others, strict=True)) / sum(w)
        assert math.isclose(
            float(got.foreground[row]), -math.log(e(f, own) / (e(f, own) + near)), rel_tol=1e-9
        )
        assert math.isclose(
            float(got.background[row]), -math.log(far / (far + e(b, own))), rel_tol=1e-9
        )


def test_siblings_are_no_negatives():
    prototypes = random(4, 6, seed=7)
    moved = prototypes.clone()
    moved[1] = 5 - moved[1]
    before, after = losses(features(), prototypes), losses(features(), moved)
    # The first pair's own prototype has the moved one for a sibling; the second has none.
    assert before.foreground[0] == after.foreground[0]
    assert before.background[0] == after.background[0]
    assert before.foreground[1] != after.foreground[1]


def test_a_perfect_feature_has_almost_no_loss():
    prototypes = torch.eye(4, 6)
    own = torch.tensor([p for _, p in PAIRS])
    others = torch.stack([prototypes[POSITIONS[p] != POSITIONS].sum(0) for p in own])
    got = losses(PairFeatures(prototypes[own], others), prototypes)
    assert got.foreground.max() < 1e-5
    assert got.background.max() < 1e-3
    worst = losses(PairFeatures(others, prototypes[own]), prototypes)
    assert worst.foreground.min() > 5


def test_a_pair_without_a_negative_is_left_out_and_stays_finite():
    weights = torch.ones(2, 4)
    weights[0] = 0
    given = PairFeatures(*(f.requires_grad_() for f in features()))
    got = losses(given, random(4, 6, seed=7), weights)
    assert got.valid.tolist() == [False, False, True, True]
    total, counted = got.totals()
    assert counted == 2
    total.backward()
    assert torch.isfinite(total)
    for tensor in given:
        assert (tensor.grad[:2] == 0).all()
        assert (tensor.grad[2:] != 0).any()


def test_a_schema_of_one_class_has_no_negatives_at_all():
    got = pair_losses(
        PairFeatures(random(2, 6), random(2, 6)),
        random(2, 6),
        torch.zeros(2, dtype=torch.int64),
        torch.eye(2, dtype=torch.bool),
        torch.ones(2, 2),
    )
    total, counted = got.totals()
    assert (float(total), int(counted)) == (0, 0)


def test_no_pair_gives_no_loss():
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    got = dense_features(random(2, 6, 3, 3), random(2, 4, 3, 3), nothing)
    assert got.foreground.shape == (0, 6)
    total, counted = pair_losses(got, random(4, 6), POSITIONS, nothing, torch.ones(2, 4)).totals()
    assert (float(total), int(counted)) == (0, 0)


def test_a_mask_reaches_half_of_its_own_maximum_or_of_that_of_all():
    maps = torch.tensor([[[[4.0, 2.0, 1.0]], [[1.0, 0.5, 0.4]], [[-1.0, -2.0, -3.0]]]])
    own = half_maximum_mask(maps, over_all=False)
    assert own[0, :, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    all_ = half_maximum_mask(maps, over_all=True)
    assert all_[0, :, 0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("over_all", [False, True])
def test_foreground_and_background_images_share_no_pixel(over_all: bool):
    images, maps = random(2, 3, 8, 8).abs(), random(2, 4, 4, 4, seed=1)
    near, far, pixels = masked_images(images, maps, SELECTED, over_all=over_all)
    assert near.shape == far.shape == (4, 3, 8, 8)
    assert (near * far == 0).all()
    inside = (near.amax(1) > 0).sum((1, 2))
    assert (inside <= pixels).all()
    assert min(float(near.min()), float(far.min())) >= 0
    assert max(float(near.max()), float(far.max())) <= 1


def test_reencoding_lets_the_gradient_through_the_encoder_to_the_maps():
    weight = random(5, 3 * 64)
    maps = random(2, 4, 4, 4, seed=1).requires_grad_()
    got, pixels = reencode(
        random(2, 3, 8, 8).abs(), maps, SELECTED, lambda i: i.flatten(1) @ weight.T, over_all=False
    )
    assert got.foreground.shape == got.background.shape == (4, 5)
    assert (pixels > 0).all()
    got.foreground.square().sum().backward()
    assert (maps.grad[SELECTED].abs().amax((1, 2)) > 0).all()
    assert (maps.grad[~SELECTED] == 0).all()
