"""From what a reader of labels says of an image to what a project keeps of it, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ImageError
from napari_protoseg.images.reading import read_image
from napari_protoseg.labels.records import LabelledImage
from napari_protoseg.project.records import ImageRecord, Split


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


def read_recorded(image: ImageRecord) -> NDArray[np.uint8]:
    """Read the image of a record, uint8 ``(height, width, 3)``, RGB.

    Raises
    ------
    ImageError
        It cannot be read, or has changed its size.
    """
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        raise ImageError(
            f"is {pixels.shape[1]} x {pixels.shape[0]} pixels, not {image.width} x "
            f"{image.height} as when it was taken in",
            where=image.path,
            remedy="Restore the original file, or make the project anew.",
        )
    return pixels
