"""Predictions that know an image's label and nothing of place: what every mask must clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray


class Trivial(Enum):
    """A prediction made from the true image-level label alone."""

    EVEN_SPLIT = "split evenly"
    LAST_NAMED = "last-named class"


class _Prediction(Interface):
    def __call__(self, shape: tuple[int, int], label: Sequence[int], /) -> NDArray[np.uint8]: ...


def even_split(shape: tuple[int, int], label: Sequence[int]) -> NDArray[np.uint8]:
    """Share an image evenly: upright stripes one pixel wide, the classes present taking turns.

    Stripes that thin lie everywhere alike, so the figures do not depend on which class
    happens to stand on which side of the images.

    Parameters
    ----------
    shape
        Height and width in pixels.
    label
        For each of the C classes 1 (present), 0 (absent) or -1 (unknown).

    Returns
    -------
    Class positions 0..C-1 of shape `shape`; all C (unlabelled) where no class is present.
    """
    present = _present(label)
    return np.broadcast_to(present[np.arange(shape[1]) % len(present)], shape)


def last_named(shape: tuple[int, int], label: Sequence[int]) -> NDArray[np.uint8]:
    """Fill an image with the last class that its label names; parameters as `even_split`."""
    return np.full(shape, _present(label)[-1], np.uint8)


TRIVIAL: Mapping[Trivial, _Prediction] = MappingProxyType(
    {Trivial.EVEN_SPLIT: even_split, Trivial.LAST_NAMED: last_named}
)


def _present(label: Sequence[int]) -> NDArray[np.uint8]:
    present = np.flatnonzero(np.asarray(label) == 1).astype(np.uint8)
    return present if present.size else np.array([len(label)], np.uint8)
