"""From what a reader of labels says of an image to what a project keeps of it, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.encoders.passes import ReadImage
from napari_protoseg.errors import ImageError
from napari_protoseg.images.reading import read_image
from napari_protoseg.labels.records import LabelledImage
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.storage import storage_errors
from napari_protoseg.training.images import TrainingImage


def image_record(
    image: LabelledImage, *, split: Split = Split.TRAIN, mask_path: Path | None = None
) -> ImageRecord:
    """Return the record of an image, with its split and its true mask."""
    return ImageRecord(
        path=image.path.resolve(),
        content_hash=image.info.content_hash,
        width=image.info.width,
        height=image.info.height,
        label=image.label,
        micrometres_per_pixel=image.micrometres_per_pixel,
        case=image.case,
        split=split,
        mask_path=mask_path,
    )


def training_images(images: Sequence[ImageRecord]) -> list[TrainingImage]:
    """Return what training takes of recorded images."""
    return [TrainingImage(image.path, image.label) for image in images]


def read_recorded(image: ImageRecord) -> NDArray[np.uint8]:
    """Read the image of a record, uint8 ``(height, width, 3)``, RGB.

    Raises
    ------
    ImageError
        It cannot be read, or is not the file that was taken in: what is cached or learned of
        an image goes by the hash of its content.
    """
    pixels = read_image(image.path)
    with storage_errors(image.path), image.path.open("rb") as stream:
        content_hash = hashlib.file_digest(stream, "sha256").hexdigest()
    if content_hash != image.content_hash:
        raise ImageError(
            "has changed since it was taken in",
            where=image.path,
            remedy="Restore the original file, or make the project anew.",
        )
    return pixels


def reader_of(images: Sequence[ImageRecord]) -> ReadImage:
    """Return what reads `images` by their paths, each as `read_recorded` does."""
    recorded = {image.path: image for image in images}
    return lambda path: read_recorded(recorded[path])
