"""What a person fills in before images are looked at, and the requests made of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.jobs.add import AddImages
from napari_protoseg.jobs.new import NewProject


@dataclass(frozen=True)
class Draft:
    """What a person has filled in so far, as text; empty: not given.

    Parameters
    ----------
    images
        Folder of the images; empty: that of the table.
    labels
        Table of image-level labels.
    classes
        Names, parted by commas.
    schema_file
        Class schema, in place of `classes`.
    masks
        Folder of true masks.
    case_pattern
        Regular expression over the file name.
    pixel_size
        Micrometres per pixel, or a regular expression over the file name.
    split
        Table of splits.
    folder
        Of the new project; empty: beside the images.
    """

    images: str = ""
    labels: str = ""
    classes: str = ""
    schema_file: str = ""
    masks: str = ""
    case_pattern: str = ""
    pixel_size: str = ""
    split: str = ""
    folder: str = ""

    @property
    def place(self) -> Path | None:
        """Folder of the images; None while neither it nor a table is given."""
        if self.images:
            return _path(self.images)
        return _path(self.labels).parent if self.labels else None

    @property
    def target(self) -> Path | None:
        """Folder of the new project; None while there is nothing to make it of."""
        if self.folder:
            return _path(self.folder)
        if self.place is None:
            return None
        place = self.place.absolute()
        return place.with_name(f"{place.name}-protoseg") if place.name else None

    def new_project(self) -> NewProject:
        """Return what the job that makes a project takes.

        Raises
        ------
        LabelError
            No images are chosen.
        """
        images, folder = self._images(), self.target
        if folder is None:
            raise LabelError(
                "no folder for the project", where=images, remedy="Choose one that is empty."
            )
        return NewProject(
            folder=folder,
            images=images,
            labels=_given_path(self.labels),
            classes=tuple(name.strip() for name in self.classes.split(","))
            if self.classes.strip()
            else None,
            schema_file=_given_path(self.schema_file),
            masks=_given_path(self.masks),
            case_pattern=self.case_pattern or None,
            micrometres_per_pixel=self.pixel_size or None,
            split=_given_path(self.split),
        )

    def addition(self) -> AddImages:
        """Return what the job that adds images takes.

        Raises
        ------
        LabelError
            No images are chosen.
        """
        return AddImages(
            images=self._images(),
            labels=_given_path(self.labels),
            masks=_given_path(self.masks),
            case_pattern=self.case_pattern or None,
            micrometres_per_pixel=self.pixel_size or None,
            split=_given_path(self.split),
        )

    def _images(self) -> Path:
        if self.place is None:
            raise LabelError(
                "no images are chosen",
                where="Labels",
                remedy="Choose a folder of images, or a table of labels.",
            )
        return self.place


def _path(text: str) -> Path:
    # Unlike Path.expanduser it leaves a home that is not there as it is, while it is being typed.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def _given_path(text: str) -> Path | None:
    return _path(text) if text else None
