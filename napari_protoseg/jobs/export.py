"""The job that exports the masks of a project's images."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectError
from napari_protoseg.events import Event, Job, Notice, Request, Severity
from napari_protoseg.exports.folder import Exported, NamedMask, require_names
from napari_protoseg.exports.masks_folder import export_png
from napari_protoseg.exports.training_folder import (
    MaskedImage,
    bracketed_name,
    export_training_folder,
)
from napari_protoseg.jobs.export_plan import ExportFormat, ExportPlan, plan_export
from napari_protoseg.jobs.models import TrainedModel, trained_model
from napari_protoseg.jobs.names import mask_names
from napari_protoseg.jobs.predict import PredictionRecord, predict_project
from napari_protoseg.jobs.truth import true_mask
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord


def export_project(
    project: Project,
    form: ExportFormat,
    out: Path,
    recipe: Recipe,
    *,
    overwrite: bool = False,
    device: torch.device,
    now: datetime,
) -> Job[Exported | None]:
    """Make the masks that are missing or outdated, then write all of them, as `plan_export` says.

    Parameters
    ----------
    project
        With a trained round, or with masks that need none.
    form, out
        What is written where: a new or empty folder, which appears complete or not at all.
    recipe
        For masks that have to be made; one that was made by another recipe is made anew.
    overwrite
        Replace an earlier export in `out`, once the new one is whole.
    device
        Where masks are computed.
    now
        Their date.

    Returns
    -------
    Exported or None
        None after a stop.

    Raises
    ------
    ExportError
        There is nothing to export; or `out` holds something, or to overwrite, something else
        than an earlier export.
    ProjectError, CheckpointError, ImageError, StorageError
    """
    plan = plan_export(project, form, out, recipe)
    obstacle = plan.obstacle(overwrite=overwrite)
    if obstacle is not None:
        raise obstacle
    for line in plan.left_out():
        yield Notice(line, Severity.WARNING)
    wanted = set(plan.exported)
    images = [image for image in project.images() if image.id in wanted]
    names = mask_names(images)
    if form is ExportFormat.TRAINING:
        names = [bracketed_name(n, i.label) for n, i in zip(names, images, strict=True)]
    require_names(names)
    trained = yield from _model(project, plan)
    if trained is not None and plan.stale:
        stale = set(plan.stale)
        outdated = [image for image in images if image.id in stale]
        made = yield from predict_project(
            project, outdated, trained, recipe, device=device, now=now
        )
        if made is None:
            return None
    if form is ExportFormat.PNG:
        masks = (NamedMask(name, mask) for name, _, mask in _masks(project, images, plan))
        documents = {}
        if trained is not None:
            record = PredictionRecord(
                recipe=recipe,
                model=trained.record,
                model_sha256=trained.sha256,
                images=plan.predicted,
                others=len(images) - plan.predicted,
                created=now.isoformat(),
            )
            documents = record.documents()
        return (
            yield from export_png(
                masks, len(images), out, project.schema, documents, overwrite=overwrite
            )
        )
    pairs = (
        MaskedImage(name, mask, image.path, image.label, image.split)
        for name, image, mask in _masks(project, images, plan)
    )
    return (
        yield from export_training_folder(
            pairs, len(images), out, project.schema, overwrite=overwrite
        )
    )


def _model(
    project: Project, plan: ExportPlan
) -> Generator[Event, Request | None, TrainedModel | None]:
    """Load the model, where it makes masks or the record beside the masks is of it."""
    is_recorded = plan.form is ExportFormat.PNG and plan.predicted > 0
    if not plan.stale and not is_recorded:
        return None
    trained = trained_model(project)
    yield from trained.notices()
    return trained


def _masks(
    project: Project, images: Sequence[ImageRecord], plan: ExportPlan
) -> Iterator[tuple[str, ImageRecord, NDArray[np.uint8]]]:
    """Yield name and mask of each image: the stored mask, or the true one where the plan says."""
    for name, image in zip(mask_names(images), images, strict=True):
        if image.id in plan.true:
            yield name, image, true_mask(image, project.schema)
            continue
        stored = project.read_mask(image.known_id)
        if stored is None:
            raise ProjectError(
                "has no mask", where=image.path, remedy="Export again: masks are made as needed."
            )
        yield name, image, stored.mask
