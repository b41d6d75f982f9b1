"""The prototype network: class activation maps that are similarities to a bank of prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_protoseg.network.backbones import Backbone
from napari_protoseg.network.maps import INITIAL_SCALE, MapModel

STAGES = (1, 2, 3)
"""The stages that give maps, counted from 0: the first has weight 0 in loss and recipe."""


def adapter(width: int, stage_width: int) -> nn.Sequential:
    """Make the network that brings a prototype of `width` to the `stage_width` of a stage."""
    hidden = max(width // 2, 1)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, stage_width))


class PrototypeNetwork(MapModel):
    """Maps ``g_s <E_s(p) / |E_s(p)|, A_s(l_k)>`` of stages s, pixels p and prototypes k.

    PBIP, arXiv 2503.12068: E the backbone, A an adapter for each stage, l the prototypes, g a
    learnable scale.

    Where classes compete, pixels are seen from a centre, which is taken off ``E / |E|`` before the
    cosine: features of a network share a large common part, beside which what tells tissues apart
    is small. `centre_on` finds it, before training. Each prototype then has a bias, too.

    Parameters
    ----------
    backbone
        Gives E.
    prototypes
        ``(P, d)``; fixed.
    class_positions, classes, competing
        As for `MapModel`.
    cosine
        Normalise the adapted prototype too, so that a map is a scaled cosine.
    """

    prototypes: Tensor

    def __init__(
        self,
        backbone: Backbone,
        prototypes: Tensor,
        class_positions: Sequence[int],
        classes: int,
        *,
        cosine: bool,
        competing: bool = False,
    ) -> None:
        strides = [backbone.strides[s] for s in STAGES]
        super().__init__(class_positions, classes, strides, competing=competing)
        self.backbone = backbone
        self.cosine = cosine
        self.register_buffer("prototypes", prototypes)
        width = prototypes.shape[1]
        self.adapters = nn.ModuleList(adapter(width, backbone.widths[s]) for s in STAGES)
        self.scales = nn.Parameter(torch.full((len(STAGES),), INITIAL_SCALE))
        if competing:
            for number, stage in enumerate(STAGES):
                self.register_buffer(f"centre_{number}", torch.zeros(backbone.widths[stage]))
            self.biases = nn.Parameter(torch.zeros(len(prototypes)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the prototype maps of the last three stages."""
        features = self.backbone(images)
        maps = []
        for number, stage in enumerate(STAGES):
            adapted = self.adapters[number](self.prototypes)
            if self.cosine:
                adapted = F.normalize(adapted, dim=1)
            pixels = F.normalize(features[stage], dim=1)
            if self.competing:
                centre = self.get_buffer(f"centre_{number}")
                pixels = F.normalize(pixels - centre[:, None, None], dim=1)
            of_stage = self.scales[number] * torch.einsum("bchw,pc->bphw", pixels, adapted)
            maps.append(of_stage + self.biases[:, None, None] if self.competing else of_stage)
        return tuple(maps)

    def mean_directions(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the mean of ``E / |E|`` over the pixels of each image, ``(B, C_s)`` a stage.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``.
        """
        features = self.backbone(images)
        return tuple(F.normalize(features[s].float(), dim=1).mean((2, 3)) for s in STAGES)

    @torch.no_grad()
    def centre_on(self, directions: Sequence[Tensor], weights: Tensor) -> None:
        """See pixels from the weighted mean of those of some images.

        Parameters
        ----------
        directions
            As `mean_directions` gives them, of at least one image.
        weights
            Of these images, ``(B,)``.
        """
        share = weights / weights.sum()
        for number, of_stage in enumerate(directions):
            self.get_buffer(f"centre_{number}").copy_(share @ of_stage)
