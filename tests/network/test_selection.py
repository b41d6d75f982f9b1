"""Merging prototypes to classes, and choosing the pairs that take part in matching."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import random

from napari_protoseg.network.matching import PairFeatures, reference_losses
from napari_protoseg.network.reduction import (
    Merge,
    expand_labels,
    merge_prototypes,
    select_prototypes,
)

POSITIONS = torch.tensor([0, 0, 2])


@pytest.mark.parametrize("how", list(Merge))
def test_a_class_without_a_prototype_is_zero_everywhere(how: Merge):
    merged = merge_prototypes(random(2, 3, 4, 4), POSITIONS, 4, how)
    assert merged.shape == (2, 4, 4, 4)
    assert (merged[:, [1, 3]] == 0).all()
    assert (merged[:, [0, 2]] != 0).all()


@pytest.mark.parametrize("how", list(Merge))
def test_a_lone_prototype_is_its_class(how: Merge):
    values = random(2, 3, 4, 4)
    torch.testing.assert_close(merge_prototypes(values, POSITIONS, 3, how)[:, 2], values[:, 2])


def test_the_soft_maximum_lies_between_mean_and_maximum():
    values = random(4, 3)
    soft = merge_prototypes(values, POSITIONS, 3, Merge.SOFTMAX)[:, 0]
    assert (soft >= values[:, :2].mean(1)).all()
    assert (soft <= values[:, :2].amax(1)).all()


def test_prototypes_need_no_order_by_class():
    values, shuffle = random(2, 3, 5), torch.tensor([2, 0, 1])
    for how in Merge:
        torch.testing.assert_close(
            merge_prototypes(values[:, shuffle], POSITIONS[shuffle], 3, how),
            merge_prototypes(values, POSITIONS, 3, how),
        )


def test_each_prototype_has_the_label_of_its_class():
    labels = torch.tensor([[1.0, 0.0, -1.0]])
    assert expand_labels(labels, POSITIONS).tolist() == [[1, 1, -1]]


def test_a_pair_needs_a_logit_above_its_class_and_the_class_in_the_image():
    logits = torch.tensor([[1.0, 2.0, 5.0], [3.0, 2.0, 5.0]])
    present = torch.tensor([[True, False, False], [True, False, True]])
    for strict in (False, True):
        selected = select_prototypes(logits, present, POSITIONS, strict=strict)
        assert selected[:, :2].tolist() == [[False, True], [True, False]]
    assert select_prototypes(logits, present, POSITIONS, strict=False)[:, 2].tolist() == [0, 1]


def test_one_prototype_for_each_class_is_selected_by_default_and_not_in_the_released_form():
    logits = random(3, 4).float() * 1e3
    positions, present = torch.arange(4), torch.ones(3, 4, dtype=torch.bool)
    assert select_prototypes(logits, present, positions, strict=False).all()
    assert not select_prototypes(logits, present, positions, strict=True).any()


def test_equal_siblings_are_all_selected_whatever_rounding_does():
    logits = torch.full((1, 7), 0.1)
    present = torch.ones(1, 1, dtype=torch.bool)
    assert select_prototypes(logits, present, torch.zeros(7, dtype=torch.int64), strict=False).all()


def test_the_released_losses_of_no_pair_are_zero_and_have_a_gradient():
    features = torch.zeros(0, 5, requires_grad=True)
    selected = torch.zeros(2, 3, dtype=torch.bool)
    both = reference_losses(PairFeatures(features, features), torch.ones(3, 5), selected)
    assert [loss.item() for loss in both] == [0, 0]
    sum(both).backward()
