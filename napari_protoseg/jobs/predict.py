"""The jobs that make masks: of a project's own images, or of any folder of images."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from napari_protoseg.encoders.encoding import DenseFeatures
from napari_protoseg.errors import LabelError, ProtosegError
from napari_protoseg.events import Event, Job, Notice, Progress, Request, Severity
from napari_protoseg.exports.folder import Exported, NamedMask, require_names, vacant
from napari_protoseg.exports.masks_folder import export_png
from napari_protoseg.jobs.batches import predict_batches
from napari_protoseg.jobs.features import cached_features
from napari_protoseg.jobs.lost_masks import named_by_reason, told_without_redo
from napari_protoseg.jobs.made_of import labels_text
from napari_protoseg.jobs.models import TrainedModel, trained_model
from napari_protoseg.jobs.names import mask_names
from napari_protoseg.jobs.records import image_record
from napari_protoseg.labels.reader import read_labels
from napari_protoseg.labels.records import is_labelled
from napari_protoseg.labels.report import LabelSource
from napari_protoseg.masks.prediction import Predictor, learn_margin
from napari_protoseg.masks.recipe import Background, LabelCondition, Recipe
from napari_protoseg.network.record import ModelRecord
from napari_protoseg.project.folder import Project
from napari_protoseg.project.mask_changes import WrittenMasks
from napari_protoseg.project.records import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Split,
    Stage,
)

_MARGIN_IMAGES = 64
_MPP_TOLERANCE = 0.25


class PredictionRecord(BaseModel):
    """What is written beside masks: how they came about.

    Parameters
    ----------
    recipe
        From prototype maps to masks, with the label condition.
    model
        What the model is.
    model_sha256
        Hash of its checkpoint.
    images
        Number of masks that came about so.
    created
        ISO 8601 date and time.
    others
        Number of masks beside them that came about otherwise: painted, imported, accepted in
        review before, or made by a model of another project or before any training.
    unlabelled
        Number of images without an image-level label, whose masks may use every class although
        the others are kept to their given labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    model: ModelRecord
    model_sha256: str
    images: int
    created: str
    others: int = 0
    unlabelled: int = 0

    def documents(self) -> dict[str, str]:
        """Return the files to write beside the masks: this record, and its recipe alone."""
        return {
            PREDICTION_RECORD: self.model_dump_json(indent=2) + "\n",
            "recipe.json": self.recipe.model_dump_json(indent=2) + "\n",
        }


PREDICTION_RECORD = "prediction.json"


@dataclass(frozen=True)
class StoredBatch:
    """Images whose masks were made together.

    Parameters
    ----------
    images
        Their number.
    written
        What has become of their masks.
    """

    images: int
    written: WrittenMasks


def predict_images(
    project: Project,
    folder: Path | None,
    out: Path,
    recipe: Recipe,
    *,
    stage: Stage = Stage.PROTOTYPES,
    label_file: Path | None,
    device: torch.device,
    now: datetime,
) -> Job[Exported | None]:
    """Write the masks of a folder of images, or of the project's own.

    Parameters
    ----------
    project
        With a trained round of that stage.
    folder
        Images; None for those of the project.
    out
        A new or empty folder; it appears complete or not at all.
    recipe
        From prototype maps to masks, and written beside them; `with_muted_of_project` mutes in it
        what a person has muted in the project. With given labels, these are read from the names
        of the images, or from `label_file`; else names and folders of the images mean nothing.
    stage
        Which of the project's models makes the masks.
    label_file
        Table of image-level labels.
    device, now
        Where it computes; date for the record.

    Returns
    -------
    Exported or None
        None after a stop.

    Raises
    ------
    LabelError
        Given labels are asked for, and there are none.
    ProjectError, CheckpointError, ExportError, ImageError, StorageError
    """
    vacant(out)
    trained = trained_model(project, stage)
    yield from trained.notices()
    classes = trained.record.classes
    positions = project.schema.positions_of(classes)
    own = in_model_order(project.images(), positions)
    images = own
    if folder is not None:
        needs_labels = recipe.labels is LabelCondition.GIVEN
        # Of two files of equal content, as bare glass may have, each is to get its mask.
        reading = yield from read_labels(
            folder, labels=label_file, schema=classes, labelled=needs_labels, distinct=False
        )
        if needs_labels and reading.report.source is LabelSource.NONE:
            raise LabelError(
                "no image-level labels, in the names or in a table",
                where=folder,
                remedy="Name a table of labels, or let the model say which classes there are.",
                on_terminal="--label-file FILE, or --labels predicted",
            )
        report = reading.report
        for line in report.problems() if needs_labels else report.left_out():
            yield Notice(line, Severity.WARNING)
        images = [image_record(image) for image in reading.images]
    margin_images = [image for image in own if image.split is Split.TRAIN]
    return (
        yield from _write_masks(
            trained, images, out, recipe, margin_images=margin_images, device=device, now=now
        )
    )


