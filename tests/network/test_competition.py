"""Classes that compete for each pixel: fused logits, partial labels, top shares."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from napari_protoseg.network.competition import (
    class_shares,
    fuse_stages,
    partial_label_loss,
    pixel_class_logits,
    top_share_logits,
)
from napari_protoseg.network.reduction import Merge


def test_stages_are_fused_at_the_size_of_the_first_by_the_ratios_of_their_weights():
    fine = torch.full((1, 2, 8, 8), 1.0)
    coarse = torch.full((1, 2, 4, 2), 5.0)
    for weights in ((3, 1), (0.3, 0.1)):
        fused = fuse_stages((fine, coarse), weights)
        torch.testing.assert_close(fused, torch.full((1, 2, 8, 8), 2.0))


def test_a_coarse_stage_keeps_its_place():
    coarse = torch.zeros(1, 1, 2, 2)
    coarse[..., 0, 1] = 1
    fused = fuse_stages((torch.zeros(1, 1, 8, 8), coarse), (1, 1))
    assert int(fused[0, 0].argmax()) in {6, 7, 14, 15}, "the corner at the top right"
    assert fused[0, 0, 7, 0] == 0


def test_prototypes_of_all_stages_make_the_logit_of_their_class():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, 4, 4, generator=generator) for _ in range(2)]
    positions = torch.tensor([0, 0, 1])
    got = pixel_class_logits(maps, (1, 1), positions, 2, Merge.SOFTMAX)
    mean = (maps[0] + maps[1]) / 2
    own = mean[:, :2]
    torch.testing.assert_close(got[:, 0], (own.softmax(1) * own).sum(1))
    torch.testing.assert_close(got[:, 1], mean[:, 2])


def test_a_pixel_may_be_of_any_class_that_the_label_does_not_exclude():
    """Probabilities 0.5, 0.3 and 0.2 at each pixel, and what each label leaves of them."""
    logits = torch.tensor([0.5, 0.3, 0.2]).log()[None, :, None, None].expand(1, 3, 5, 4)
    for label, allowed in (
        ([1, 0, 0], 0.5),
        ([0, 1, 1], 0.5),
        ([1, 0, 1], 0.7),
        ([0, -1, 0], 0.3),
        ([1, -1, -1], 1.0),
        ([0, 0, 0], 1.0),
    ):
        got = partial_label_loss(logits, torch.tensor([label]).float())
        assert got.shape == (1,)
        assert got.item() == pytest.approx(-math.log(allowed), abs=1e-6), label


def test_the_loss_of_an_impossible_pixel_has_a_gradient_that_is_a_number():
    logits = torch.tensor([300.0, -300.0])[None, :, None, None].requires_grad_()
    loss = partial_label_loss(logits, torch.tensor([[0.0, 1.0]])).sum()
    loss.backward()
    assert loss.item() == pytest.approx(600)
    torch.testing.assert_close(logits.grad[0, :, 0, 0], torch.tensor([1.0, -1.0]))


def test_the_loss_of_a_mixed_image_leaves_its_classes_their_shares():
    """The gradient of a pixel moves probability to the allowed classes as they share it."""
    logits = torch.zeros(1, 3, 1, 1)
    logits[0, 0] = 1.0
    logits.requires_grad_()
    partial_label_loss(logits, torch.tensor([[1.0, 1.0, 0.0]])).sum().backward()
    p = logits.detach().softmax(1)[0, :, 0, 0]
    within = p[:2] / p[:2].sum()
    torch.testing.assert_close(logits.grad[0, :2, 0, 0], p[:2] - within)
    assert logits.grad[0, 2, 0, 0] > 0


def test_a_class_is_present_by_the_pixels_where_it_is_most_probable():
    """A tenth of 100 pixels is of the second class for certain, the others are of the first."""
    logits = torch.zeros(1, 2, 10, 10)
    logits[0, 0] = 20
    logits[0, :, 4] = torch.tensor([-20.0, 20.0])[:, None]
    got = top_share_logits(logits).sigmoid()
    torch.testing.assert_close(got, torch.ones(1, 2), atol=2e-4, rtol=0)
    logits[0, :, 4, 5:] = torch.tensor([20.0, -20.0])[:, None]
    half = top_share_logits(logits).sigmoid()
    torch.testing.assert_close(half, torch.tensor([[1.0, 0.5]]), atol=2e-4, rtol=0)


def test_an_image_of_a_single_place_tells_its_class_too():
    logits = torch.tensor([2.0, 0.0])[None, :, None, None]
    torch.testing.assert_close(
        top_share_logits(logits), torch.tensor([[2.0, -2.0]]), atol=1e-3, rtol=0
    )


def test_a_present_class_that_has_lost_all_its_pixels_is_still_drawn_back():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 10.0
    logits.requires_grad_()
    F.binary_cross_entropy_with_logits(top_share_logits(logits), torch.ones(1, 2)).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 1] < 0).any()


def test_certainty_keeps_finite_logits_and_gradients():
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0] = 1000
    logits.requires_grad_()
    found = top_share_logits(logits)
    F.binary_cross_entropy_with_logits(found, torch.tensor([[0.0, 1.0]])).backward()
    assert found.isfinite().all()
    assert logits.grad.isfinite().all()


def test_a_single_class_competes_with_the_rest():
    """Its logit is that of a choice between it and whatever else there is."""
    logits = torch.tensor([[1.0, -2.0]])[:, None, None]
    torch.testing.assert_close(class_shares(logits, rest=True), logits.sigmoid())
    present, absent, unknown = (
        partial_label_loss(logits, torch.tensor([[label]]), rest=True).item()
        for label in (1.0, 0.0, -1.0)
    )
    assert present == unknown == pytest.approx(0, abs=1e-6), "the rest may be in any image"
    assert absent == pytest.approx(float(F.softplus(logits).mean()))
    assert top_share_logits(logits, rest=True).item() == pytest.approx(1, abs=1e-3)


def test_a_class_without_a_prototype_claims_no_pixel_and_leaves_the_losses_finite():
    maps = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pixels = pixel_class_logits((maps,), (1,), torch.tensor([0, 2]), 3, Merge.MEAN)
    assert torch.isneginf(pixels[:, 1]).all()
    shares = class_shares(pixels)
    assert (shares[:, 1] == 0).all()
    torch.testing.assert_close(shares[:, [0, 2]], maps.softmax(1))
    labels = torch.tensor([[1, 0, 0], [0, 1, 0], [1, -1, 1], [0, 0, 1]]).float()
    of_pixels = partial_label_loss(pixels, labels)
    assert of_pixels[1].item() == pytest.approx(0, abs=1e-6), "what may be there has no prototype"
    present = top_share_logits(pixels)
    loss = of_pixels.sum() + F.binary_cross_entropy_with_logits(present, labels.clamp(min=0))
    loss.backward()
    assert loss.isfinite()
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().max() > 0
