"""From what a reader of labels says of an image to what a project keeps of it."""

from __future__ import annotations

from pathlib import Path

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
