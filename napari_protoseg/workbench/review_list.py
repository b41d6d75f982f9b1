"""The images of a project as review goes through them: how each mask stands, which are listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from napari_protoseg.project.records import ImageRecord, MaskSummary, ReviewStatus


class ReviewFilter(Enum):
    """Which images are listed."""

    ALL = "All images"
    OPEN = "Not reviewed yet"
    CORRECTED = "Corrected by hand"
    ACCEPTED = "Accepted"
    SKIPPED = "Skipped"
    FLAGGED = "Flagged"


@dataclass(frozen=True)
class ReviewItem:
    """One image in review.

    Parameters
    ----------
    image
        Which.
    status
        What was said of its mask; None: nothing yet.
    mask
        What is known of its stored mask; None where it has none.
    is_proposed
        Whether a model proposes a mask where none is stored.
    """

    image: ImageRecord
    status: ReviewStatus | None
    mask: MaskSummary | None
    is_proposed: bool = False

    @property
    def is_corrected(self) -> bool:
        """Whether somebody has set pixels of the mask."""
        return self.mask is not None and self.mask.corrected is not None

    def state(self) -> str:
        """Return how the mask stands, in words."""
        words = []
        if self.status is not None:
            words.append(self.status.value)
        if self.mask is None:
            words.append("proposed" if self.is_proposed else "no mask yet")
        elif self.is_corrected:
            words.append(f"corrected by {self.mask.corrected_by}")
        elif self.mask.round_id is not None:
            words.append(f"round {self.mask.round_id}")
        elif self.mask.bank_version is not None:
            words.append(f"bank {self.mask.bank_version}, not trained yet")
        elif self.mask.is_of_model:
            words.append("mask of another model")
        else:
            words.append("made by no model")
        return ", ".join(words)

    def fits(self, listing: ReviewFilter) -> bool:
        """Tell whether a filter lists it."""
        match listing:
            case ReviewFilter.ALL:
                return True
            case ReviewFilter.OPEN:
                return self.status is None
            case ReviewFilter.CORRECTED:
                return self.is_corrected
            case _:
                return self.status is not None and self.status.value.title() == listing.value


class ReviewList:
    """All images in review, and the rows of those that are listed.

    Parameters
    ----------
    images
        In the order in which they are listed.
    states, masks
        What is known of their masks, by image.
    proposes
        Whether there is a model that proposes masks.
    listing
        Which of them are listed.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord] = (),
        states: Mapping[int, ReviewStatus] | None = None,
        masks: Mapping[int, MaskSummary] | None = None,
        listing: ReviewFilter = ReviewFilter.ALL,
        *,
        proposes: bool = False,
    ) -> None:
        states, masks = states or {}, masks or {}
        self.listing = listing
        self.all = [
            ReviewItem(image, states.get(image.known_id), masks.get(image.known_id), proposes)
            for image in images
        ]
        self._rows = [item for item in self.all if item.fits(listing)]
        self._row_of = {item.image.known_id: row for row, item in enumerate(self._rows)}
        self._place_of = {item.image.known_id: place for place, item in enumerate(self.all)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> ReviewItem:
        return self._rows[row]

    def row_of(self, image_id: int | None) -> int | None:
        """Return where an image is listed, or None where it is not."""
        return None if image_id is None else self._row_of.get(image_id)

    def item(self, image_id: int | None) -> ReviewItem | None:
        """Return an image as it stands, listed or not; None where there is none such."""
        place = None if image_id is None else self._place_of.get(image_id)
        return None if place is None else self.all[place]

    def neighbour(self, image_id: int | None, step: int) -> ImageRecord | None:
        """Return the listed image after one (step 1) or before it (-1), or None at the end.

        An image that is not listed any more still has its place among the others; without an
        image, the first one is next and the last one is before.
        """
        if image_id is None or image_id not in self._place_of:
            others = iter(self.all if step > 0 else self.all[::-1])
        else:
            place = self._place_of[image_id]
            others = iter(self.all[place + 1 :] if step > 0 else self.all[:place][::-1])
        return next((item.image for item in others if item.image.known_id in self._row_of), None)
