"""Backbones of the classification network: feature maps at four stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from napari_protoseg.encoders.registry import DEFAULT_ENCODER, licence_of
from napari_protoseg.encoders.weights import (
    Weights,
    load_weights_into,
    packaged_efficientnet_lite0,
)
from napari_protoseg.errors import WeightsError
from napari_protoseg.network.dilation import interleave_dilated
from napari_protoseg.network.mix_transformer import make_frugal

DEFAULT_BACKBONE = DEFAULT_ENCODER
_HEADS = ("conv_head", "bn2", "head", "fc", "classifier")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Backbone(nn.Module):
    """Feature maps of an image at stages 1 to 4, of strides 4, 8, 16 and 16.

    Statistics of batch normalisation stay as they were loaded: batches here are small, and a
    batch that is split for want of memory must give the same gradient.

    Parameters
    ----------
    features
        Module from a normalised image to a list that ends with the maps of the four stages.
    widths
        Channels of each stage.
    mean, std
        Of the input channels, for images in 0..1.
    """

    strides = (4, 8, 16, 16)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Module,
        widths: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.features = features
        self.widths = tuple(widths)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the four stages for RGB images ``(B, 3, H, W)`` in 0..1."""
        # Of depthwise kernels on a CPU those for this memory layout are the fast ones. In place:
        # of a large image each copy counts.
        normalised = images.contiguous(memory_format=torch.channels_last) - self.mean
        stages: list[Tensor] = self.features(normalised.div_(self.std))
        return stages[-4:]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but batch normalisation, which stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def create_backbone(name: str, weights: Weights | None = None) -> Backbone:
    """Make the backbone called `name`, without weights where none are given.

    Parameters
    ----------
    name
        ``mit_b1`` (of segmentation-models-pytorch), or a convolutional network of timm that
        offers an output stride of 16.
    weights
        Of the whole network; its classifier is left out.

    Raises
    ------
    WeightsError
        There is no such backbone, or the weights belong to another network.
    """
    backbone = _mix_transformer(name) if name.startswith("mit_b") else _convolutional(name)
    if weights is not None:
        load_weights_into(backbone.features, weights, without=_HEADS)
    interleave_dilated(backbone.features)
    make_frugal(backbone.features)
    return backbone


def pretrained_weights(name: str) -> Weights:
    """Return the weights of the backbone `name` that need no file of the user's.

    Raises
    ------
    WeightsError
        There are none: only the default backbone comes with weights.
    """
    if name == DEFAULT_BACKBONE:
        return packaged_efficientnet_lite0()
    raise WeightsError(
        "the weights of this backbone are not at hand, and nothing is downloaded",
        where=name,
        remedy="Get its ImageNet weights (safetensors, or a torch state dict) and name the file. "
        f"Licence: {licence_of(name).notice}",
        on_terminal="--backbone-weights FILE",
    )


def _mix_transformer(name: str) -> Backbone:
    if name not in smp.encoders.encoders:
        raise _unknown(name)
    encoder = smp.encoders.get_encoder(name, weights=None, depth=5, output_stride=16)
    return Backbone(encoder, encoder.out_channels[-4:], *_IMAGENET)


def _convolutional(name: str) -> Backbone:
    if not timm.is_model(name):
        raise _unknown(name)
    try:
        features = timm.create_model(
            name, pretrained=False, features_only=True, output_stride=16, out_indices=(1, 2, 3, 4)
        )
    except (TypeError, RuntimeError, AssertionError, IndexError) as error:
        raise _unknown(name) from error
    stages: Any = features.feature_info
    published: Any = features.pretrained_cfg
    if list(stages.reduction()) != list(Backbone.strides):
        raise _unknown(name)
    return Backbone(features, stages.channels(), published["mean"], published["std"])


def _unknown(name: str) -> WeightsError:
    return WeightsError(
        "not a backbone with stages of strides 4, 8, 16 and 16",
        where=name,
        remedy=f"Choose {DEFAULT_BACKBONE}, resnet50, mit_b1, or a like network of timm.",
    )
