"""Training of the quick preset: prototypes that move among the frozen features of the images.

The encoder stays as it is, so its dense features are read from a cache; trained are the direction,
a scale and a bias of each prototype. That takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from napari_protoseg.encoders.encoding import DenseFeatures
from napari_protoseg.encoders.passes import EncodeItem
from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.objective import balancing_weights, label_loss
from napari_protoseg.training.schedule import poly_factor

_POSITIONS = 196


def fit_evidence(
    model: EvidenceModel,
    dense: DenseFeatures,
    items: Sequence[EncodeItem],
    labels: Sequence[tuple[int, ...]],
    config: TrainingConfig,
) -> Job[bool]:
    """Fit the prototypes of a model to the image-level labels.

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
        Epochs, batches, rates and losses; of the rates that of the head.

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
    if not (target >= 0).any():
        raise TrainingError(
            "no image with an image-level label",
            where="training",
            remedy="Label some images, each with the classes that it holds and does not hold.",
        )
    # Of the encoder, which may be large and stays as it is, there is no copy.
    before = {
        name: values.clone()
        for name, values in model.state_dict().items()
        if not name.startswith("encoder.")
    }
    finished = False
    try:
        finished = yield from _fit(model, dense, items, target, config)
    finally:
        if not finished:
            model.load_state_dict(before, strict=False)
    return finished


def _fit(
    model: EvidenceModel,
    dense: DenseFeatures,
    items: Sequence[EncodeItem],
    target: Tensor,
    config: TrainingConfig,
) -> Job[bool]:
    labels = [tuple(int(value) for value in label) for label in target.tolist()]
    weights = torch.tensor(balancing_weights(labels) if config.balanced else [1.0] * len(labels))
    total = torch.zeros_like(model.centre)
    with closing(dense.each(items)) as features:
        for number, (each, weight) in enumerate(zip(features, weights, strict=True), start=1):
            total += weight * F.normalize(_as_tensor(each), dim=0).mean((1, 2))
            progress = Progress("Looking for the centre of all features", number, len(items))
            if (yield progress) is Request.STOP:
                return False
    model.centre_on(total / weights.sum())
    trained = [model.directions, model.scale, model.bias]
    optimiser = torch.optim.AdamW(trained, lr=config.head_rate, weight_decay=0.0)
    batches = list(_batches(len(items), config))
    in_turn = (items[i] for _, chosen, _ in batches for i in chosen)
    with closing(dense.each(in_turn)) as features:
        for number, (epoch, chosen, draw) in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = config.head_rate * poly_factor(number, len(batches))
            some = islice(features, len(chosen))
            sampled = torch.stack([_sampled(_as_tensor(each), draw) for each in some])
            maps = (model.maps_of(sampled),)
            of = target[chosen]
            loss = label_loss(model, maps, of, weights[chosen], config, of=of)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            value = float(loss.detach())
            told = StepFinished(
                step=number + 1,
                steps=len(batches),
                epoch=epoch,
                loss=value,
                classification=value,
                matching=0.0,
                pairs=0,
                skipped=0,
                accuracy=_accuracy(model, maps, of),
            )
            if (yield told) is Request.STOP:
                return False
    return True


def _accuracy(model: EvidenceModel, maps: tuple[Tensor, ...], labels: Tensor) -> float | None:
    known = labels >= 0
    if not known.any():
        return None
    with torch.no_grad():
        predicted = model.image_logits(maps) > 0
    return float((predicted == (labels > 0))[known].float().mean())


def _batches(
    count: int, config: TrainingConfig
) -> Iterator[tuple[int, list[int], np.random.Generator]]:
    """Yield the epoch and the images of each step, and what draws its positions."""
    for epoch in range(config.epochs):
        draw = np.random.default_rng([config.seed, epoch])
        order = draw.permutation(count).tolist()
        for start in range(0, count, config.batch_size):
            yield epoch, order[start : start + config.batch_size], draw


def _as_tensor(features: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(features.astype(np.float32))


def _sampled(features: Tensor, draw: np.random.Generator) -> Tensor:
    """Draw as many positions of every image, whatever its size: ``(d, h, w)`` to ``(d, S, 1)``.

    The losses know of no neighbourhood: some of the positions stand for all.
    """
    every = features.flatten(1)
    count = every.shape[1]
    chosen = draw.choice(count, _POSITIONS, replace=count < _POSITIONS)
    return every[:, torch.from_numpy(chosen)][..., None]
