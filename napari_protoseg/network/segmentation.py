"""The segmentation network of the second stage: a backbone, and a decoder that labels each pixel.

Decoders are those of segmentation-models-pytorch. Batch normalisation within them is exchanged for
a normalisation of each place over its channels (Ba et al. 2016, arXiv 1607.06450): batches here
are small, the last one of an epoch may be a single image, and a batch that is split for want of
memory must give the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from napari_protoseg.network.backbones import Backbone
from napari_protoseg.network.dilation import interleave_dilated
from napari_protoseg.network.maps import MapModel

_WIDTH = 256
_RATES = (6, 12, 18)
"""Dilations for features of stride 16 (Chen et al. 2018, arXiv 1802.02611)."""


class Decoder(StrEnum):
    """How the features of four stages become one map."""

    DEEPLABV3PLUS = "deeplabv3+"
    """Dilated convolutions of several reaches over the last stage, joined to the first one."""
    SEGFORMER = "segformer"
    """All stages, each projected by itself, enlarged and mixed."""


class SegmentationNetwork(MapModel):
    """Logits of the classes at each fourth pixel, that are to compete.

    Each class is its own single prototype.

    Parameters
    ----------
    backbone
        Gives the features of four stages.
    decoder
        What is made of them.
    classes
        Number of classes N.
    """

    decides_by_pixel = True

    def __init__(self, backbone: Backbone, decoder: Decoder, classes: int) -> None:
        super().__init__(range(classes), classes, backbone.strides[:1], competing=True)
        self.backbone = backbone
        self.decoder = _DECODERS[decoder](backbone.widths)
        _normalise_places(self.decoder)
        interleave_dilated(self.decoder)
        # A decoder of DeepLabV3+ takes those of strides 1 and 2 as well, and uses neither.
        self._unused = 2 if decoder is Decoder.DEEPLABV3PLUS else 1
        self.classifier = nn.Conv2d(_WIDTH, classes, 1)

    @property
    def coarsest(self) -> int:
        """Stride of the deepest features, which the decoder joins to those of the first stage."""
        return self.backbone.strides[-1]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits ``(B, N, H / 4, W / 4)``."""
        features = [images] * self._unused + self.backbone(images)
        return (self.classifier(self.decoder(features)),)


def _deeplabv3plus(widths: tuple[int, ...]) -> nn.Module:
    decoder: nn.Module = DeepLabV3PlusDecoder(
        encoder_channels=(3, 3, *widths),
        encoder_depth=5,
        out_channels=_WIDTH,
        atrous_rates=_RATES,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.0,
    )
    # Not corner on corner: what is seen where must not depend on how large an image is.
    decoder.up = nn.Upsample(scale_factor=4, mode="bilinear")
    return decoder


def _segformer(widths: tuple[int, ...]) -> nn.Module:
    decoder: nn.Module = SegformerDecoder(
        encoder_channels=[3, *widths], encoder_depth=len(widths), segmentation_channels=_WIDTH
    )
    return decoder


_DECODERS: Mapping[Decoder, Callable[[tuple[int, ...]], nn.Module]] = {
    Decoder.DEEPLABV3PLUS: _deeplabv3plus,
    Decoder.SEGFORMER: _segformer,
}


def _normalise_places(module: nn.Module) -> None:
    """Exchange, in place, every batch normalisation within `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, LayerNorm2d(child.num_features))
        else:
            _normalise_places(child)
