"""How far a network sees is measured, and what sees the whole image is told."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from napari_protoseg.encoders.context import reach
from napari_protoseg.encoders.encoder import last_feature_map
from napari_protoseg.encoders.weights import packaged_efficientnet_lite0
from napari_protoseg.network.backbones import create_backbone

CPU = torch.device("cpu")


class Encoder(nn.Module):
    """A model of timm, from images to its last feature map."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = timm.create_model(name, num_classes=0, **ARGUMENTS.get(name, {}))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.dropout(last_feature_map(self.model, images))]


ARGUMENTS = {"vit_base_patch16_xp_224": {"dynamic_img_size": True, "depth": 2}}


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "resnet50_gn",
        "resnetv2_50x1_bit",
        "vit_base_patch16_xp_224",
        "convnextv2_nano",
        "poolformer_s12",
        "hgnet_tiny",
        "efficientvit_b0",
    ],
)
def test_what_sees_the_whole_image_is_told(name: str):
    assert reach(Encoder(name), 32, CPU) is None


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100", "test_resnet"]
)
def test_what_sees_a_neighbourhood_is_told(name: str):
    assert reach(Encoder(name), 32, CPU) is not None


def test_a_backbone_is_measured_as_an_encoder_is():
    assert reach(create_backbone("mit_b1"), 16, CPU) is None
    assert reach(create_backbone("resnet50"), 16, CPU) is not None


class Shifted(nn.Module):
    """Adds to each place of 4 pixels the one that lies `pixels` to its right, or to its left."""

    def __init__(self, pixels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.places, self.gain = pixels // 4, gain

    def forward(self, images: Tensor) -> list[Tensor]:
        places = images[..., ::4, ::4]
        shifted = torch.zeros_like(places)
        if self.places > 0:
            shifted[..., : -self.places] = places[..., self.places :]
        else:
            shifted[..., -self.places :] = places[..., : self.places]
        return [places[..., ::4, ::4], places + self.gain * shifted]


@pytest.mark.parametrize("pixels", [-800, -400, 16, 400, 800])
def test_the_reach_is_measured_in_both_directions(pixels: int):
    assert reach(Shifted(pixels), 16, CPU) == abs(pixels)


def test_the_farthest_of_all_maps_counts_and_too_far_is_all_of_the_image():
    assert reach(Shifted(4000 // 4), 16, CPU) is None


def test_what_changes_less_than_rounding_does_not_count():
    assert reach(Shifted(400, gain=1e-7), 16, CPU) == 0


def test_weights_decide_where_the_type_does_not():
    module = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), Mean())
    assert reach(Listed(module), 4, CPU) is None
    module[1].gain = 0.0
    assert reach(Listed(module), 4, CPU) == 0


class Mean(nn.Module):
    """Adds its mean over all positions to each map."""

    gain = 1.0

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.gain * maps.mean((2, 3), keepdim=True)


class Listed(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.module(images)]


def test_measuring_changes_neither_the_modes_nor_the_random_generator():
    encoder = Encoder("test_resnet")
    encoder.train()
    encoder.model.layer1.eval()
    modes = {name: module.training for name, module in encoder.named_modules()}
    assert len(set(modes.values())) == 2
    statistics = {name: value.clone() for name, value in encoder.named_buffers()}
    state = torch.get_rng_state()
    assert reach(encoder, 32, CPU) is not None
    assert {name: module.training for name, module in encoder.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, statistics[name]) for name, value in encoder.named_buffers())


@torch.inference_mode()
def test_what_is_said_of_the_default_is_what_it_does():
    features = create_backbone("tf_efficientnet_lite0", packaged_efficientnet_lite0()).eval()
    measured = reach(features, 16, CPU)
    assert 300 < measured <= 432
    images = torch.rand(1, 3, 96, 1536, generator=torch.Generator().manual_seed(1))
    changed = images.clone()
    changed[..., -64:] = 1
    for before, after in zip(features(images), features(changed), strict=True):
        columns = before.shape[3] * (1536 - 64 - measured) // 1536
        assert torch.allclose(before[..., :columns], after[..., :columns], atol=1e-4)
