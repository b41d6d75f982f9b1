"""Interleaving gives the numbers of the dilated convolution."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_networks import random
from torch import nn

from napari_protoseg.network.backbones import DEFAULT_BACKBONE
from napari_protoseg.network.dilation import InterleavedConv2d, interleave_dilated


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4), (3, 1), (1, 1)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (5, 2), (3, 3), (5, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_the_plain_convolution(
    size: tuple[int, int], kernel: int, dilation: int, bias: bool
):
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    plain = nn.Conv2d(
        4, 4, kernel, padding=padding, dilation=dilation, groups=4, bias=bias, dtype=torch.float64
    )
    both = nn.Sequential(plain)
    interleave_dilated(both)
    exchanged = both[0].double()
    assert isinstance(exchanged, InterleavedConv2d)

    results = []
    for convolution in (plain, exchanged):
        images = random(2, 4, *size).requires_grad_()
        out = convolution(images)
        (out * random(*out.shape, seed=1)).sum().backward()
        gradients = [images.grad, *(p.grad for p in convolution.parameters())]
        results.append([out, *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_default_backbone_keeps_its_numbers_and_its_names():
    torch.manual_seed(0)
    network = timm.create_model(
        DEFAULT_BACKBONE, pretrained=False, features_only=True, output_stride=16
    ).eval()
    names = list(network.state_dict())
    images = torch.rand(1, 3, 96, 80)
    with torch.no_grad():
        before = network(images)
        interleave_dilated(network)
        after = network(images)
    assert sum(isinstance(m, InterleavedConv2d) for m in network.modules()) >= 3
    assert list(network.state_dict()) == names
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 2, padding=2, dilation=2, groups=4),
    ],
    ids=["not dilated", "not depthwise", "more out", "strided", "shrinking", "even kernel"],
)
def test_other_convolutions_stay(convolution: nn.Conv2d):
    network = nn.Sequential(convolution)
    interleave_dilated(network)
    assert network[0] is convolution


def test_a_derived_convolution_stays():
    class Halved(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            return super().forward(input) / 2

    network = nn.Sequential(Halved(4, 4, 3, padding=2, dilation=2, groups=4))
    interleave_dilated(network)
    assert isinstance(network[0], Halved)
