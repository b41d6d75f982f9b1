"""The network of the second stage: its backbone, its decoders, and what it needs no label for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_networks import TINY
from torch import nn

from napari_protoseg.encoders.context import reach
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.masks.windows import DEFAULT_WINDOWS, Windows, prototype_maps
from napari_protoseg.network.backbones import (
    DEFAULT_BACKBONE,
    create_backbone,
    pretrained_weights,
)
from napari_protoseg.network.build import create_model
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.network.segmentation import Decoder, SegmentationNetwork
from napari_protoseg.schema import ClassSchema

CPU = torch.device("cpu")


def tiny(decoder: Decoder, classes: int = 3) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(create_backbone(TINY), decoder, classes)


@pytest.mark.parametrize("decoder", Decoder)
def test_it_gives_a_logit_of_each_class_at_each_fourth_pixel(decoder: Decoder):
    (logits,) = tiny(decoder)(torch.rand(2, 3, 64, 96))
    assert logits.shape == (2, 3, 16, 24)


@pytest.mark.parametrize("decoder", Decoder)
def test_masks_are_of_images_of_any_size(decoder: Decoder):
    image = np.random.default_rng(0).integers(0, 255, (1, 75, 93, 3)).astype(np.uint8)
    assert Predictor(tiny(decoder), (1, 2, 3), Recipe(), CPU).predict(image).masks.shape == (
        1,
        75,
        93,
    )


@torch.inference_mode()
def test_maps_in_windows_are_those_of_the_whole_image():
    torch.manual_seed(0)
    network = SegmentationNetwork(create_backbone(DEFAULT_BACKBONE), Decoder.SEGFORMER, 2).eval()
    images = torch.rand(1, 3, 64, 1600, generator=torch.Generator().manual_seed(0))
    (whole,) = prototype_maps(network, images, Windows(core=10_000, halo=0))
    # Neither side of a window is a multiple of the deepest stride: features must not be shifted.
    (parts,) = prototype_maps(network, images, Windows(core=100, halo=DEFAULT_WINDOWS.halo + 4))
    assert torch.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize("decoder", Decoder)
def test_an_image_is_trained_on_alike_alone_and_beside_others(decoder: Decoder):
    network = tiny(decoder).train()
    images = torch.rand(3, 3, 64, 64)
    (together,) = network(images)
    (alone,) = network(images[:1])
    assert torch.allclose(together[:1], alone, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.decoder.modules())


def test_its_encoder_is_the_backbone_of_the_project_with_the_packaged_weights():
    weights = pretrained_weights(DEFAULT_BACKBONE)
    record = ModelRecord(
        kind=ModelKind.SEGMENTATION,
        classes=ClassSchema.from_names(["tumour", "stroma"]),
        class_positions=(0, 1),
        backbone=DEFAULT_BACKBONE,
        decoder=Decoder.DEEPLABV3PLUS,
    )
    network = create_model(record, backbone_weights=weights)
    assert isinstance(network, SegmentationNetwork)
    backbone = create_backbone(DEFAULT_BACKBONE, weights)
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(network.eval().backbone(image), backbone.eval()(image), strict=True):
        assert torch.equal(ours, theirs)


def test_what_pools_the_whole_image_is_known_to_see_all_of_it():
    assert reach(tiny(Decoder.DEEPLABV3PLUS), 4, CPU) is None


def test_pixels_may_be_of_any_class_whatever_the_image_as_a_whole_seems_to_hold():
    network = tiny(Decoder.SEGFORMER)
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    free, predicted = (
        Predictor(network, (1, 2, 3), Recipe(labels=labels), CPU).predict(image)
        for labels in (LabelCondition.NONE, LabelCondition.PREDICTED)
    )
    assert np.array_equal(free.masks, predicted.masks)
    assert (predicted.class_maps.min((0, 2, 3)) > 0).all()


def test_a_given_label_still_excludes_classes():
    network = tiny(Decoder.SEGFORMER)
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    label = np.array([[0, 1, 0]], dtype=np.int8)
    given = Predictor(network, (1, 2, 3), Recipe(labels=LabelCondition.GIVEN), CPU)
    assert (given.predict(image, label).masks == 2).all()
