"""The job that adds images to a project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from napari_protoseg.events import Job
from napari_protoseg.jobs.new import image_records
from napari_protoseg.labels.reader import LabelReading, read_labels
from napari_protoseg.project.folder import Project


class AddImages(BaseModel):
    """Which images are added, and where their labels and masks are.

    Parameters
    ----------
    images
        Folder of the images.
    labels
        Table of image-level labels; None to take them from names or folders.
    masks
        Folder of masks in the codes of a project, named as their images, which are validated on
        unless `split` says otherwise.
    case_pattern
        Regular expression over the file name that gives the case.
    micrometres_per_pixel
        A number, or a regular expression over the file name.
    split
        Table with the columns file and split (train or validation).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Path
    labels: Path | None = None
    masks: Path | None = None
    case_pattern: str | None = None
    micrometres_per_pixel: float | str | None = None
    split: Path | None = None


@dataclass(frozen=True)
class AddedImages:
    """What was added.

    Parameters
    ----------
    added
        Number of new images.
    already_there
        Number of images whose content the project had; these are left as they were.
    masks
        Number of new images with a mask.
    """

    added: int
    already_there: int
    masks: int


def read_addition(project: Project, request: AddImages) -> Job[LabelReading]:
    """Look at images and labels under the classes of the project; nothing is recorded.

    Raises
    ------
    LabelError, ImageError, StorageError, Stopped
    """
    return (
        yield from read_labels(
            request.images,
            labels=request.labels,
            schema=project.schema,
            earlier=project.earlier_schemas(),
            case_pattern=request.case_pattern,
            micrometres_per_pixel=request.micrometres_per_pixel,
        )
    )


def add_images(project: Project, request: AddImages, reading: LabelReading) -> Job[AddedImages]:
    """Add what `read_addition` has read: all new images, or none.

    Raises
    ------
    LabelError, ImageError, EvaluationError, ProjectError, StorageError, Stopped
    """
    records = yield from image_records(
        reading, images=request.images, masks=request.masks, split=request.split
    )
    known = {image.content_hash for image in project.images()}
    new = [record for record in records if record.content_hash not in known]
    project.add_images(new, label_source=reading.report.source.value)
    return AddedImages(
        added=len(new),
        already_there=len(records) - len(new),
        masks=sum(record.mask_path is not None for record in new),
    )
