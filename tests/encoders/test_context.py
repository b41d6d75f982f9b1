"""Networks that see the whole image are told from those that see a neighbourhood."""

from __future__ import annotations

import pytest
import timm
import torch

from napari_protoseg.encoders.context import sees_whole_image
from napari_protoseg.network.backbones import create_backbone


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tf_efficientnet_lite0", False),
        ("resnet18", False),
        ("efficientnet_b0", True),
        ("vit_tiny_patch16_224", True),
        ("swin_tiny_patch4_window7_224", True),
    ],
)
def test_encoders_are_told_apart(name: str, expected: bool):
    assert sees_whole_image(timm.create_model(name)) is expected


def test_a_transformer_as_backbone_says_so():
    assert create_backbone("mit_b1").sees_whole_image
    assert not create_backbone("resnet50").sees_whole_image


@torch.inference_mode()
def test_what_is_said_of_the_default_is_what_it_does():
    features = create_backbone("tf_efficientnet_lite0").eval()
    images = torch.rand(1, 3, 64, 1536, generator=torch.Generator().manual_seed(0))
    changed = images.clone()
    changed[..., -64:] = 0
    for before, after in zip(features(images), features(changed), strict=True):
        columns = before.shape[3] // 3
        assert torch.allclose(before[..., :columns], after[..., :columns], atol=1e-6)
