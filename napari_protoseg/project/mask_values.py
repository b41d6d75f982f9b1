"""What may stand in a mask: that its digest is right does not say that it means anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.records import FIRST_PERSON, MOST_PEOPLE, Origin, StoredMask
from napari_protoseg.schema import UNLABELLED

SETTERS = (*Origin, *range(FIRST_PERSON + 1, FIRST_PERSON + MOST_PEOPLE + 1))
"""What stands for somebody who may set a pixel; a person is the number of one after 16."""

_BAND = 2**19
"""Pixels that are looked at at once: as many as a processor keeps at hand."""


def others(values: NDArray[np.uint8], allowed: Collection[int]) -> list[int]:
    """Return what stands in an array of any shape beside what is allowed, ascending."""
    flat, table = values.reshape(-1), bytes(allowed)
    strange: set[int] = set()
    for first in range(0, flat.size, _BAND):
        # Several times as fast as NumPy.
        strange.update(flat[first : first + _BAND].tobytes().translate(None, table))
    return sorted(strange)


def fault_of(
    mask: NDArray[np.uint8], setters: NDArray[np.uint8], given: Collection[int]
) -> str | None:
    """Say, as a clause, what in a mask nobody could make sense of; None for nothing.

    Parameters
    ----------
    mask, setters
        As they are stored, ``(height, width)``.
    given
        The class ids that the project has ever given, also those of classes that are gone.
    """
    if strange := others(mask, (UNLABELLED, *given)):
        return f"its mask holds {strange}, which the project has never given as class ids"
    if strange := others(setters, SETTERS):
        return f"its pixels are set by {strange}, which stand for nobody"
    return None


def contradictions(mask: StoredMask, people: Collection[int]) -> Iterator[str]:
    """Yield, as clauses, what no program of ours has left so, though the mask can be read.

    Parameters
    ----------
    mask
        The mask.
    people
        The setters that stand for persons of the project.
    """
    if strange := others(mask.setters, (*Origin, *people)):
        yield f"pixels are set by persons whom the project does not know ({strange})"
    is_labelled = mask.mask != UNLABELLED
    if (is_labelled & (mask.setters == Origin.NONE)).any():
        yield "pixels are labelled that nobody has set"
    if (~is_labelled & (mask.setters == Origin.MODEL)).any():
        yield "pixels are unlabelled that the model has set"
    if leaves_range(mask.confidence):
        yield "its confidence leaves the range 0..1"


def leaves_range(confidence: NDArray[np.float16]) -> bool:
    """Tell whether a confidence is below 0, above 1, or no number, anywhere."""
    # As whole numbers, float16 from 0 to 1 go up to that of 1; only -0 is beyond.
    beyond = confidence[confidence.view(np.uint16) > np.float16(1).view(np.uint16)]
    return bool(np.any(beyond != 0))
