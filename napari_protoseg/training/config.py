"""How a network is trained, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_protoseg.network.backbones import DEFAULT_BACKBONE
from napari_protoseg.network.matching import TEMPERATURE


class Compat(StrEnum):
    """Which form of the method."""

    DEFAULT = "default"
    REFERENCE = "reference"
    """The formulas of the released code, to the letter."""


class Matching(StrEnum):
    """How the features of a pair's foreground and background are had."""

    DENSE = "dense"
    REENCODE = "reencode"
    NONE = "none"


class Preset(StrEnum):
    """Named configurations."""

    QUICK = "quick"
    """Frozen dense features, and prototypes that move among them: seconds."""
    STANDARD = "standard"
    PAPER = "paper"
    """The released configuration."""


class TrainingConfig(BaseModel):
    """Everything that decides the weights of a trained network, beside images and bank.

    What is not given is that of `Preset.STANDARD`, the best one measured.

    Parameters
    ----------
    compat, matching
        Form of the method; `Compat.REFERENCE` matches by re-encoding.
    backbone
        Name of the backbone.
    cosine
        Normalise the adapted prototypes as well as the pixels.
    competing
        Let the classes compete for each pixel, which is of one of those that the label allows;
        else the mean of each map is to tell whether its class is present.
    presence_weight
        Of the loss of what classes are present, where they compete.
    balanced
        Let each combination of labels count alike, however many images have it: in the losses of
        pixels and in the centre that features are seen from, where classes compete.
    epochs
        Passes over the training images.
    batch_size
        Images of one optimiser step.
    backbone_rate, head_rate
        Highest learning rates of the backbone and of everything else: how far one step may move
        the weights. Lower ones learn more slowly, higher ones may not settle.
    weight_decay
        Of AdamW.
    warmup_steps
        Steps of linear warm-up.
    stage_weights
        Of the classification loss at the stages that give maps (2, 3 and 4).
    matching_weight
        Of the matching loss together with the sparsity term.
    sparsity_weight
        Of the mean of the last stage's maps, within the matching loss.
    temperature
        Of the matching loss.
    present_weight, absent_weight
        Of prototypes of other classes among the negatives: those of classes that the image
        holds, and those of classes that it does not.
    max_pairs
        Most pairs that are re-encoded in a step, None for all.
    max_side
        Larger images are cut, at random in each epoch, to this many pixels a side.
    held_out
        Share of the images, in whole cases, on whose image-level loss the best epoch is chosen,
        where the project has no validation images.
    averaged
        Share of the steps over which the weights that are kept are averaged, the last ones
        counting most; 0 keeps those of the last step.
    seed
        Of everything random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compat: Compat = Compat.DEFAULT
    matching: Matching = Matching.NONE
    backbone: str = DEFAULT_BACKBONE
    cosine: bool = True
    competing: bool = Field(default=True, title="Classes compete for pixels")
    presence_weight: float = Field(default=1.0, ge=0)
    balanced: bool = Field(default=True, title="Combinations of labels count alike")
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=16, ge=1)
    backbone_rate: float = Field(default=3e-5, gt=0, title="Learning rate of the backbone")
    head_rate: float = Field(default=1e-3, gt=0, title="Learning rate of the rest")
    weight_decay: float = Field(default=1e-3, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    stage_weights: tuple[float, float, float] = (0.1, 1.0, 1.0)
    matching_weight: float = Field(default=0.1, ge=0)
    sparsity_weight: float = Field(default=5e-4, ge=0)
    temperature: float = Field(default=TEMPERATURE, gt=0)
    present_weight: float = Field(default=1.0, ge=0)
    absent_weight: float = Field(default=1.0, ge=0)
    max_pairs: int | None = Field(default=None, ge=1)
    max_side: int = Field(default=512, ge=32)
    held_out: float = Field(default=0.15, ge=0, lt=1)
    averaged: float = Field(default=0.0, ge=0, le=1, title="Share of steps averaged over")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _reference_is_whole(self) -> Self:
        if self.compat is Compat.REFERENCE and self.matching is not Matching.REENCODE:
            raise ValueError("the released form matches by re-encoding: choose matching reencode")
        if self.compat is Compat.REFERENCE and self.competing:
            raise ValueError("in the released form classes do not compete: choose competing false")
        if self.compat is Compat.REFERENCE and self.cosine:
            raise ValueError("the released form normalises pixels alone: choose cosine false")
        return self


RELEASED: Mapping[str, Any] = MappingProxyType(
    {
        "compat": Compat.REFERENCE,
        "matching": Matching.REENCODE,
        "cosine": False,
        "competing": False,
    }
)
"""What makes the released form of a configuration."""

PRESETS: Mapping[Preset, TrainingConfig] = {
    Preset.QUICK: TrainingConfig(cosine=False, backbone_rate=1e-4, head_rate=1e-2, held_out=0),
    Preset.STANDARD: TrainingConfig(),
    Preset.PAPER: TrainingConfig(
        **RELEASED,
        balanced=False,
        backbone="mit_b1",
        epochs=8,
        batch_size=10,
        backbone_rate=5e-5,
        head_rate=5e-5,
    ),
}

SECOND_STAGE = TrainingConfig(cosine=False, backbone_rate=1e-4, averaged=0.2, held_out=0)
"""How the segmentation network is trained; its losses are those of `training.pixels`.

How well it does on pseudo-masks that are wrong in places says little of which epoch is the best.
"""

PLAIN = TrainingConfig(cosine=False, competing=False, balanced=False, backbone_rate=1e-4)
"""How a plain class activation map is trained, to compare with: at a rate that suits it better."""

PAPER_ENCODER = "swin_tiny_patch4_window7_224"
"""The released code names MedCLIP, but runs this, with its ImageNet weights."""
