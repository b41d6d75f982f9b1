"""Classes that compete for each pixel, and what an image-level label says of such pixels.

A pixel of tissue is of one class. So the class maps of an image, fused over the stages, are the
logits of a softmax over the classes, and an image-level label speaks of every pixel: it is of one
of the classes that the label does not exclude (learning from partial labels, Cour, Sapp and Taskar
2011, Journal of Machine Learning Research 12). A tile of a single class is labelled in full by
that; in a mixed one each pixel is left to the classes that are there. That a present class has
some of the pixels is said by the mean over those where it is most probable.

A class without a prototype claims no pixel: its logit is minus infinity. A class that would thus be
alone competes with the rest, which is whatever else there may be, in any image: its logit is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.network.reduction import Merge, merge_prototypes

TOP_SHARE = 0.1
"""Part of the pixels that decides whether a class is present: the most probable ones."""

_LEAST = 1e-4
"""How near to 0 and 1 a probability comes that a class is present: a gradient of at most 10,000,
and never of 0, which would leave a present class that has lost all its pixels without any."""


def fuse_stages(maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum the maps of several stages, weighted, at the size of the first and finest.

    Parameters
    ----------
    maps
        ``(B, P, h, w)``, h and w of each stage its own.
    weights
        One of each stage; only their ratios count.
    """
    size = maps[0].shape[2:]
    total = sum(weights)
    fused = maps[0] * (weights[0] / total)
    for stage, weight in zip(maps[1:], weights[1:], strict=True):
        fused = fused + (weight / total) * F.interpolate(
            stage, size, mode="bilinear", align_corners=False
        )
    return fused


def pixel_class_logits(
    maps: Sequence[Tensor],
    weights: Sequence[float],
    class_positions: Tensor,
    classes: int,
    merge: Merge,
) -> Tensor:
    """Return the logits ``(B, N, h, w)`` of each pixel from the prototype maps of all stages.

    Parameters
    ----------
    maps, weights
        As for `fuse_stages`.
    class_positions, classes, merge
        As for `merge_prototypes`; a class without a prototype has minus infinity everywhere.
    """
    merged = merge_prototypes(fuse_stages(maps, weights), class_positions, classes, merge)
    without = without_prototype(class_positions, classes)
    return merged.masked_fill(without[:, None, None], -torch.inf)


def without_prototype(class_positions: Tensor, classes: int) -> Tensor:
    """Tell which classes have no prototype: boolean ``(N,)``."""
    without = torch.ones(classes, dtype=torch.bool, device=class_positions.device)
    without[class_positions] = False
    return without


def class_shares(pixel_logits: Tensor, *, rest: bool = False) -> Tensor:
    """Return the probability of each class at each pixel, ``(B, N, h, w)``.

    Parameters
    ----------
    pixel_logits
        ``(B, N, h, w)``.
    rest
        Whether they compete with the rest, too: without it their probabilities sum to 1.
    """
    competitors = _with_rest(pixel_logits) if rest else pixel_logits
    return competitors.softmax(1)[:, : pixel_logits.shape[1]]


def top_share_logits(pixel_logits: Tensor, *, rest: bool = False) -> Tensor:
    """Return the logits that each class is present, ``(B, N)``.

    That of a class is the mean of its probability over the tenth of the pixels where it is the
    highest.

    Parameters
    ----------
    pixel_logits, rest
        As for `class_shares`.
    """
    probabilities = class_shares(pixel_logits, rest=rest).flatten(2)
    count = max(int(probabilities.shape[2] * TOP_SHARE), 1)
    presence = probabilities.topk(count, 2).values.mean(2)
    return torch.logit(_LEAST + (1 - 2 * _LEAST) * presence)


def partial_label_loss(pixel_logits: Tensor, labels: Tensor, *, rest: bool = False) -> Tensor:
    """Return the mean over the pixels of ``-log sum_c p_c`` over the classes that may be there.

    Parameters
    ----------
    pixel_logits, rest
        As for `class_shares`; the rest may be in any image.
    labels
        ``(B, N)``: 1 present, 0 absent, -1 unknown, which may be there.

    Returns
    -------
    Tensor
        ``(B,)``; 0 for an image of which no class is excluded, or all that have a prototype are,
        which would be wrong.
    """
    competitors = _with_rest(pixel_logits) if rest else pixel_logits
    allowed = (labels != 0) & ~torch.isneginf(pixel_logits[:, :, 0, 0])
    if rest:
        allowed = torch.cat([allowed, torch.ones_like(allowed[:, :1])], 1)
    allowed = allowed | ~allowed.any(1, keepdim=True)
    log_probabilities = competitors.log_softmax(1).masked_fill(
        ~allowed[:, :, None, None], -torch.inf
    )
    return -log_probabilities.logsumexp(1).mean((1, 2))


def _with_rest(pixel_logits: Tensor) -> Tensor:
    """Add the rest as the last class: ``(B, N, h, w)`` to ``(B, N + 1, h, w)``."""
    return torch.cat([pixel_logits, torch.zeros_like(pixel_logits[:, :1])], 1)
