"""Training of the quick preset: a scale and a bias for each prototype of the frozen evidence.

The maps are linear in scale and bias: so the cosines of each image to each prototype, averaged over
the cells of a coarse grid, are all that training needs to know of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.encoders.encoding import DenseFeatures, EncodeItem
from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.objective import balancing_weights, label_loss

_STEPS = 300
_RATE = 0.05
_FIRST_SCALE = 10.0
_GRID = 14
_BATCH = 64


def fit_evidence(
    model: EvidenceModel,
    dense: DenseFeatures,
    items: Sequence[EncodeItem],
    labels: Sequence[tuple[int, ...]],
    config: TrainingConfig,
) -> Job[bool]:
    """Fit scale and bias to the image-level labels.

    Parameters
    ----------
    model
        On the CPU; changed in place.
    dense
        Gives the dense features of `items`.
    items
        Images.
    labels
        Their labels: 1 present, 0 absent, -1 unknown, in schema order.
    config
        Whether classes compete, and the seed.

    Returns
    -------
    bool
        False after a stop, with the model as it was.

    Raises
    ------
    TrainingError
        No label is known.
    StorageError, ImageError
    """
    target = torch.tensor(labels, dtype=torch.float32)
    known = target >= 0
    if not known.any():
        raise TrainingError(
            "no image with an image-level label",
            where="training",
            remedy="Label some images, each with the classes that it holds and does not hold.",
        )
    cells = []
    for number, item in enumerate(items, start=1):
        features = torch.from_numpy(dense.of(item).astype(np.float32))[None]
        with torch.no_grad():
            cells.append(_gridded(model.cosine_maps(features)))
        progress = Progress("Comparing images with prototypes", number, len(items))
        if (yield progress) is Request.STOP:
            return False
    cosine = torch.cat(cells)
    # Cosines lie close together: start from where they differ, not from zero.
    scale = torch.full_like(model.scale, _FIRST_SCALE).requires_grad_()
    bias = (-_FIRST_SCALE * cosine.mean((0, 2, 3))).requires_grad_()
    optimiser = torch.optim.Adam([scale, bias], lr=_RATE)
    weights = torch.tensor(balancing_weights(labels) if config.balanced else [1.0] * len(labels))
    draw = np.random.default_rng(config.seed)
    for number in range(_STEPS):
        chosen = torch.from_numpy(draw.permutation(len(items))[:_BATCH])
        maps = scale[:, None, None] * cosine[chosen] + bias[:, None, None]
        labels_, weights_ = target[chosen], weights[chosen]
        loss = label_loss(model, (maps,), labels_, weights_, config, of=labels_)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (yield _finished(number, float(loss.detach()))) is Request.STOP:
            return False
    with torch.no_grad():
        model.scale.copy_(scale)
        model.bias.copy_(bias)
    return True


def _gridded(maps: Tensor) -> Tensor:
    """Average maps over the cells of a grid; coarser ones are enlarged to it."""
    return F.interpolate(maps, (_GRID, _GRID), mode="area")


def _finished(number: int, loss: float) -> StepFinished:
    """Say how a step went, numbered from 0: each is an epoch of its own, without matching."""
    return StepFinished(
        step=number + 1,
        steps=_STEPS,
        epoch=number,
        loss=loss,
        classification=loss,
        matching=0.0,
        pairs=0,
        skipped=0,
    )
