"""The steps by which a mask has become what it is: of whom each was, to tell what is undone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.records import MaskSource, PredictedMask

Mask = NDArray[np.uint8]
"""``(height, width)``: 0 unlabelled, k class id k."""

_KEPT_MASKS = 30
"""As many masks of models are kept; each takes three bytes per pixel."""

_KEPT_STEPS = 200
"""As many steps are kept; napari can go back by a hundred."""


@dataclass(frozen=True, eq=False)
class Basis:
    """What the pixels that no person has set are taken from.

    Parameters
    ----------
    predicted
        Of the whole image.
    source
        What it came from.
    """

    predicted: PredictedMask
    source: MaskSource


@dataclass(frozen=True, eq=False)
class Stroke:
    """Pixels that a person has changed in one go.

    Parameters
    ----------
    places
        ``(count,)``: where they are in the flattened mask.
    owners_before
        ``(count,)`` of `Origin` values: whose they were before.
    """

    places: NDArray[np.int64]
    owners_before: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Change:
    """A model's mask that took the place of another.

    Parameters
    ----------
    basis
        The new one.
    is_seen
        Whether a pixel has changed by it: else a person can neither undo nor redo it alone.
    """

    basis: Basis
    is_seen: bool


class MaskSteps:
    """Steps of models among the strokes of a person, who undoes and redoes them one by one.

    All that can be undone must be known, since the last thing done is the first to be undone. So
    where there are too many masks of models to keep, everything is forgotten, and whoever draws
    has to begin a new history.

    Parameters
    ----------
    basis
        Of the mask as it is at first.
    """

    def __init__(self, basis: Basis) -> None:
        self._first = basis
        self._history: list[Stroke | Change] = []
        self._done = 0

    @property
    def basis(self) -> Basis:
        """What the mask is based on, as the history stands."""
        return self._basis_after(self._done)

    def forget(self) -> None:
        """Begin a new history."""
        self._first = self.basis
        self._history.clear()
        self._done = 0

    def add(self, change: Change) -> bool:
        """Keep a model's step, which can be undone from now on if it is seen.

        Returns
        -------
        bool
            Whether it had to be forgotten, and everything before it.
        """
        last = self._history[self._done - 1] if self._done else None
        if not change.is_seen and not isinstance(last, Stroke):
            self._rebase(change.basis)
            return False
        known = sum(isinstance(step, Change) for step in self._history[: self._done])
        is_too_many = known >= _KEPT_MASKS
        if is_too_many:
            self.forget()
            self._first = change.basis
        elif change.is_seen:
            self._enter(change)
        else:  # what was undone can still be redone
            self._history.insert(self._done, change)
            self._done += 1
        return is_too_many

    def add_stroke(self, stroke: Stroke) -> None:
        """Keep what a person has drawn; nothing that was undone can be redone any more."""
        if stroke.places.size:
            self._enter(stroke)
        else:
            del self._history[self._done :]

    def last(self) -> tuple[Stroke | Change, Basis] | None:
        """Return the step to be undone next, and the basis before it; None where there is none."""
        place = self._place_of_last()
        return None if place is None else (self._history[place], self._basis_after(place))

    def next(self) -> Stroke | Change | None:
        """Return the step to be redone next; None where nothing was undone."""
        return self._history[self._done] if self._done < len(self._history) else None

    def go_back(self) -> None:
        """Note that the last step was undone."""
        place = self._place_of_last()
        assert place is not None
        self._done = place

    def go_forth(self) -> None:
        """Note that the next step was redone, and with it those that nobody sees."""
        self._done += 1
        while self._done < len(self._history) and not _is_seen(self._history[self._done]):
            self._done += 1

    def _place_of_last(self) -> int | None:
        places = range(self._done - 1, -1, -1)
        return next((place for place in places if _is_seen(self._history[place])), None)

    def _basis_after(self, count: int) -> Basis:
        for step in reversed(self._history[:count]):
            if isinstance(step, Change):
                return step.basis
        return self._first

    def _enter(self, step: Stroke | Change) -> None:
        del self._history[self._done :]
        self._history.append(step)
        if len(self._history) > _KEPT_STEPS:
            self._first = self._basis_after(1)
            del self._history[0]
        self._done = len(self._history)

    def _rebase(self, basis: Basis) -> None:
        """Let the mask as it is now be based on something else."""
        if self._done == 0:
            self._first = basis
        else:
            last = self._history[self._done - 1]
            assert isinstance(last, Change)
            self._history[self._done - 1] = Change(basis, last.is_seen)


def _is_seen(step: Stroke | Change) -> bool:
    return isinstance(step, Stroke) or step.is_seen
