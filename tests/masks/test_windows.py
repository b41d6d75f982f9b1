"""Maps of a large image, window by window, are those of one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.masks.windows import (
    DEFAULT_WINDOWS,
    Windows,
    pad_to_stride,
    prototype_maps,
    windows_of,
)
from napari_protoseg.network.backbones import (
    DEFAULT_BACKBONE,
    create_backbone,
    pretrained_weights,
)
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.maps import MapModel
from napari_protoseg.synthesis.tiles import synthesize_tile

WHOLE = Windows(core=10_000, halo=0)


class FourHalvings(MapModel):
    """Strided convolutions, and one more: what they see reaches 31 pixels to each side."""

    def __init__(self) -> None:
        super().__init__([0, 0, 1, 1], 2, (4, 16))
        torch.manual_seed(0)
        halving = [nn.Conv2d(3 if i == 0 else 4, 4, 3, stride=2, padding=1) for i in range(4)]
        self.fine = nn.Sequential(*halving[:2])
        self.coarse = nn.Sequential(*halving[2:], nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.fine(images)
        return fine, self.coarse(fine)


def network(name: str, *, pretrained: bool = False, seed: int = 0) -> PrototypeNetwork:
    torch.manual_seed(seed)
    backbone = create_backbone(name, pretrained_weights(name) if pretrained else None)
    positions = [0, 0, 1, 1, 2]
    return PrototypeNetwork(backbone, torch.randn(5, 64), positions, 3, cosine=False).eval()


def noise(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


@torch.inference_mode()
def farthest(model: MapModel, images: torch.Tensor, windows: Windows) -> float:
    """Largest difference between the maps in windows and those of one pass."""
    height, width = images.shape[2:]
    assert height * width > (windows.core + 2 * windows.halo) ** 2, "this would be one pass"
    pairs = zip(
        prototype_maps(model, images, windows), prototype_maps(model, images, WHOLE), strict=True
    )
    differences = []
    for ours, whole in pairs:
        assert ours.shape == whole.shape
        differences.append(float((ours - whole).abs().max()))
    return max(differences)


def test_the_documented_halo_covers_the_receptive_field_of_the_default_backbone():
    assert DEFAULT_WINDOWS.halo == 432
    model = network(DEFAULT_BACKBONE)
    assert farthest(model, noise(432, 3904), Windows(core=432, halo=432)) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pretrained", [False, True])
def test_the_documented_halo_suffices_in_both_directions(pretrained: bool):
    model = network(DEFAULT_BACKBONE, pretrained=pretrained)
    assert farthest(model, noise(784, 1456), Windows(core=192, halo=432)) < 1e-4
    assert farthest(model, noise(1456, 784), Windows(core=192, halo=432)) < 1e-4


def test_a_halo_of_64_does_not_suffice():
    assert farthest(network(DEFAULT_BACKBONE), noise(256, 320), Windows(core=64, halo=64)) > 0.1


@pytest.mark.parametrize("size", [(176, 320), (320, 176), (208, 224)])
@pytest.mark.parametrize("core", [16, 40, 64])
def test_windows_of_any_side_fit_together(size: tuple[int, int], core: int):
    assert farthest(FourHalvings(), noise(*size), Windows(core, halo=32)) < 1e-5
    assert farthest(FourHalvings(), noise(*size), Windows(core, halo=16)) > 1e-3


def test_an_image_of_a_single_window_is_one_pass():
    model = FourHalvings()
    with torch.inference_mode():
        ours = prototype_maps(model, noise(96, 96), Windows(core=64, halo=16))
        whole = model(noise(96, 96))
    assert all(torch.equal(a, b) for a, b in zip(ours, whole, strict=True))


def test_padding_repeats_the_edge_up_to_whole_strides():
    images = noise(33, 48)
    padded = pad_to_stride(images, 16)
    assert padded.shape == (1, 3, 48, 48)
    assert torch.equal(padded[:, :, :33], images)
    assert torch.equal(padded[:, :, 33:], images[:, :, 32:33].expand(-1, -1, 15, -1))
    assert pad_to_stride(padded, 16).shape == padded.shape


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_transformer_sees_an_image_whole_where_convolutions_would_need_windows():
    rows = [synthesize_tile(0, 0, tile, size=960).image for tile in range(4)]
    image = np.concatenate([np.concatenate(rows[:2], 1), np.concatenate(rows[2:], 1)])
    default = DEFAULT_WINDOWS
    assert image.shape[0] * image.shape[1] > (default.core + 2 * default.halo) ** 2
    model, recipe, device = network("mit_b1"), Recipe(flip=False), torch.device("cpu")
    ours, whole = (
        Predictor(model, (1, 2, 3), recipe, device, way).predict(image[None]).masks
        for way in (None, WHOLE)
    )
    assert len(np.unique(whole)) > 1
    assert (ours == whole).mean() >= 0.995


def test_only_images_above_16_megapixels_are_cut_for_a_transformer():
    windows = windows_of(network("mit_b1"))
    assert windows.core + 2 * windows.halo == 4096
    assert windows_of(network(DEFAULT_BACKBONE)) == DEFAULT_WINDOWS
