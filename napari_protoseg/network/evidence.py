"""Maps without a trained backbone: similarity of frozen dense features to the prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_protoseg.encoders.encoder import FrozenEncoder
from napari_protoseg.network.maps import MapModel


class EvidenceModel(MapModel):
    """Cosine of each dense feature to each prototype, times a scale, plus a bias.

    With scale 1 and bias 0 this is the frozen evidence, which needs no training.

    Parameters
    ----------
    encoder
        Gives the dense features.
    prototypes
        ``(P, d)``; fixed.
    class_positions, classes, competing
        As for `MapModel`.
    """

    prototypes: Tensor

    def __init__(
        self,
        encoder: FrozenEncoder,
        prototypes: Tensor,
        class_positions: Sequence[int],
        classes: int,
        *,
        competing: bool = False,
    ) -> None:
        super().__init__(class_positions, classes, [encoder.stride], competing=competing)
        self.encoder = encoder
        self.register_buffer("prototypes", prototypes)
        self.scale = nn.Parameter(torch.ones(len(prototypes)))
        self.bias = nn.Parameter(torch.zeros(len(prototypes)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the only stage."""
        return (self.maps_of(self.encoder.dense(images)),)

    def maps_of(self, dense: Tensor) -> Tensor:
        """Return the maps ``(B, P, h, w)`` of dense features ``(B, d, h, w)``."""
        return self.scale[:, None, None] * self.cosine_maps(dense) + self.bias[:, None, None]

    def cosine_maps(self, dense: Tensor) -> Tensor:
        """Return the cosine of each position of ``(B, d, h, w)`` to each prototype."""
        return torch.einsum(
            "bdhw,pd->bphw", F.normalize(dense, dim=1), F.normalize(self.prototypes, dim=1)
        )
