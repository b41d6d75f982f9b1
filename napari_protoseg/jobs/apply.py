"""The job that lets a model of this project, or of another, make masks of new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from napari_protoseg.errors import SchemaError
from napari_protoseg.events import Job, Notice, Severity
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.models import TrainedModel, trained_model
from napari_protoseg.jobs.muted import with_muted_of_bank
from napari_protoseg.jobs.predict import (
    compare_pixel_sizes,
    followed,
    in_model_order,
    store_predictions,
    with_margin,
)
from napari_protoseg.jobs.recipes import recipe_of_round
from napari_protoseg.labels.records import is_labelled
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.paths import real_path
from napari_protoseg.project.records import ImageRecord, MaskSource, Split
from napari_protoseg.schema import ClassSchema


class ApplyModel(BaseModel):
    """Which model makes masks of which images.

    Parameters
    ----------
    images
        Folder of the images, which are added to the project.
    model_project
        Folder of the project whose model it is; None for the project itself.
    labels
        Table of image-level labels; None to take them from names or folders, if they are there.
    micrometres_per_pixel
        Of the images: a number, or a regular expression over the file name; None where the files
        or the table tell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Path
    model_project: Path | None = None
    labels: Path | None = None
    micrometres_per_pixel: float | str | None = None


@dataclass(frozen=True)
class AppliedModel:
    """What a model was applied to.

    Parameters
    ----------
    added
        Number of images that are new in the project.
    predicted
        Number of images with a new mask: all of the folder, but those whose masks are lost with
        work of people in them.
    unlabelled
        Number of those without any image-level label, which nothing is trained on.
    """

    added: int
    predicted: int
    unlabelled: int = 0


@dataclass(frozen=True, eq=False)
class _Applied:
    """A model, and what of its own project it needs."""

    trained: TrainedModel
    training: list[ImageRecord]
    recipe: Recipe
    round_id: int | None


def apply_model(
    project: Project,
    request: ApplyModel,
    recipe: Recipe | None,
    *,
    device: torch.device,
    now: datetime,
) -> Job[AppliedModel | None]:
    """Add the images of a folder to the project, and store the masks that a model makes of them.

    Images that the project has already keep their labels, and get a mask too; pixels that a
    person has set, or that were imported, stay as they are. Classes of the model are those of
    the project with the same name, in any case.

    Parameters
    ----------
    project
        That the images are added to.
    request
        Images and model.
    recipe
        From prototype maps to masks, None for what suits the model; with the prototypes muted that
        are muted in the project whose model it is. Where labels are to be given and an image has
        none, the classes that the model finds in it take their place.
    device, now
        Where it computes; date of the masks.

    Returns
    -------
    AppliedModel or None
        None after a stop while masks are made: the images are in the project then, and the
        masks until then are stored.

    Raises
    ------
    SchemaError
        The model has a class that the project has not; nothing was added.
    LabelError
        Labels are malformed; nothing was added.
    Stopped
        It was stopped while images are read; nothing was added.
    ProjectError, CheckpointError, ImageError, StorageError, TrainingError
    """
    project.require_writable()
    applied = _model_of(project, request.model_project, recipe)
    recipe = applied.recipe
    trained = applied.trained
    classes = trained.record.classes
    positions = _positions_by_name(project, classes)
    ids = [project.schema.ids[position] for position in positions]
    predictor = Predictor(trained.model, ids, applied.recipe, device)
    yield from trained.notices()
    yield from _unknown_to_model(project.schema, positions)

    addition = AddImages(
        images=request.images,
        labels=request.labels,
        micrometres_per_pixel=request.micrometres_per_pixel,
    )
    reading = yield from read_addition(project, addition)
    for line in reading.report.problems():
        yield Notice(line, Severity.WARNING)
    added = yield from add_images(project, addition, reading)

    recorded = {image.content_hash: image for image in project.images()}
    # Read where they lie now, which need not be where the project first found them.
    found = [replace(recorded[i.info.content_hash], path=i.path) for i in reading.images]
    images = in_model_order(found, positions)
    yield from compare_pixel_sizes(trained.record, images)
    predictor = yield from with_margin(predictor, applied.training)
    unlabelled = [image for image in images if not is_labelled(image.label)]
    without_label = sum(not is_labelled(image.label) for image in found)
    if recipe.labels is not LabelCondition.GIVEN:
        unlabelled = []
    elif unlabelled:
        yield Notice(
            f"{len(unlabelled)} of {len(images)} images have no image-level labels: there the "
            "model may use the classes that it finds itself."
        )
    free = {image.id for image in unlabelled}
    by_model = LabelCondition.PREDICTED
    parts = (
        (predictor, recipe.labels, [image for image in images if image.id not in free]),
        (_with_labels(predictor, by_model), by_model, unlabelled),
    )
    source = MaskSource(
        round_id=applied.round_id,
        label_condition=recipe.labels.value,
        # As it was asked for, so that an export does not take these masks for outdated.
        recipe_json=predictor.recipe.model_dump_json(),
        created=now,
    )
    stored = (
        batch
        for part, condition, of_part in parts
        for batch in store_predictions(
            project, part, of_part, replace(source, label_condition=condition.value)
        )
    )
    left = yield from followed(stored, len(images))
    if left is None:
        return None
    predicted = len(images) - left
    return AppliedModel(added=added.added, predicted=predicted, unlabelled=without_label)


def _model_of(project: Project, folder: Path | None, chosen: Recipe | None) -> _Applied:
    """Return the model of the project in `folder`, or of `project` itself."""
    if folder is None or real_path(folder) == project.folder:
        trained = trained_model(project)
        version = trained.round.bank_version
        recipe = recipe_of_round(trained.round) if chosen is None else chosen
        own_recipe = with_muted_of_bank(project, recipe, trained.record.kind, version)
        return _Applied(trained, _training(project, trained), own_recipe, trained.round.id)
    with Project.open(folder) as other:
        trained = trained_model(other)
        version = trained.round.bank_version
        recipe = recipe_of_round(trained.round) if chosen is None else chosen
        own_recipe = with_muted_of_bank(other, recipe, trained.record.kind, version)
        return _Applied(trained, _training(other, trained), own_recipe, None)


def _training(project: Project, trained: TrainedModel) -> list[ImageRecord]:
    positions = project.schema.positions_of(trained.record.classes)
    return in_model_order(project.images(Split.TRAIN), positions)


def _positions_by_name(project: Project, classes: ClassSchema) -> list[int]:
    """Return where in the schema of the project each class of a model stands, by any name."""
    found = [project.schema.find(name) for name in classes.names]
    positions = [position for position in found if position is not None]
    missing = [
        name
        for name, position in zip(classes.names, found, strict=True)
        if position is None or positions.count(position) > 1
    ]
    if missing:
        raise SchemaError(
            f"the model knows classes that the project does not have: {', '.join(missing)}",
            where=project.folder,
            remedy="Add them on the Labels page, then apply the model again.",
        )
    return positions


def _unknown_to_model(schema: ClassSchema, positions: Sequence[int]) -> Iterator[Notice]:
    unknown = [name for k, name in enumerate(schema.names) if k not in positions]
    if unknown:
        yield Notice(
            f"The model does not know {', '.join(unknown)}: it labels no pixel so.",
            Severity.WARNING,
        )


def _with_labels(predictor: Predictor, condition: LabelCondition) -> Predictor:
    return predictor.with_recipe(predictor.recipe.model_copy(update={"labels": condition}))
