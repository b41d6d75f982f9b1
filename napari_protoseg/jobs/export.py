"""The job that exports the masks of a project's images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import torch

from napari_protoseg.errors import ProjectError
from napari_protoseg.events import Job, Notice, Severity
from napari_protoseg.exports.folder import Exported, NamedMask, vacant
from napari_protoseg.exports.masks_folder import export_png
from napari_protoseg.exports.training_folder import MaskedImage, export_training_folder
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.names import mask_names
from napari_protoseg.jobs.predict import PredictionRecord, predict_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Round, StoredMask


class ExportFormat(StrEnum):
    """How masks are written."""

    PNG = "png"
    """Indexed PNGs whose values are class ids."""
    TRAINING = "training"
    """A training folder in the layout of BCSS-WSSS."""


def export_project(
    project: Project,
    form: ExportFormat,
    out: Path,
    recipe: Recipe,
    *,
    device: torch.device,
    now: datetime,
) -> Job[Exported | None]:
    """Bring the masks up to the newest round where they are not, then write them.

    Parameters
    ----------
    project
        With a trained round.
    form, out
        What is written where: a new or empty folder, which appears complete or not at all.
    recipe
        For masks that have to be made.
    device
        Where these are computed.
    now
        Their date.

    Returns
    -------
    Exported or None
        None after a stop.

    Raises
    ------
    ProjectError, CheckpointError, ExportError, ImageError, StorageError
    """
    vacant(out)  # before the long work, not after it
    trained = trained_model(project)
    yield from trained.notices()
    images = project.images()
    stale = [i for i in images if _is_stale(project.read_mask(_id(i)), trained.round, recipe)]
    if stale:
        complete = yield from predict_project(
            project, stale, trained, recipe, device=device, now=now
        )
        if not complete:
            return None
    if form is ExportFormat.PNG:
        masks = (NamedMask(name, stored.mask) for name, _, stored in _stored(project, images))
        record = PredictionRecord(
            recipe=recipe,
            model=trained.record,
            model_sha256=trained.sha256,
            images=len(images),
            created=now.isoformat(),
        )
        documents = record.documents()
        return (yield from export_png(masks, len(images), out, project.schema, documents))
    known = [image for image in images if -1 not in image.label]
    if len(known) < len(images):
        yield Notice(
            f"{len(images) - len(known)} images have classes that are neither present nor absent; "
            "they are left out, since this layout has no sign for unknown.",
            Severity.WARNING,
        )
    pairs = (
        MaskedImage(name, stored.mask, image.path, image.label, image.split)
        for name, image, stored in _stored(project, known)
    )
    return (yield from export_training_folder(pairs, len(known), out, project.schema))


def _is_stale(stored: StoredMask | None, trained: Round, recipe: Recipe) -> bool:
    """Tell whether a mask is missing, or of another recipe or round, or of its earlier state."""
    if stored is None or stored.source.round_id != trained.id:
        return True
    if trained.finished is None or stored.source.created < trained.finished:
        return True
    made_with = Recipe.model_validate_json(stored.source.recipe_json)
    # A margin that was to be learned stands in the record of the mask.
    return made_with.model_copy(update={"margin": recipe.margin}) != recipe


def _stored(
    project: Project, images: Sequence[ImageRecord]
) -> Iterator[tuple[str, ImageRecord, StoredMask]]:
    for name, image in zip(mask_names(images), images, strict=True):
        stored = project.read_mask(_id(image))
        if stored is None:
            raise ProjectError(
                "has no mask", where=image.path, remedy="Export again: masks are made as needed."
            )
        yield name, image, stored


def _id(image: ImageRecord) -> int:
    assert image.id is not None
    return image.id
