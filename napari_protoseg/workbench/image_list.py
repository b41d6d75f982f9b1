"""The images of a project in memory: which of them are listed, and their labels patched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

from napari_protoseg.labels.records import Label, Presence, is_labelled
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema


class LabelFilter(Enum):
    """Which images are listed, where it is not those that hold one class."""

    ALL = "All images"
    UNLABELLED = "Without label"
    INCOMPLETE = "With unknown classes"


Listing = LabelFilter | int
"""A filter, or the id of the class that listed images hold."""


class ImageList:
    """All images of a project, and the rows of those that are listed.

    Parameters
    ----------
    images
        In the order in which they are listed.
    schema
        The classes of their labels; None where there is no image.
    listing
        Which of them are listed.
    """

    def __init__(
        self,
        images: Iterable[ImageRecord] = (),
        schema: ClassSchema | None = None,
        listing: Listing = LabelFilter.ALL,
    ) -> None:
        self.all = list(images)
        self._places = {image.known_id: place for place, image in enumerate(self.all)}
        self._positions = {
            class_id: position for position, class_id in enumerate(schema.ids if schema else ())
        }
        self.show(listing)

    def show(self, listing: Listing) -> None:
        """List the images that fit now; one that later does not fit stays until this is asked."""
        self.listing = listing
        self._rows = [image.known_id for image in self.all if self._fits(image)]
        self._row_of = {image_id: row for row, image_id in enumerate(self._rows)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> ImageRecord:
        return self.of(self._rows[row])

    def row_of(self, image_id: int) -> int | None:
        """Return where an image is listed, or None where it is not."""
        return self._row_of.get(image_id)

    def of(self, image_id: int) -> ImageRecord:
        """Return an image, listed or not."""
        return self.all[self._places[image_id]]

    def presence(self, image_id: int, class_id: int) -> int:
        """Return 1 where an image holds a class, 0 where it does not, -1 where it is unknown."""
        return self.of(image_id).label[self._positions[class_id]]

    def relabel(self, image_id: int, label: Label) -> None:
        """Give an image another label."""
        place = self._places[image_id]
        self.all[place] = replace(self.all[place], label=label)

    @property
    def labelled(self) -> int:
        """Number of all images of which at least one class is known."""
        return sum(is_labelled(image.label) for image in self.all)

    def present(self, class_id: int) -> int:
        """Return the number of all images that hold a class."""
        position = self._positions[class_id]
        return sum(image.label[position] == Presence.PRESENT for image in self.all)

    def _fits(self, image: ImageRecord) -> bool:
        match self.listing:
            case LabelFilter.ALL:
                return True
            case LabelFilter.UNLABELLED:
                return not is_labelled(image.label)
            case LabelFilter.INCOMPLETE:
                return Presence.UNKNOWN in image.label
            case int() as class_id:
                return image.label[self._positions[class_id]] == Presence.PRESENT
