"""What the second stage learns from: masks of the first, under what a person has set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.jobs.batches import predict_batches
from napari_protoseg.jobs.models import TrainedModel
from napari_protoseg.jobs.predict import in_model_order, with_margin
from napari_protoseg.masks.prediction import Prediction, Predictor
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.training.pseudo_masks import (
    CERTAIN,
    NO_CLASS,
    PseudoMask,
    PseudoMaskWriter,
    believed,
)

_LEAST = 1e-6


def write_pseudo_masks(
    project: Project,
    teacher: TrainedModel,
    images: Sequence[ImageRecord],
    recipe: Recipe,
    folder: Path,
    *,
    ignored: float,
    device: torch.device,
) -> Job[bool]:
    """Write what is believed of the pixels of `images`, each under its id.

    A model says it within the classes that the image's label allows; what a person has set, or
    was imported, is certain. Erased pixels are of no class.

    Parameters
    ----------
    project
        Which the images are of.
    teacher
        Model of the first stage, and the classes.
    images
        With labels in the order of the model's classes.
    recipe
        From maps to masks, which are made with the given labels, whatever it says of these.
    folder
        Where they go.
    ignored
        As in `PixelConfig`.
    device
        Where it computes.

    Returns
    -------
    bool
        False after a stop.

    Raises
    ------
    ImageError, ProjectError, StorageError, TrainingError
    """
    ids = teacher.record.classes.ids
    given = recipe.model_copy(update={"labels": LabelCondition.GIVEN})
    predictor = Predictor(teacher.model, ids, given, device)
    predictor = yield from with_margin(predictor, images)
    summaries = project.mask_summaries()
    corrected = {number for number, of in summaries.items() if of.corrected is not None}
    writer = PseudoMaskWriter(folder, len(ids))
    done = 0
    for batch, prediction in predict_batches(predictor, images):
        for place, image in enumerate(batch):
            mask = _believed(prediction, place, ids)
            if image.id in corrected:
                mask = _under_person(project, image.known_id, mask, ids)
            writer.add(image.known_id, mask)
        done += len(batch)
        if (yield Progress("Making pseudo-masks", done, len(images))) is Request.STOP:
            return False
    writer.finish(ignored)
    return True


def images_to_learn_from(
    project: Project, images: Sequence[ImageRecord], positions: Sequence[int]
) -> list[ImageRecord]:
    """Return those `images` that something is known of, a label or pixels that a person has set.

    Parameters
    ----------
    project
        Which they are of.
    images
        With labels in the order of the project's classes.
    positions
        Of each class of the model among these; the order of the labels that are returned.
    """
    summaries = project.mask_summaries()
    return [
        image
        for image in in_model_order(images, positions)
        if any(presence >= 0 for presence in image.label)
        or (image.id in summaries and summaries[image.id].corrected is not None)
    ]


def _believed(prediction: Prediction, place: int, ids: Sequence[int]) -> PseudoMask:
    """Return what a model says of an image, sure where its label leaves one class."""
    claimed = prediction.class_maps[place].sum(0)
    confidence = prediction.confidence[place].astype(np.float32) / np.maximum(claimed, _LEAST)
    return believed(_positions(prediction.masks[place], ids), confidence, len(ids))


def _under_person(
    project: Project, image_id: int, mask: PseudoMask, ids: Sequence[int]
) -> PseudoMask:
    stored = project.read_mask(image_id)
    if stored is None:
        return mask
    positions = _positions(stored.mask, ids)
    weights = np.where(positions == NO_CLASS, np.uint8(0), np.uint8(CERTAIN))
    protected = stored.is_protected
    return PseudoMask(
        np.where(protected, positions, mask.positions), np.where(protected, weights, mask.weights)
    )


def _positions(mask: NDArray[np.uint8], ids: Sequence[int]) -> NDArray[np.uint8]:
    """Turn class ids into positions; `NO_CLASS` for what is unlabelled, or not of the model's."""
    table = np.full(256, NO_CLASS, dtype=np.uint8)
    table[list(ids)] = np.arange(len(ids))
    return table[mask]