def _write_masks(
    trained: TrainedModel,
    images: Sequence[ImageRecord],
    out: Path,
    recipe: Recipe,
    *,
    margin_images: Sequence[ImageRecord],
    device: torch.device,
    now: datetime,
) -> Job[Exported | None]:
    """Write the masks of `images`, whose labels are in the order of the model's classes."""
    names = mask_names(images)
    require_names(names)
    schema = trained.record.classes
    yield from compare_pixel_sizes(trained.record, images)
    unlabelled = 0
    if recipe.labels is LabelCondition.GIVEN:
        unlabelled = sum(not is_labelled(image.label) for image in images)
    if unlabelled:
        words = f"{unlabelled} of {len(images)} images have no image-level label"
        yield Notice(f"{words}: their masks may use every class.", Severity.WARNING)
    predictor = Predictor(trained.model, schema.ids, recipe, device)
    predictor = yield from with_margin(predictor, margin_images)
    record = PredictionRecord(
        recipe=predictor.recipe,
        model=trained.record,
        model_sha256=trained.sha256,
        images=len(images),
        created=now.isoformat(),
        unlabelled=unlabelled,
    )
    name_of = dict(zip((image.path for image in images), names, strict=True))
    masks = (
        NamedMask(name_of[image.path], mask)
        for batch, prediction in predict_batches(predictor, images)
        for image, mask in zip(batch, prediction.masks, strict=True)
    )
    return (yield from export_png(masks, len(images), out, schema, record.documents()))


def predict_project(
    project: Project,
    images: Sequence[ImageRecord],
    trained: TrainedModel,
    recipe: Recipe,
    *,
    device: torch.device,
    now: datetime,
) -> Job[int | None]:
    """Store the masks that a model makes of `images`, which are of the project.

    Those that are lost with work of people in them are named, and left as they are.

    Returns
    -------
    int or None
        How many; None after a stop, and the masks until then are stored.

    Raises
    ------
    ImageError, StorageError
    """
    project.require_writable()
    schema = trained.record.classes
    predictor = Predictor(trained.model, schema.ids, recipe, device)
    positions = project.schema.positions_of(schema)
    training = in_model_order(project.images(Split.TRAIN), positions)
    features = cached_features(project, trained.model)
    predictor = yield from with_margin(predictor, training, features)
    source = MaskSource(
        round_id=trained.round.id,
        label_condition=recipe.labels.value,
        recipe_json=predictor.recipe.model_dump_json(),
        created=now,
    )
    in_order = in_model_order(images, positions)
    stored = store_predictions(project, predictor, in_order, source, features)
    left = yield from followed(stored, len(images))
    return None if left is None else len(images) - left


def followed(stored: Iterator[StoredBatch], total: int) -> Job[int | None]:
    """Tell how far the storing of `total` masks has come, and which were left as they are.

    That is told also where it is stopped, or fails.

    Returns
    -------
    int or None
        How many were left; None after a stop.
    """
    done = 0
    left: dict[int, ProtosegError] = {}
    without_redo: list[int] = []
    is_stopped = False
    failure: Exception | None = None
    try:
        for batch in stored:
            done += batch.images
            left |= batch.written.left
            without_redo += batch.written.without_redo
            is_stopped = (yield Progress("Making masks", done, total)) is Request.STOP
            if is_stopped:
                break
    except Exception as error:  # noqa: BLE001 (it is raised once that is told)
        failure = error
    yield from named_by_reason("Not made again", left)
    yield from told_without_redo(without_redo)
    if failure is not None:
        raise failure
    return None if is_stopped else len(left)


