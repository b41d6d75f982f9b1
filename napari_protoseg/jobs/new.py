"""The job that makes a project of a folder of images with image-level labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from napari_protoseg.errors import ExportError, ImageError, ProjectError, Stopped
from napari_protoseg.evaluation.protocol import MaskCodes, class_positions
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.exports.folder import require_names
from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.names import mask_names
from napari_protoseg.jobs.records import image_record
from napari_protoseg.labels.reader import LabelReading, read_labels
from napari_protoseg.labels.records import LabelledImage
from napari_protoseg.labels.report import LabelReport
from napari_protoseg.labels.splits import read_splits
from napari_protoseg.project.creation import created_folder, require_free
from napari_protoseg.project.folder import Project
from napari_protoseg.project.paths import real_path
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.schema import ClassSchema


class NewProject(BaseModel):
    """What a project is made of.

    Parameters
    ----------
    folder
        The project: new or empty.
    images
        Folder of the images.
    labels
        Table of image-level labels; None to take them from names or folders.
    classes
        Names of the classes, in the order of labels in names.
    schema_file
        Class schema, in place of `classes`.
    masks
        Folder of masks in the codes of a project (0 unlabelled, k class id k), named as their
        images, which are validated on unless `split` says otherwise.
    case_pattern
        Regular expression over the file name that gives the case.
    micrometres_per_pixel
        A number, or a regular expression over the file name.
    split
        Table with the columns file and split (train or validation).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    images: Path
    labels: Path | None = None
    classes: tuple[str, ...] | None = None
    schema_file: Path | None = None
    masks: Path | None = None
    case_pattern: str | None = None
    micrometres_per_pixel: float | str | None = None
    split: Path | None = None


@dataclass(frozen=True)
class MadeProject:
    """A new project.

    Parameters
    ----------
    folder
        Of the project.
    report
        What the reader of the labels found.
    training, validation
        Number of images of each split.
    masks
        Number of images with a mask.
    """

    folder: Path
    report: LabelReport
    training: int
    validation: int
    masks: int


def new_project(request: NewProject, *, now: datetime) -> Job[MadeProject]:
    """Read images and labels, and record them as a new project.

    Raises
    ------
    LabelError, ImageError, SchemaError, ProjectError, StorageError, Stopped
        Nothing is left of the project then.
    """
    require_free(real_path(request.folder))
    reading = yield from read_source(request)
    return (yield from make_project(request, reading, now=now))


def read_source(request: NewProject) -> Job[LabelReading]:
    """Look at images and labels; nothing is recorded.

    Raises
    ------
    LabelError, ImageError, SchemaError, StorageError, Stopped
    """
    schema = ClassSchema.read(request.schema_file) if request.schema_file else None
    return (
        yield from read_labels(
            request.images,
            labels=request.labels,
            classes=request.classes,
            schema=schema,
            case_pattern=request.case_pattern,
            micrometres_per_pixel=request.micrometres_per_pixel,
        )
    )


def make_project(request: NewProject, reading: LabelReading, *, now: datetime) -> Job[MadeProject]:
    """Record what `read_source` has read as a new project; errors as `new_project`."""
    records = yield from image_records(
        reading, images=request.images, masks=request.masks, split=request.split
    )
    try:
        require_names(mask_names(records))
    except ExportError as error:
        yield Notice(f"Their masks cannot go into one folder. {error}", Severity.WARNING)
    folder = real_path(request.folder)
    with created_folder(folder, reading.schema, created=now), Project.open(folder) as project:
        project.add_images(records, label_source=reading.report.source.value)
    validation = sum(record.split is Split.VALIDATION for record in records)
    masks = sum(record.mask_path is not None for record in records)
    return MadeProject(folder, reading.report, len(records) - validation, validation, masks)


def image_records(
    reading: LabelReading, *, images: Path, masks: Path | None, split: Path | None
) -> Job[list[ImageRecord]]:
    """Return the records of images with their splits and true masks.

    Parameters
    ----------
    reading
        The images.
    images
        The folder that they were read from.
    masks
        Folder of their masks, as `NewProject` has it.
    split
        Table of their splits.

    Raises
    ------
    LabelError, ImageError, EvaluationError, ProjectError, StorageError, Stopped
    """
    paths = [image.path for image in reading.images]
    splits = read_splits(split, images, paths) if split else {}
    found = {} if masks is None else (yield from _find_masks(masks, images, reading))
    return [
        image_record(
            image,
            split=splits.get(
                image.path,
                image.split or (Split.VALIDATION if image.path in found else Split.TRAIN),
            ),
            mask_path=found.get(image.path),
        )
        for image in reading.images
    ]


def _find_masks(masks: Path, images: Path, reading: LabelReading) -> Job[dict[Path, Path]]:
    """Return the mask of each image that has one, each looked at whole."""
    found: dict[Path, Path] = {}
    for number, image in enumerate(reading.images, start=1):
        mask = (masks / image.path.relative_to(images)).with_suffix(".png")
        if mask.is_file():
            _require_fitting(mask, image, reading.schema)
            found[image.path] = mask.resolve()
        if (yield Progress("Reading masks", number, len(reading.images))) is Request.STOP:
            raise Stopped(
                f"stopped after {number} of {len(reading.images)} masks",
                where=masks,
                remedy="Nothing was kept; read them again.",
            )
    if not found:
        raise ProjectError(
            "holds no mask named as an image",
            where=masks,
            remedy="Name each mask as its image, with the suffix .png.",
        )
    return found


def _require_fitting(mask: Path, image: LabelledImage, schema: ClassSchema) -> None:
    values = read_mask(mask)
    if values.shape != (image.info.height, image.info.width):
        raise ImageError(
            f"is {values.shape[1]} x {values.shape[0]} pixels, its image "
            f"{image.info.width} x {image.info.height}",
            where=mask,
            remedy="Give a mask of the size of its image.",
        )
    class_positions(values, schema, MaskCodes.PROJECT, where=mask)
