"""What every model of this package is: images in, prototype maps at some stages out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_protoseg.network.reduction import Merge, merge_prototypes


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
    """

    class_positions: Tensor

    def __init__(
        self,
        class_positions: Sequence[int],
        classes: int,
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        positions = torch.tensor(class_positions, dtype=torch.int64)
        self.register_buffer("class_positions", positions, persistent=False)
        self.classes = classes
        self.strides = tuple(strides)

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the prototype maps of each stage.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``, RGB in 0..1; H and W multiples of the largest stride.

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
