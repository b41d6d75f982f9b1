"""From prototype maps of several stages to one set of class maps in 0..1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.masks.recipe import Normalisation
from napari_protoseg.network.competition import class_shares, pixel_class_logits
from napari_protoseg.network.reduction import Merge, merge_prototypes

PRESENCE_POWER = 4.0
"""Of the probability that a class is in the image, by which its pixels are weighed."""

_TINY = 1e-6


def coarse_class_maps(
    maps: Sequence[Tensor],
    weights: Sequence[float],
    class_positions: Tensor,
    gate: Tensor,
    merge: Merge,
    normalisation: Normalisation,
    *,
    rest: bool = False,
) -> list[tuple[Tensor, float]]:
    """Turn the prototype maps of all stages into class maps, each with its share in the result.

    Parameters
    ----------
    maps
        ``(B, P, h, w)`` of each stage, the finest first.
    weights
        Of the stages; only their ratios count.
    class_positions
        ``(P,)``.
    gate
        1 for a class that may appear in the image, 0 for one that may not, ``(B, N)``; between
        the two a class is the less probable at each pixel.
    merge
        How prototypes make a class.
    normalisation
        How maps of different classes are made comparable.
    rest
        Whether classes that share each pixel share it with the rest, as for `class_shares`.

    Returns
    -------
    list of Tensor and float
        ``(B, N, h, w)`` in 0..1, of each stage or of all fused; shares that sum to 1.
    """
    if normalisation is Normalisation.SOFTMAX:
        logits = pixel_class_logits(maps, weights, class_positions, gate.shape[1], merge)
        return [(class_shares(logits, rest=rest) * gate[:, :, None, None], 1.0)]
    total = sum(weights)
    return [
        (stage_class_maps(stage, class_positions, gate, merge, normalisation), weight / total)
        for stage, weight in zip(maps, weights, strict=True)
    ]


def soft_gate(logits: Tensor, *, rest: bool = False) -> Tensor:
    """Weigh classes by how probable it is that they are in the image, ``(B, N)`` in 0..1.

    A pixel alone tells classes apart less well than the image as a whole does. So its
    probabilities are multiplied by a power of those of the image; the most probable class keeps
    its own.

    Parameters
    ----------
    logits
        That each class is present, ``(B, N)``.
    rest
        Whether there is the rest, too, which is as probable as that no class is present.
    """
    powers = PRESENCE_POWER * F.logsigmoid(logits)
    highest = powers.amax(1, keepdim=True)
    if rest:
        of_rest = PRESENCE_POWER * F.logsigmoid(-logits.amax(1, keepdim=True))
        highest = torch.maximum(highest, of_rest)
    return (powers - highest).exp()


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
    class_positions, gate, merge
        As for `coarse_class_maps`.
    normalisation
        One that takes each class by itself.

    Returns
    -------
    Tensor
        ``(B, N, h, w)`` in 0..1.
    """
    merged = merge_prototypes(maps, class_positions, gate.shape[1], merge)
    return _NORMALISATIONS[normalisation](merged) * gate[:, :, None, None]


def fuse(
    stages: Sequence[Tensor],
    weights: Sequence[float],
    size: tuple[int, int],
    *,
    align_corners: bool = True,
) -> Tensor:
    """Enlarge the class maps of the stages to one size and sum them, weighted.

    Bilinearly, and class by class: of a large image the result alone takes gigabytes.

    Parameters
    ----------
    stages
        ``(B, N, h, w)`` each, of any h and w.
    weights
        Of each stage.
    size
        Height and width of the result.
    align_corners
        Whether the middles of the outermost places come to lie on those of the outermost pixels, as
        in the released code (PBIP, arXiv 2503.12068), or the edges on the edges, where they belong.

    Returns
    -------
    Tensor
        ``(B, N, *size)``.
    """
    fused = stages[0].new_zeros(*stages[0].shape[:2], *size)
    for stage, weight in zip(stages, weights, strict=True):
        for n in range(stage.shape[1]):
            share = weight * stage[:, n : n + 1]
            fused[:, n : n + 1] += F.interpolate(
                share, size, mode="bilinear", align_corners=align_corners
            )
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
