"""What a model is trained for by image-level labels alone: the losses beside matching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.network.competition import partial_label_loss, top_share_logits
from napari_protoseg.network.maps import MapModel
from napari_protoseg.training.config import TrainingConfig

HEAVIEST = 10.0
"""Greatest weight that balance gives to an image."""


def label_loss(
    model: MapModel,
    maps: tuple[Tensor, ...],
    labels: Tensor,
    weights: Tensor,
    config: TrainingConfig,
    *,
    of: Tensor,
) -> Tensor:
    """Return the part of the loss of many images that some of them make.

    Parameters
    ----------
    model
        Gives logits of its maps.
    maps
        Prototype maps of each stage.
    labels
        ``(B, N)``: 1 present, 0 absent, -1 unknown.
    weights
        Of the pixels of each image, where classes compete, ``(B,)``.
    config
        `competing` decides between `classification_loss`, and pixels that compete for their class
        together with the cross-entropy of what the image as a whole then holds.
    of
        Labels of all images, ``(images, N)``, that the means are taken over: the losses of
        micro-batches add up to that of their batch.

    Returns
    -------
    Tensor
        Scalar.
    """
    known = (of >= 0).sum().clamp(min=1)
    if not config.competing:
        return classification_loss(model, maps, labels, config.stage_weights) / known
    pixels = model.pixel_logits(maps)
    present = top_share_logits(pixels, rest=model.has_rest)
    of_pixels = (weights * partial_label_loss(pixels, labels, rest=model.has_rest)).sum() / len(of)
    of_images = _cross_entropy(present, labels) / known
    return of_pixels + config.presence_weight * of_images


def balancing_weights(labels: Sequence[tuple[int, ...]]) -> list[float]:
    """Return weights of images such that each combination of labels counts alike.

    Where many images hold one class alone and few another, those of the many would otherwise
    decide what becomes of all that lies between the two. An image with an unknown class has the
    weight 1; none has more than `HEAVIEST`, or a single wrong label might decide.
    """
    counts = Counter(label for label in labels if min(label) >= 0)
    alike = sum(counts.values()) / max(len(counts), 1)
    return [min(alike / counts[label], HEAVIEST) if label in counts else 1.0 for label in labels]


def classification_loss(
    model: MapModel, maps: tuple[Tensor, ...], labels: Tensor, stage_weights: tuple[float, ...]
) -> Tensor:
    """Sum the binary cross-entropies of mean maps over images and classes whose label is known.

    Parameters
    ----------
    model, maps, labels
        As for `label_loss`.
    stage_weights
        Of the last stages, as many as there are maps.

    Returns
    -------
    Tensor
        Scalar; divide by the number of known labels for the mean.
    """
    total = labels.new_zeros(())
    for stage, weight in zip(maps, stage_weights[-len(maps) :], strict=True):
        logits = model.class_logits(model.prototype_logits(stage.float()))
        total = total + weight * _cross_entropy(logits, labels)
    return total


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over the known labels."""
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    return torch.where(labels >= 0, losses, 0.0).sum()
