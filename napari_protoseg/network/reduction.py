"""From values of prototypes to values of classes."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class Merge(StrEnum):
    """How the prototypes of a class make one value."""

    MEAN = "mean"
    SOFTMAX = "softmax"
    """Sum weighted by the softmax over the prototypes themselves: a soft maximum."""


def merge_prototypes(values: Tensor, class_positions: Tensor, classes: int, how: Merge) -> Tensor:
    """Merge the prototypes of each class.

    Parameters
    ----------
    values
        Logits or maps, ``(B, P, ...)``.
    class_positions
        Position of each prototype's class in the schema, int64 ``(P,)``, in 0..classes-1.
    classes
        Number of classes N. A class without a prototype gets 0 everywhere; where classes compete,
        `competition.pixel_class_logits` makes minus infinity of that.
    how
        Mean, as in training, or the softmax-weighted sum, as for masks.

    Returns
    -------
    Tensor
        ``(B, N, ...)``.
    """
    member = _membership(class_positions, classes)
    if how is Merge.MEAN:
        weight = member.to(values.dtype)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("np,bp...->bn...", weight, values)
    merged = []
    for of_class in member:
        own = values[:, of_class]
        merged.append((own.softmax(1) * own).sum(1))
    return torch.stack(merged, 1)


def expand_labels(labels: Tensor, class_positions: Tensor) -> Tensor:
    """Give each prototype the label of its class: ``(B, N)`` to ``(B, P)``."""
    return labels[:, class_positions]


def select_prototypes(
    logits: Tensor, present: Tensor, class_positions: Tensor, *, strict: bool
) -> Tensor:
    """Choose the (image, prototype) pairs that take part in matching.

    A pair is selected where its class is present in the image and its logit lies above
    the mean of its class (PBIP, arXiv 2503.12068).

    Parameters
    ----------
    logits
        ``(B, P)``.
    present
        Boolean ``(B, N)``; an unknown class is not present.
    class_positions
        ``(P,)``.
    strict
        True: above the mean, so that a class with one prototype never has a pair.
        False: at least the mean.

    Returns
    -------
    Tensor
        Boolean ``(B, P)``.
    """
    mean = expand_labels(
        merge_prototypes(logits, class_positions, present.shape[1], Merge.MEAN), class_positions
    )
    # A mean over equal numbers may come out a rounding error above them.
    above = logits > mean if strict else logits >= mean - mean.abs() * 1e-6
    return above & expand_labels(present, class_positions)


def _membership(class_positions: Tensor, classes: int) -> Tensor:
    """Tell which prototype belongs to which class: boolean ``(N, P)``."""
    return torch.arange(classes, device=class_positions.device)[:, None] == class_positions
