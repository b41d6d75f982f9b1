"""What a person fills in before images are looked at, and the requests made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.jobs.add import AddImages
from napari_protoseg.jobs.new import NewProject
from napari_protoseg.workbench.typed_path import typed_path


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
        images, labels = typed_path(self.images), typed_path(self.labels)
        return labels.parent if images is None and labels is not None else images

    @property
    def target(self) -> Path | None:
        """Folder of the new project; None while there is nothing to make it of."""
        folder = typed_path(self.folder)
        if folder is not None:
            return folder
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
            labels=typed_path(self.labels),
            classes=tuple(name.strip() for name in self.classes.split(","))
            if self.classes.strip()
            else None,
            schema_file=typed_path(self.schema_file),
            masks=typed_path(self.masks),
            case_pattern=self.case_pattern or None,
            micrometres_per_pixel=self.pixel_size or None,
            split=typed_path(self.split),
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
            labels=typed_path(self.labels),
            masks=typed_path(self.masks),
            case_pattern=self.case_pattern or None,
            micrometres_per_pixel=self.pixel_size or None,
            split=typed_path(self.split),
        )

    def _images(self) -> Path:
        if self.place is None:
            raise LabelError(
                "no images are chosen",
                where="Labels",
                remedy="Choose a folder of images, or a table of labels.",
            )
        return self.place
