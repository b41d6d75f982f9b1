"""What `accuracy.py` trains, by the names that `docs/benchmarks.md` shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from napari_protoseg.network.record import ModelKind
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.training.config import (
    PLAIN,
    PRESETS,
    RELEASED,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.training.pixels import PixelConfig, PixelLoss

CLUSTERS = 3
STANDARD = PRESETS[Preset.STANDARD]


class Vectors(Enum):
    """What the features of pixels are compared with."""

    ADAPTED = auto()
    """Prototypes of the bank, each through its adapter."""
    ADAPTED_NOISE = auto()
    """Random numbers for prototypes, through adapters."""
    LEARNED = auto()
    """Vectors that begin at random, and neither bank nor adapters."""


@dataclass(frozen=True)
class Configuration:
    """Something to train.

    Parameters
    ----------
    config
        Of the training, beside its seed.
    kind, preset
        Of the model.
    clusters
        Prototypes of each class.
    centred
        False to see pixels as they are, and not from the centre of the training images.
    vectors
        What features are compared with.
    """

    config: TrainingConfig = STANDARD
    kind: ModelKind = ModelKind.PROTOTYPES
    preset: Preset = Preset.STANDARD
    clusters: int = CLUSTERS
    centred: bool = True
    vectors: Vectors = Vectors.ADAPTED


def _standard(**changes: object) -> TrainingConfig:
    return STANDARD.model_copy(update=changes)


_MEANS = _standard(competing=False, matching=Matching.DENSE, cosine=False)
_REFERENCE = _standard(**RELEASED, max_pairs=8)

CONFIGURATIONS = {
    "plain CAM": Configuration(PLAIN, ModelKind.PLAIN_CAM),
    "quick": Configuration(PRESETS[Preset.QUICK], preset=Preset.QUICK),
    "reference, re-encoding": Configuration(_REFERENCE),
    "reference, dense matching": Configuration(_MEANS),
    "ours": Configuration(),
    "ours, a mean map for each class": Configuration(_standard(competing=False)),
    "ours, without what classes are present": Configuration(_standard(presence_weight=0.0)),
    "ours, combinations of labels as they come": Configuration(_standard(balanced=False)),
    "ours, with dense matching": Configuration(_standard(matching=Matching.DENSE)),
    "ours, linear classifier for prototypes": Configuration(STANDARD, ModelKind.PLAIN_CAM),
    "ours, learned vectors for prototypes": Configuration(vectors=Vectors.LEARNED),
    "ours, one learned vector a class": Configuration(clusters=1, vectors=Vectors.LEARNED),
    "ours, noise for a bank": Configuration(vectors=Vectors.ADAPTED_NOISE),
    "ours, prototypes of any length": Configuration(_standard(cosine=False)),
    "ours, pixels not seen from a centre": Configuration(centred=False),
    "ours, one prototype a class": Configuration(clusters=1),
    "ours, six prototypes a class": Configuration(clusters=6),
}

CHOSEN_RATES = {
    "plain CAM": {"lung": 3e-5},
    "reference, dense matching": {"lung": 1e-4, "colon": 1e-4},
}
"""Of the backbone, where another one than the configuration's was better on fold 0 of a tissue."""

SUPERVISED = _standard(backbone_rate=1e-4)
"""Of a network that sees the true masks."""

TEACHER = "ours"
"""Configuration whose masks teach the second stage."""

SECOND_STAGES = {
    "second stage": PixelConfig(),
    "second stage, DeepLabV3+": PixelConfig(decoder=Decoder.DEEPLABV3PLUS),
    "second stage, symmetric cross-entropy": PixelConfig(loss=PixelLoss.SYMMETRIC, ignored=0.2),
    "second stage, DeepLabV3+, symmetric cross-entropy": PixelConfig(
        decoder=Decoder.DEEPLABV3PLUS, loss=PixelLoss.SYMMETRIC, ignored=0.2
    ),
    "second stage, cross-entropy": PixelConfig(loss=PixelLoss.CROSS_ENTROPY, ignored=0.2),
    "second stage, generalised cross-entropy": PixelConfig(loss=PixelLoss.GENERALISED, ignored=0.2),
}
