"""What a reader of image-level labels says of one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from napari_protoseg.images.reading import ImageInfo
from napari_protoseg.project.records import Split


class Presence(IntEnum):
    """Whether an image holds a class."""

    UNKNOWN = -1
    ABSENT = 0
    PRESENT = 1


Label = tuple[int, ...]
"""One `Presence` value for each class, in schema order."""


@dataclass(frozen=True)
class LabelledImage:
    """One readable image with its image-level label.

    Parameters
    ----------
    path
        Below the folder that was read, as that folder was given.
    label
        1 present, 0 absent, -1 unknown, in schema order.
    case
        The patient or slide that it comes from, or None where that is not known.
    micrometres_per_pixel
        Or None where neither an option, nor a table, nor the file gives it.
    split
        As a table says, or None where none does.
    info
        Size and content hash.
    """

    path: Path
    label: Label
    case: str | None
    micrometres_per_pixel: float | None
    split: Split | None
    info: ImageInfo


def is_labelled(label: Label) -> bool:
    """Tell whether a label says anything: a class present, or one absent."""
    return any(presence != Presence.UNKNOWN for presence in label)
