"""Measuring a model against true masks, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_protoseg.evaluation.image_level import image_level_f1
from napari_protoseg.evaluation.protocol import Background, MaskCodes, class_positions
from napari_protoseg.evaluation.scores import Counts, Scores
from napari_protoseg.evaluation.trivial import TRIVIAL, Trivial
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.jobs.batches import predict_batches
from napari_protoseg.jobs.truth import true_positions
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema


@dataclass(frozen=True)
class Measured:
    """What was measured, background ignored.

    Parameters
    ----------
    scores
        Of the masks.
    image_level_f1
        Of each class, in schema order; NaN for a class that neither truth nor model has.
    """

    scores: Scores
    image_level_f1: tuple[float, ...]


def measuring(
    predictor: Predictor, images: Sequence[ImageRecord], schema: ClassSchema
) -> Job[Measured | None]:
    """Compare the masks of a predictor with those of `images`, which all have one.

    Returns
    -------
    Measured or None
        None after a stop.

    Raises
    ------
    EvaluationError, ImageError, TrainingError
    """
    counts = Counts.none(len(schema.ids), Background.IGNORE)
    truth, predicted = [], []
    for batch, prediction in predict_batches(predictor, images):
        for image, mask, probabilities in zip(
            batch, prediction.masks, prediction.probabilities, strict=True
        ):
            found = class_positions(mask, schema, MaskCodes.PROJECT, where=image.path)
            true = true_positions(image, schema)
            counts += Counts.of(true, found, len(schema.ids), Background.IGNORE)
            truth.append(image.label)
            predicted.append(probabilities > 0.5)
        stage = f"Measuring on {len(images)} masks"
        if (yield Progress(stage, len(truth), len(images))) is Request.STOP:
            return None
    f1 = image_level_f1(np.array(truth, dtype=np.int8), np.array(predicted, dtype=np.int8))
    return Measured(Scores.of(counts, schema), tuple(float(value) for value in f1))


def measure_trivial(kind: Trivial, images: Sequence[ImageRecord], schema: ClassSchema) -> Scores:
    """Compare a trivial prediction, from the image-level labels alone, with the masks.

    Raises
    ------
    EvaluationError, ImageError
    """
    counts = Counts.none(len(schema.ids), Background.IGNORE)
    for image in images:
        guess = TRIVIAL[kind]((image.height, image.width), image.label)
        true = true_positions(image, schema)
        counts += Counts.of(true, guess, len(schema.ids), Background.IGNORE)
    return Scores.of(counts, schema)
