"""Maps of a large image, window by window, are those of one pass."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

from napari_protoseg.encoders.encoder import empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import ImageError
from napari_protoseg.masks import windows as windows_module
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import REFERENCE
from napari_protoseg.masks.windows import (
    DEFAULT_WINDOWS,
    WideWindows,
    Windows,
    pad_to_stride,
    padded_size,
    prototype_maps,
    windows_of,
)
from napari_protoseg.network.backbones import (
    DEFAULT_BACKBONE,
    create_backbone,
    pretrained_weights,
)
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
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
    assert height * width > windows.pixels, "this would be one pass"
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


class FarSeeing(MapModel):
    """Looks 512 pixels to each side of a place of 16."""

    def __init__(self) -> None:
        super().__init__([0], 1, (16,))
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 2, 16, stride=16), nn.Conv2d(2, 1, 3, padding=32, dilation=32)
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.layers(images),)


@torch.inference_mode()
def test_the_halo_is_as_wide_as_the_model_is_measured_to_see():
    model, images = FarSeeing(), noise(2096, 2096)
    assert windows_of(model) == Windows(halo=512)
    assert windows_of(network(DEFAULT_BACKBONE, pretrained=True)) == DEFAULT_WINDOWS
    assert images.shape[2] * images.shape[3] > Windows(halo=512).pixels
    (whole,) = prototype_maps(model, images, WHOLE)
    assert torch.allclose(prototype_maps(model, images)[0], whole, atol=1e-5)
    assert not torch.allclose(prototype_maps(model, images, DEFAULT_WINDOWS)[0], whole, atol=1e-3)


def evidence(name: str, width: int, stride: int = 16) -> EvidenceModel:
    identity = EncoderIdentity(
        name=name,
        weights_sha256="0" * 64,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        width=width,
        stride=stride,
        licence="none",
    )
    return EvidenceModel(empty_encoder(identity), torch.randn(4, width), range(4), 4)


TRANSFORMERS = [
    network("mit_b1"),
    PlainCam(create_backbone("mit_b1"), 2),
    evidence("vit_tiny_patch16_224", 192),
    evidence("swin_tiny_patch4_window7_224", 768, stride=32),
]


@pytest.mark.parametrize("model", TRANSFORMERS)
def test_transformers_take_any_image_in_one_pass(model: MapModel):
    assert windows_of(model) is None


@pytest.mark.parametrize(("model", "needed"), [(TRANSFORMERS[0], 100), (TRANSFORMERS[2], 300)])
def test_an_image_for_which_there_is_not_the_memory_is_refused(
    model: MapModel, needed: int, monkeypatch: pytest.MonkeyPatch
):
    images = torch.zeros(()).expand(1, 3, 32768, 32768)
    monkeypatch.setattr(model, "forward", lambda _: "computed")
    monkeypatch.setattr(windows_module, "_physical_memory", lambda: needed * 2**30)
    assert prototype_maps(model, images) == "computed"
    monkeypatch.setattr(windows_module, "_physical_memory", lambda: needed * 2**30 - 1)
    with pytest.raises(ImageError, match=f"about {needed} GB for 32768 x 32768 px"):
        prototype_maps(model, images)
    monkeypatch.setattr(windows_module, "_physical_memory", lambda: None)
    assert prototype_maps(model, images) == "computed"


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="this system does not tell")
def test_the_memory_of_this_machine_is_known():
    memory = windows_module._physical_memory()
    assert memory is not None
    assert 2**28 < memory < 2**50


def test_a_network_that_takes_the_mean_of_the_whole_image_sees_much_of_it_at_once():
    windows = windows_of(evidence("seresnet18", 512))
    assert windows == WideWindows(4096)
    assert windows.pixels == 4096**2


@pytest.mark.parametrize(
    "model",
    [
        network("resnet18"),
        PlainCam(create_backbone("resnet18"), 2),
        evidence("tf_efficientnet_lite0", 320),
    ],
    ids=lambda model: type(model).__name__,
)
def test_any_model_of_limited_sight_is_cut_finely(model: MapModel):
    assert windows_of(model) == DEFAULT_WINDOWS


SIZES = [(4097, 4097), (1000, 16790), (6465, 6465), (9000, 9000), (33, 600_000), (20_000, 3333)]


@pytest.mark.parametrize("stride", [14, 16, 32])
@pytest.mark.parametrize("size", SIZES)
def test_windows_of_one_size_see_as_much_as_allowed_round_what_is_kept(
    size: tuple[int, int], stride: int
):
    windows = WideWindows()
    padded = padded_size(*size, stride)
    axes = windows.cut(*padded, stride)
    sides = []
    for length, spans in zip(padded, axes, strict=True):
        (side,) = {span.last - span.first for span in spans}
        sides.append(side)
        assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
        assert spans[-1].end == length
        for span in spans:
            assert 0 <= span.first <= span.start < span.end <= span.last <= length
            assert span.first % stride == span.last % stride == 0
            assert span.start - span.first >= min(span.start, 512)
            assert span.last - span.end >= min(length - span.end, 512)
    grown = [
        (side + stride) * other
        for side, other, length in zip(sides, reversed(sides), padded, strict=True)
        if side < length
    ]
    assert sides[0] * sides[1] <= windows.pixels < min(grown)


@pytest.mark.parametrize(
    ("size", "windows"),
    [((4112, 4112), 2), ((1008, 16800), 2), ((6480, 6480), 4), ((16, 1_048_592), 2)],
)
def test_an_image_is_cut_only_as_far_as_its_area_asks(size: tuple[int, int], windows: int):
    rows, columns = WideWindows().cut(*size, 16)
    assert len(rows) * len(columns) == windows


def test_what_is_left_of_the_area_is_seen_in_both_directions():
    rows, columns = WideWindows().cut(6480, 6480, 16)
    assert {span.last - span.first for span in rows + columns} == {4096}


@pytest.mark.parametrize("size", [(176, 320), (320, 176), (208, 224), (16, 2048)])
def test_wide_windows_put_every_pixel_in_its_place(size: tuple[int, int]):
    model, images = PlaceModel(), noise(*size)
    whole = prototype_maps(model, images, WHOLE)
    cut = prototype_maps(model, images, WideWindows(side=128))
    assert all(torch.equal(a, b) for a, b in zip(cut, whole, strict=True))


class PlaceModel(MapModel):
    """Shows some of the pixels as they are."""

    def __init__(self) -> None:
        super().__init__([0, 0, 0], 1, (4, 16))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return images[:, :, ::4, ::4], images[:, :, ::16, ::16]


def tissue(height: int, width: int, tile: int) -> np.ndarray:
    rows, columns = -(-height // tile), -(-width // tile)
    tiles = [synthesize_tile(0, 0, n, size=tile).image for n in range(rows * columns)]
    whole = [np.concatenate(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    return np.concatenate(whole)[:height, :width]


@pytest.mark.slow
@torch.inference_mode()
def test_a_transformer_sees_an_image_whole_where_convolutions_would_need_windows():
    image = tissue(1920, 1920, 960)
    assert image.shape[0] * image.shape[1] > DEFAULT_WINDOWS.pixels
    model = network("mit_b1")
    # The recipe of the released code: in it random weights give masks of several classes.
    recipe = REFERENCE.model_copy(update={"flip": False, "intensities": (1.0,)})
    whole, usual = (
        Predictor(model, (1, 2, 3), recipe, torch.device("cpu"), windows).predict(image[None]).masks
        for windows in (WHOLE, None)
    )
    assert np.bincount(whole.ravel()).max() < 0.97 * whole.size, "any masks would agree"
    assert np.array_equal(usual, whole)
