"""What is timed on one batch: training steps, their losses alone, masks, and bare passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from speed_line import SAMPLE, altered
from torch import Tensor, nn

from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.images.reading import read_image
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.backbones import create_backbone, pretrained_weights
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.training.config import PLAIN, PRESETS, Matching, Preset, TrainingConfig
from napari_protoseg.training.images import Batch
from napari_protoseg.training.step import Matcher, Step

Timed = Callable[[], object]
_CPU = torch.device("cpu")


class GivenMaps(MapModel):
    """A model without a network: maps that are given take the place of those of images."""

    def __init__(self, model: MapModel, maps: tuple[Tensor, ...]) -> None:
        positions = model.class_positions.tolist()
        super().__init__(positions, model.classes, model.strides, competing=model.competing)
        self.maps = nn.ParameterList(stage.detach().clone() for stage in maps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the given maps, whatever the images."""
        del images
        return tuple(self.maps)


@dataclass(frozen=True)
class Setting:
    """What a cost depends on.

    Parameters
    ----------
    batch
        Images at once.
    side
        Of an image, in pixels.
    classes, prototypes
        Number of classes, and of prototypes of each.
    """

    batch: int = 4
    side: int = 224
    classes: int = 4
    prototypes: int = 3


class Bench:
    """A batch with the default backbone and encoder, and all that is timed on it.

    Every image holds every class, so that each class gives it at least one selected pair.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        torch.manual_seed(0)
        sources = sorted((SAMPLE / "train").glob("*.png"))[: setting.batch]
        self.pixels: NDArray[np.uint8] = np.stack(
            [altered(read_image(p), setting.side, [n]) for n, p in enumerate(sources)]
        )
        images = torch.from_numpy(self.pixels).permute(0, 3, 1, 2).to(torch.float32) / 255
        labels = torch.ones(setting.batch, setting.classes)
        self.batch = Batch(images, labels, torch.ones(setting.batch))
        self.encoder = create_encoder(device=_CPU)
        self.positions = np.repeat(range(setting.classes), setting.prototypes).tolist()
        with torch.no_grad():
            positions = self.encoder.dense(images).permute(0, 2, 3, 1).flatten(0, 2)
        drawn = torch.randperm(len(positions))[: len(self.positions)]
        self.prototypes = positions[drawn]
        self.pairs = 0.0  # of each image, in the last step that matched

    def step(self, matching: Matching, *, compiled: bool = False) -> Timed:
        """Return a whole training step, of which the matching loss is a part or not."""
        config = _config(matching)
        model = self._network(config)
        if compiled:
            model.compile()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6)
        step = Step(model, Matcher(self.encoder.dense, self.prototypes), config, _CPU)
        return lambda: self._take(step, optimiser)

    def losses(self, matching: Matching, *, encode: bool) -> Timed:
        """Return a step without its backbone: its losses and masks, and encoding or not."""
        config = _config(matching)
        with torch.no_grad():
            model = self._network(config)
            given = GivenMaps(model, model(self.batch.images))
            dense = self.encoder.dense(self.batch.images)
        compute = self.encoder.dense if encode else lambda images: dense
        step = Step(given, Matcher(compute, self.prototypes), config, _CPU)
        return lambda: self._take(step, None)

    def masks(self, model: MapModel, *, flip: bool) -> Timed:
        """Return what makes the masks of the uint8 batch."""
        recipe = Recipe(flip=flip)
        predictor = Predictor(model, range(1, self.setting.classes + 1), recipe, _CPU)
        labels = np.ones((self.setting.batch, self.setting.classes), dtype=np.int8)
        return lambda: predictor.predict(self.pixels, labels)

    def bare(self, model: MapModel) -> Timed:
        """Return a forward pass of `model` and nothing else."""
        return _forward(model, self.batch.images)

    def backbone(self, layout: torch.memory_format) -> Timed:
        """Return a forward pass of the backbone over images that lie so in memory."""
        images = self.batch.images.contiguous(memory_format=layout)
        return _forward(self.network.backbone.features, images)

    @cached_property
    def network(self) -> PrototypeNetwork:
        """The network of the standard preset."""
        return self._network(PRESETS[Preset.STANDARD])

    @cached_property
    def evidence(self) -> MapModel:
        """The model of the quick preset."""
        return EvidenceModel(
            self.encoder, self.prototypes, self.positions, self.setting.classes, competing=True
        )

    def _network(self, config: TrainingConfig) -> PrototypeNetwork:
        return PrototypeNetwork(
            create_backbone(config.backbone, pretrained_weights(config.backbone)),
            self.prototypes,
            self.positions,
            self.setting.classes,
            cosine=config.cosine,
            competing=config.competing,
        )

    def _take(self, step: Step, optimiser: torch.optim.Optimizer | None) -> None:
        step.model.zero_grad(set_to_none=True)
        losses = step.accumulate(self.batch, self.setting.batch, _backward)
        if optimiser is not None:
            optimiser.step()
        if step.matcher is not None:
            self.pairs = (losses.pairs + losses.skipped) / self.setting.batch


def _forward(model: nn.Module, images: Tensor) -> Timed:
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(images)

    return run


def _config(matching: Matching) -> TrainingConfig:
    """Return the configuration of a matching; without it that of the standard preset."""
    if matching is Matching.NONE:
        return PRESETS[Preset.STANDARD]
    return PLAIN.model_copy(update={"matching": matching})


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
