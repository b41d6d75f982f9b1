"""What bounds every result from above: a network that is trained on the true masks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.truth import true_positions
from napari_protoseg.network.backbones import (
    DEFAULT_BACKBONE,
    Backbone,
    create_backbone,
    pretrained_weights,
)
from napari_protoseg.network.maps import MapModel
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.schedule import poly_factor


class Supervised(MapModel):
    """A linear classifier of each pixel on the last three stages, brought to one size."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(range(classes), classes, [backbone.strides[1]], competing=True)
        self.backbone = backbone
        self.classifier = nn.Conv2d(sum(backbone.widths[1:]), classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each pixel at stride 8."""
        stages = self.backbone(images)[1:]
        size = stages[0].shape[2:]
        same = [F.interpolate(s, size, mode="bilinear", align_corners=False) for s in stages]
        return (self.classifier(torch.cat(same, 1)),)


def supervise(
    images: Sequence[ImageRecord], schema: ClassSchema, config: TrainingConfig, device: torch.device
) -> Supervised:
    """Train on the masks of all images, with the epochs and rates of `config`."""
    torch.manual_seed(config.seed)
    weights = pretrained_weights(DEFAULT_BACKBONE)
    model = Supervised(create_backbone(DEFAULT_BACKBONE, weights), len(schema.ids)).to(device)
    rates = (config.backbone_rate, config.head_rate)
    optimiser = torch.optim.AdamW(
        [
            {"params": list(model.backbone.parameters())},
            {"params": list(model.classifier.parameters())},
        ],
        weight_decay=config.weight_decay,
    )
    steps = config.epochs * -(-len(images) // config.batch_size)
    step = 0
    model.train()
    for epoch in range(config.epochs):
        draw = np.random.default_rng([config.seed, epoch])
        order = draw.permutation(len(images))
        for start in range(0, len(order), config.batch_size):
            chosen = [images[index] for index in order[start : start + config.batch_size]]
            batch, target = _augmented(chosen, schema, draw)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * poly_factor(step, steps)
            (logits,) = model(batch.to(device))
            size = (target.shape[1], target.shape[2])
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            loss = F.cross_entropy(logits, target.to(device), ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
        print(f"supervised epoch {epoch + 1} of {config.epochs}", file=sys.stderr)
    return model


def _augmented(
    images: Sequence[ImageRecord], schema: ClassSchema, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Read images and masks, each mirrored or not and turned by a multiple of 90 degrees."""
    pixels, targets = [], []
    for image in images:
        turns, mirror = int(draw.integers(4)), bool(draw.integers(2))
        truth = true_positions(image, schema).astype(np.int64)
        truth = np.where(truth == len(schema.ids), -1, truth)
        picture, target = np.rot90(read_image(image.path), turns), np.rot90(truth, turns)
        pixels.append(picture[:, ::-1] if mirror else picture)
        targets.append(target[:, ::-1] if mirror else target)
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return batch, torch.from_numpy(np.stack(targets))
