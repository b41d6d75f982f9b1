"""From prototype maps of several stages to one set of class maps in 0..1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.masks.recipe import Normalisation
from napari_protoseg.network.reduction import Merge, merge_prototypes

_TINY = 1e-6


def stage_class_maps(
    maps: Tensor,
    class_positions: Tensor,
    gate: Tensor,
    merge: Merge,
    normalisation: Normalisation = Normalisation.MIN_MAX,
) -> Tensor:
    """Turn the prototype maps of one stage into class maps.

    Merged, normalised, and classes that the gate excludes set to 0 (PBIP, arXiv 2503.12068).

    Parameters
    ----------
    maps
        ``(B, P, h, w)``.
    class_positions
        ``(P,)``.
    gate
        1 for a class that may appear in the image, 0 for one that may not, ``(B, N)``.
    merge
        How prototypes make a class.
    normalisation
        How maps of different classes are made comparable.

    Returns
    -------
    Tensor
        ``(B, N, h, w)`` in 0..1.
    """
    merged = merge_prototypes(maps, class_positions, gate.shape[1], merge)
    return _NORMALISATIONS[normalisation](merged) * gate[:, :, None, None]


def fuse(stages: Sequence[Tensor], weights: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Enlarge the class maps of the stages to one size and sum them, weighted.

    Bilinearly with aligned corners (PBIP, arXiv 2503.12068), and class by class: of a large image
    the result alone takes gigabytes.

    Parameters
    ----------
    stages
        ``(B, N, h, w)`` each, of any h and w.
    weights
        Of each stage.
    size
        Height and width of the result.

    Returns
    -------
    Tensor
        ``(B, N, *size)``.
    """
    fused = stages[0].new_zeros(*stages[0].shape[:2], *size)
    for stage, weight in zip(stages, weights, strict=True):
        for n in range(stage.shape[1]):
            share = weight * stage[:, n : n + 1]
            fused[:, n : n + 1] += F.interpolate(share, size, mode="bilinear", align_corners=True)
    return fused


def _min_max(maps: Tensor) -> Tensor:
    """Cut off negative values, then scale each map to 0..1."""
    positive = maps.relu()
    low, high = positive.amin((2, 3), keepdim=True), positive.amax((2, 3), keepdim=True)
    return (positive - low) / (high - low + _TINY)


_NORMALISATIONS: Mapping[Normalisation, Callable[[Tensor], Tensor]] = {
    Normalisation.MIN_MAX: _min_max,
    Normalisation.SIGMOID: torch.sigmoid,
}
