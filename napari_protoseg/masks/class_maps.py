"""From prototype maps of several stages to one set of class maps in 0..1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.masks.recipe import Normalisation
from napari_protoseg.network.competition import class_logits
from napari_protoseg.network.reduction import Merge, merge_prototypes

_TINY = 1e-6


def class_maps(
    maps: Sequence[Tensor],
    weights: Sequence[float],
    class_positions: Tensor,
    gate: Tensor,
    merge: Merge,
    size: tuple[int, int],
    normalisation: Normalisation,
) -> Tensor:
    """Turn the prototype maps of all stages into class maps of the image's size.

    Parameters
    ----------
    maps
        ``(B, P, h, w)`` of each stage, the finest first.
    weights
        Of the stages; only their ratios count.
    class_positions
        ``(P,)``.
    gate
        1 for a class that may appear in the image, 0 for one that may not, ``(B, N)``.
    merge
        How prototypes make a class.
    size
        Height and width of the result.
    normalisation
        How maps of different classes are made comparable.

    Returns
    -------
    Tensor
        ``(B, N, *size)`` in 0..1.
    """
    if normalisation is Normalisation.SOFTMAX:
        logits = class_logits(maps, weights, class_positions, gate.shape[1], merge)
        # A class without a prototype takes nothing from the others.
        without = torch.ones_like(gate, dtype=torch.bool)
        without[:, class_positions] = False
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        logits = logits.masked_fill(without[:, :, None, None], -torch.inf)
        return logits.softmax(1) * gate[:, :, None, None]
    stages = [
        stage_class_maps(stage, class_positions, gate, merge, size, normalisation) for stage in maps
    ]
    total = sum(weights)
    return fuse(stages, [weight / total for weight in weights])


def stage_class_maps(
    maps: Tensor,
    class_positions: Tensor,
    gate: Tensor,
    merge: Merge,
    size: tuple[int, int],
    normalisation: Normalisation = Normalisation.MIN_MAX,
) -> Tensor:
    """Turn the prototype maps of one stage into class maps of the image's size.

    Merged, normalised, classes that the gate excludes set to 0, and enlarged bilinearly with
    aligned corners (PBIP, arXiv 2503.12068).

    Parameters
    ----------
    maps
        ``(B, P, h, w)``.
    class_positions, gate, merge, size
        As for `class_maps`.
    normalisation
        One that takes each class by itself.

    Returns
    -------
    Tensor
        ``(B, N, *size)`` in 0..1.
    """
    merged = merge_prototypes(maps, class_positions, gate.shape[1], merge)
    scaled = _NORMALISATIONS[normalisation](merged) * gate[:, :, None, None]
    return F.interpolate(scaled, size, mode="bilinear", align_corners=True)


def fuse(stages: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum the class maps of the stages, weighted."""
    return torch.stack([w * s for w, s in zip(weights, stages, strict=True)]).sum(0)


def _min_max(maps: Tensor) -> Tensor:
    """Cut off negative values, then scale each map to 0..1."""
    positive = maps.relu()
    low, high = positive.amin((2, 3), keepdim=True), positive.amax((2, 3), keepdim=True)
    return (positive - low) / (high - low + _TINY)


_NORMALISATIONS: Mapping[Normalisation, Callable[[Tensor], Tensor]] = {
    Normalisation.MIN_MAX: _min_max,
    Normalisation.SIGMOID: torch.sigmoid,
}
