"""Counts of pixels added up image by image, and the saved record of the figures from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from napari_protoseg.evaluation.boundary import boundary_counts, boundary_iou
from napari_protoseg.evaluation.confusion import (
    confusion_matrix,
    dice,
    frequency_weighted_iou,
    iou,
    mean_iou,
    mean_iou_with_background,
    mean_present,
    pixel_accuracy,
)
from napari_protoseg.evaluation.protocol import Background, Protocol
from napari_protoseg.evaluation.trivial import Trivial
from napari_protoseg.schema import ClassSchema


@dataclass(frozen=True)
class Counts:
    """What an evaluation remembers of the images it has seen.

    Parameters
    ----------
    confusion
        From `confusion_matrix`.
    boundary
        From `boundary_counts`.
    """

    confusion: NDArray[np.int64]
    boundary: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        truth: NDArray[np.integer],
        prediction: NDArray[np.integer],
        classes: int,
        background: Background,
    ) -> Self:
        """Count one image; parameters as `confusion_matrix`."""
        return cls(
            confusion_matrix(truth, prediction, classes, background),
            boundary_counts(truth, prediction, classes, background),
        )

    @classmethod
    def none(cls, classes: int, background: Background) -> Self:
        """Return the counts of no image."""
        nothing = np.zeros((0, 0), np.uint8)
        return cls.of(nothing, nothing, classes, background)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.confusion + other.confusion, self.boundary + other.boundary)


class ClassScores(BaseModel):
    """The figures of one class. None stands for a class absent in truth and prediction.

    Parameters
    ----------
    name
        Of the class, or "background".
    truth_pixels, predicted_pixels
        Among the pixels taking part.
    iou, dice, boundary_iou
        0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    truth_pixels: int
    predicted_pixels: int
    iou: float | None
    dice: float | None
    boundary_iou: float | None


class Scores(BaseModel):
    """The figures of one set of predictions, all 0..1.

    Parameters
    ----------
    classes
        Of each tissue class, in schema order.
    background
        Of background as a class, where it counts.
    mean_iou, mean_dice, mean_boundary_iou
        Over the tissue classes that occur in truth or prediction.
    mean_iou_with_background
        Over these and background, where it counts.
    frequency_weighted_iou
        Over the tissue classes, by their share of the true tissue pixels.
    pixel_accuracy
        Share of the pixels taking part that are right.
    confusion
        Pixels by true class (rows) and predicted class (columns, the last one unlabelled);
        the last row is background, where it counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[ClassScores, ...]
    background: ClassScores | None
    mean_iou: float | None
    mean_iou_with_background: float | None
    mean_dice: float | None
    mean_boundary_iou: float | None
    frequency_weighted_iou: float | None
    pixel_accuracy: float | None
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, counts: Counts, schema: ClassSchema) -> Self:
        """Work the figures out of `counts`."""
        matrix = counts.confusion
        n_classes = len(schema.classes)
        background_counts = len(matrix) > n_classes
        names = (*schema.names, "background") if background_counts else schema.names
        overlaps, dices, boundaries = iou(matrix), dice(matrix), boundary_iou(counts.boundary)
        rows = tuple(
            ClassScores(
                name=name,
                truth_pixels=int(matrix[position].sum()),
                predicted_pixels=int(matrix[:, position].sum()),
                iou=_figure(overlaps[position]),
                dice=_figure(dices[position]),
                boundary_iou=_figure(boundaries[position]),
            )
            for position, name in enumerate(names)
        )
        return cls(
            classes=rows[:n_classes],
            background=rows[n_classes] if background_counts else None,
            mean_iou=_figure(mean_iou(matrix)),
            mean_iou_with_background=(
                _figure(mean_iou_with_background(matrix)) if background_counts else None
            ),
            mean_dice=_figure(mean_present(dices[:n_classes])),
            mean_boundary_iou=_figure(mean_present(boundaries[:n_classes])),
            frequency_weighted_iou=_figure(frequency_weighted_iou(matrix)),
            pixel_accuracy=_figure(pixel_accuracy(matrix)),
            confusion=tuple(tuple(map(int, row)) for row in matrix),
        )


class TrivialScores(BaseModel):
    """The figures of a prediction that knows the image-level labels and nothing of place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prediction: Trivial
    scores: Scores


class Evaluation(BaseModel):
    """Predictions compared with true masks, and the rules that the comparison followed.

    Parameters
    ----------
    protocol, protocol_name
        The rules, and the same in words.
    images
        Compared.
    images_in_all
        True masks in the folder; more than `images` where the evaluation was stopped.
    scores
        Of the predictions.
    trivial
        Of the trivial predictions on the same images; empty without image-level labels.
    image_level_f1
        Of each class: whether a predicted mask holds it, against the image-level labels. None for
        a class that is in neither; empty without labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Protocol
    protocol_name: str
    images: int
    images_in_all: int
    scores: Scores
    trivial: tuple[TrivialScores, ...]
    image_level_f1: tuple[float | None, ...] = ()

    def to_json(self) -> str:
        """Return everything as indented JSON text; a figure that does not exist is null."""
        return self.model_dump_json(indent=2) + "\n"


def _figure(value: np.float64 | NDArray[np.float64]) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
