"""What every model of this package is: images in, prototype maps at some stages out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_protoseg.network.competition import (
    pixel_class_logits,
    top_share_logits,
    without_prototype,
)
from napari_protoseg.network.reduction import Merge, merge_prototypes

STAGE_WEIGHTS = (0.3, 0.3, 0.4)
"""Of the stages in a class map (PBIP, arXiv 2503.12068); the last ones where there are fewer."""


INITIAL_SCALE = 1 / 0.07
"""Of a cosine, before training makes a logit of it."""


class MapModel(nn.Module, ABC):
    """A model from RGB images to prototype maps.

    Parameters
    ----------
    class_positions
        Position in the class schema of each prototype's class, ``(P,)``.
    classes
        Number of classes N.
    strides
        Pixels of the image for each pixel of the maps, stage by stage.
    competing
        Whether the model is trained to have the classes compete for each pixel; `has_rest` tells
        whether with the rest, since only one of them has prototypes.
    """

    decides_by_pixel = False
    """Whether it says of each pixel by itself what it is of, so that nothing has to tell first
    which classes the image holds."""

    class_positions: Tensor

    def __init__(
        self,
        class_positions: Sequence[int],
        classes: int,
        strides: Sequence[int],
        *,
        competing: bool = False,
    ) -> None:
        super().__init__()
        positions = torch.tensor(class_positions, dtype=torch.int64)
        self.register_buffer("class_positions", positions, persistent=False)
        self.classes = classes
        self.strides = tuple(strides)
        self.competing = competing
        self.has_rest = competing and len(set(class_positions)) < 2

    @property
    def coarsest(self) -> int:
        """Stride in pixels that all others divide, also those that give no maps of their own."""
        return max(self.strides)

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the prototype maps of each stage.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``, RGB in 0..1; H and W multiples of `coarsest`.

        Returns
        -------
        tuple of Tensor
            ``(B, P, H / stride, W / stride)`` for each of `strides`; unbounded.
        """

    def prototype_logits(self, maps: Tensor) -> Tensor:
        """Average the maps of a stage over their pixels: ``(B, P, h, w)`` to ``(B, P)``."""
        return maps.mean((2, 3))

    def class_logits(self, prototype_logits: Tensor) -> Tensor:
        """Average the logits of the prototypes of each class: ``(B, P)`` to ``(B, N)``."""
        return merge_prototypes(prototype_logits, self.class_positions, self.classes, Merge.MEAN)

    def pixel_logits(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Fuse the prototype maps of all stages to logits of each pixel, ``(B, N, h, w)``."""
        weights = STAGE_WEIGHTS[-len(maps) :]
        return pixel_class_logits(maps, weights, self.class_positions, self.classes, Merge.MEAN)

    def image_logits(self, maps: tuple[Tensor, ...], sounding: Tensor | None = None) -> Tensor:
        """Return the logits that each class is present, ``(B, N)``, from the maps of all stages.

        Parameters
        ----------
        maps
            Of each stage.
        sounding
            Numbers of the prototypes that count, int64; None for all. A class without one has
            minus infinity.
        """
        positions = self.class_positions
        if sounding is not None:
            positions = positions[sounding]
            maps = tuple(stage[:, sounding] for stage in maps)
        if self.competing:
            weights = STAGE_WEIGHTS[-len(maps) :]
            pixels = pixel_class_logits(maps, weights, positions, self.classes, Merge.MEAN)
            logits = top_share_logits(pixels, rest=self.has_rest)
        else:
            of_prototypes = self.prototype_logits(maps[-1])
            logits = merge_prototypes(of_prototypes, positions, self.classes, Merge.MEAN)
        return logits.masked_fill(without_prototype(positions, self.classes), -torch.inf)