def store_predictions(
    project: Project,
    predictor: Predictor,
    images: Sequence[ImageRecord],
    source: MaskSource,
    features: DenseFeatures | None = None,
) -> Iterator[StoredBatch]:
    """Store the masks of `images`, and tell of each batch.

    Parameters
    ----------
    project
        Which the images are of.
    predictor
        Its class ids are those of the project.
    images
        With labels in the order of the model's classes.
    source
        What the masks come from.
    features
        As for `predict_batches`.

    Raises
    ------
    ImageError, ProjectError, StorageError, TrainingError
    """
    for batch, prediction in predict_batches(predictor, images, features):
        masks = [
            PredictedMask(image.known_id, mask, confidence)
            for image, mask, confidence in zip(
                batch, prediction.masks, prediction.confidence, strict=True
            )
        ]
        labels = None
        if source.label_condition == LabelCondition.GIVEN.value:
            ids = predictor.class_ids.tolist()
            labels = {image.known_id: labels_text(ids, image.label) for image in batch}
        yield StoredBatch(len(batch), project.write_masks(masks, source, labels))


def in_model_order(images: Sequence[ImageRecord], positions: Sequence[int]) -> list[ImageRecord]:
    """Return `images` with their labels in the order of a model's classes.

    Parameters
    ----------
    images
        With labels in the order of a project's classes.
    positions
        Of each class of the model among those.
    """
    return [
        replace(image, label=tuple(image.label[position] for position in positions))
        for image in images
    ]


def with_margin(
    predictor: Predictor, images: Sequence[ImageRecord], features: DenseFeatures | None = None
) -> Generator[Event, Request | None, Predictor]:
    """Learn the margin of the background rule, where the recipe asks for it.

    Parameters
    ----------
    predictor
        Returned as it is where there is nothing to learn, or nothing to learn it from.
    images
        That the model was trained on, with labels in the order of its classes.
    features
        As for `predict_batches`.
    """
    recipe = predictor.recipe
    if recipe.background is not Background.MARGIN or recipe.margin is not None or not images:
        return predictor
    # An image that a model was only applied to has no label, and was not trained on.
    images = [image for image in images if is_labelled(image.label)] or images
    some = [images[i] for i in range(0, len(images), -(-len(images) // _MARGIN_IMAGES))]
    yield Notice(f"Learning the background margin from {len(some)} training images.")
    maps = (m for _, p in predict_batches(predictor, some, features) for m in p.class_maps)
    margin = learn_margin(maps)
    yield Notice(f"Pixels whose highest class map is below {margin:.3f} stay unlabelled.")
    return predictor.with_margin(margin)


def compare_pixel_sizes(record: ModelRecord, images: Sequence[ImageRecord]) -> Iterator[Notice]:
    """Warn where `images` have other pixels than those that a model was trained on.

    Where only one of the two sizes is known, it says that they cannot be compared.
    """
    known = [i.micrometres_per_pixel for i in images if i.micrometres_per_pixel is not None]
    trained_on = record.micrometres_per_pixel
    if trained_on is None:
        if known:
            yield Notice(
                f"These images have {float(np.median(known)):.3g} micrometres per pixel; those "
                "that the model was trained on are not known. Masks may be poor where they differ."
            )
        return
    if not known:
        if images:
            yield Notice(
                f"The model was trained on {trained_on:.3g} micrometres per pixel; those of these "
                "images are not known. Masks may be poor where they differ."
            )
        return
    median = float(np.median(known))
    if abs(median - trained_on) > _MPP_TOLERANCE * trained_on:
        yield Notice(
            f"These images have {median:.3g} micrometres per pixel, those that the model was "
            f"trained on {trained_on:.3g}: masks may be poor.",
            Severity.WARNING,
        )
