"""Pixels of classes that were removed or merged: as they are seen, while what is stored stays.

So a class goes, and comes back, without a pixel being written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.arrays import MaskArrays
from napari_protoseg.project.edit_codec import PixelChange, Values, differ
from napari_protoseg.project.records import (
    Origin,
    StoredMask,
    are_protected,
    setters_of_model,
)
from napari_protoseg.schema import UNLABELLED, ClassSchema


class Heirs:
    """What stands in masks in the place of the classes that were removed or merged.

    A pixel of a class that was merged is of the other one, and whose it was. A pixel of a class
    that was removed is unlabelled: where a person or an import had set it, it stays theirs;
    else it is nobody's, and a prediction may fill it.

    Parameters
    ----------
    schema
        The classes that hold.
    """

    def __init__(self, schema: ClassSchema) -> None:
        self.given = frozenset((*schema.ids, *schema.retired))
        """The class ids that were ever given, those of classes that are gone among them."""
        self._table = np.arange(256, dtype=np.uint8)
        for class_id, heir in schema.heirs.items():
            self._table[class_id] = heir

    def __bool__(self) -> bool:
        """Whether any class is removed or merged now."""
        return bool((self._table != np.arange(256)).any())

    def shows_as(self, other: Heirs) -> bool:
        """Tell whether every mask looks the same by both."""
        return np.array_equal(self._table, other._table)

    def hides(self, classes: NDArray[np.uint8]) -> bool:
        """Tell whether any of these classes is gone."""
        return bool((self._table[classes] != classes).any())

    def seen(self, mask: NDArray[np.uint8], setters: NDArray[np.uint8]) -> Values:
        """Return class and setter of pixels as they are seen, of what is stored of them."""
        classes = self._table[mask]
        is_free = (classes != mask) & (classes == UNLABELLED) & ~are_protected(setters)
        return classes, np.where(is_free, np.uint8(Origin.NONE), setters)

    def seen_change(self, change: PixelChange) -> PixelChange:
        """Return an edit's pixels as they are seen: perhaps fewer than it has changed, or none."""
        before, after = self.seen(*change.before), self.seen(*change.after)
        return PixelChange(change.positions, before, after).only(differ(before, after))

    def over(
        self,
        change: PixelChange,
        mask: NDArray[np.uint8],
        setters: NDArray[np.uint8],
        *,
        is_release: bool = False,
    ) -> PixelChange:
        """Return an edit that was made of what is seen, with what it really takes away.

        It is the same edit where it takes nothing of classes that are gone.

        Parameters
        ----------
        change
            The edit.
        mask, setters
            As the project holds them, ``(height, width)``.
        is_release
            Whether it gives pixels back to the model: their classes stay, also one that is gone.
        """
        classes, owners = mask.take(change.positions), setters.take(change.positions)
        seen = self.seen(classes, owners)
        is_it = (seen[0] == change.before[0]) & (seen[1] == change.before[1])
        is_it &= (classes != seen[0]) | (owners != seen[1])
        # What it sets may be there already, of a class that is gone.
        is_it &= (classes != change.after[0]) | (owners != change.after[1])
        if not is_it.any():
            return change
        before, after = _where(is_it, (classes, owners), change.before), change.after
        if is_release:
            after = _where(is_it, (classes, setters_of_model(classes)), after)
        return PixelChange(change.positions, before, after)

    def kept(self, held: StoredMask, entry: MaskArrays, *, protected: bool = False) -> MaskArrays:
        """Return a new mask to store, in which the pixels of classes that are gone stay.

        Parameters
        ----------
        held
            The mask as the project holds it.
        entry
            The new one, as it is seen.
        protected
            Keep those pixels alone that no prediction may change; else all that look as before.
        """
        mask, setters = self.seen(held.mask, held.setters)
        stays = (held.mask != mask) & (mask == entry.mask) & (setters == entry.origins)
        if protected:
            stays &= are_protected(held.setters)
        if not stays.any():
            return entry
        mask, setters = _where(stays, (held.mask, held.setters), (entry.mask, entry.origins))
        return MaskArrays(mask, entry.confidence, setters)


def _where(chosen: NDArray[np.bool_], some: Values, others: Values) -> Values:
    """Return classes and setters of `some` where they are chosen, else of `others`."""
    return np.where(chosen, some[0], others[0]), np.where(chosen, some[1], others[1])
