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

    A step is known as undone by the mask that is seen then, which is again the one before it. So
    all steps that can be undone must be known: where there are too many to keep, all are
    forgotten, and whoever draws has to begin a new history.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._done = 0
        self.begin_anew = False
        """Whether no step before the last one that was added is known any more."""

    def add(self, before: Mask, of_before: Basis, after: Mask, of_after: Basis) -> None:
        """Keep a model's step, which can be undone from now on if it changes a pixel."""
        self.begin_anew = False
        if np.array_equal(before, after):
            self._rebase(of_after)
            return
        del self._steps[self._done :]
        if len(self._steps) == _KEPT:
            self._steps.clear()
            self.begin_anew = True
        self._steps.append(_Step(before, of_before, after, of_after))
        self._done = len(self._steps)

    def retrace(self, drawn: Mask) -> Basis | None:
        """Return what a mask is based on that a step back or forth has led to; None without one."""
        if self._done and np.array_equal(drawn, self._steps[self._done - 1].before):
            self._done -= 1
            return self._steps[self._done].of_before
        if self._done < len(self._steps) and np.array_equal(drawn, self._steps[self._done].after):
            self._done += 1
            return self._steps[self._done - 1].of_after
        return None

    def _rebase(self, basis: Basis) -> None:
        """Let the mask between two steps be based on something else."""
        if self._done:
            self._steps[self._done - 1] = replace(self._steps[self._done - 1], of_after=basis)
        if self._done < len(self._steps):
            self._steps[self._done] = replace(self._steps[self._done], of_before=basis)
