"""Maps without a trained backbone: similarity of frozen dense features to the prototypes.

All features of a network share a large common part, beside which what tells tissues apart is small.
It is taken off both sides before they are compared: what remains is a direction from the centre of
all features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_protoseg.encoders.encoder import FrozenEncoder
from napari_protoseg.network.maps import INITIAL_SCALE, MapModel


class EvidenceModel(MapModel):
    """Cosine, seen from a centre, of dense features to prototypes, times a scale, plus a bias.

    As it is made it is the frozen evidence, which needs no training: the centre is the mean of the
    prototypes, in which each class counts alike.

    Parameters
    ----------
    encoder
        Gives the dense features.
    prototypes
        ``(P, d)``; where the directions start.
    class_positions, classes, competing
        As for `MapModel`.
    """

    prototypes: Tensor
    centre: Tensor

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
        unit = F.normalize(prototypes, dim=1)
        of_classes = [unit[self.class_positions == c].mean(0) for c in sorted(set(class_positions))]
        self.register_buffer("centre", torch.stack(of_classes).mean(0))
        self.directions = nn.Parameter(self.seen_from_centre(prototypes))
        self.scale = nn.Parameter(torch.full((len(prototypes),), INITIAL_SCALE))
        self.bias = nn.Parameter(torch.zeros(len(prototypes)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the only stage."""
        return (self.maps_of(self.encoder.dense(images)),)

    def maps_of(self, dense: Tensor) -> Tensor:
        """Return the maps ``(B, P, h, w)`` of dense features ``(B, d, h, w)``."""
        positions = self.seen_from_centre(dense.flatten(2).transpose(1, 2))
        cosine = positions @ F.normalize(self.directions, dim=1).T
        maps = (self.scale * cosine + self.bias).transpose(1, 2)
        return maps.reshape(len(dense), -1, *dense.shape[2:])

    def seen_from_centre(self, features: Tensor) -> Tensor:
        """Return the directions of features ``(..., d)`` from the centre, of length 1."""
        return F.normalize(F.normalize(features, dim=-1) - self.centre, dim=-1)

    @torch.no_grad()
    def centre_on(self, centre: Tensor) -> None:
        """See from another centre ``(d,)``; the directions start at the prototypes again."""
        self.centre.copy_(centre)
        self.directions.copy_(self.seen_from_centre(self.prototypes))
