"""The steps by which models have changed a mask that is drawn on, to tell which are undone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.records import MaskSource, PredictedMask

Mask = NDArray[np.uint8]
"""``(height, width)``: 0 unlabelled, k class id k."""

_KEPT = 30


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
class _Step:
    """A model's step from one mask to another, as both are seen."""

    before: Mask
    of_before: Basis
    after: Mask
    of_after: Basis


class MaskSteps:
    """Steps of models among the strokes of a person, who undoes and redoes them one by one.

    All that can be undone must be known, since the last thing done is the first to be undone. So
    where there are too many steps of models to keep, everything is forgotten, and whoever draws
    has to begin a new history.
    """

    def __init__(self) -> None:
        self._history: list[_Step | None] = []  # None: a stroke
        self._done = 0
        self.begin_anew = False
        """Whether nothing before the last step that was added is known any more."""

    def forget(self) -> None:
        """Begin a new history."""
        self._history.clear()
        self._done = 0

    def add(self, before: Mask, of_before: Basis, after: Mask, of_after: Basis) -> None:
        """Keep a model's step, which can be undone from now on if it changes a pixel."""
        self.begin_anew = False
        if np.array_equal(before, after):
            self._rebase(of_after)
            return
        if sum(step is not None for step in self._history[: self._done]) == _KEPT:
            self.forget()
            self.begin_anew = True
        self._enter(_Step(before, of_before, after, of_after))

    def add_stroke(self) -> None:
        """Note that the person has drawn something, which can be undone from now on."""
        self._enter(None)

    def undo(self, drawn: Mask) -> Basis | None:
        """Go one back; return what `drawn` is based on if a model's step was undone, else None."""
        if self._done == 0:
            return None
        self._done -= 1
        step = self._history[self._done]
        return step.of_before if step is not None and np.array_equal(drawn, step.before) else None

    def redo(self, drawn: Mask) -> Basis | None:
        """Go one forth; return what `drawn` is based on if it was a model's step, else None."""
        if self._done == len(self._history):
            return None
        step = self._history[self._done]
        self._done += 1
        return step.of_after if step is not None and np.array_equal(drawn, step.after) else None

    def _enter(self, step: _Step | None) -> None:
        del self._history[self._done :]
        self._history.append(step)
        self._done = len(self._history)

    def _rebase(self, basis: Basis) -> None:
        """Let the masks between two steps be based on something else."""
        for place in reversed(range(self._done)):
            step = self._history[place]
            if step is not None:
                self._history[place] = replace(step, of_after=basis)
                break
        for place in range(self._done, len(self._history)):
            step = self._history[place]
            if step is not None:
                self._history[place] = replace(step, of_before=basis)
                break
