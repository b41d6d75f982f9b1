"""What the second stage learns from: a class for each pixel, and how far that is to be trusted.

Arrays that were frozen before the training began: one file for each image, beside the confidence
below which a pixel of each class is ignored.
"""

from __future__ import annotations

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_protoseg.errors import CheckpointError
from napari_protoseg.images.decoding import MAX_PIXELS
from napari_protoseg.storage import read_whole, require_file, storage_errors, write_atomically

NO_CLASS = 255
"""Position of a pixel that is of no class, or not known to be of one."""

CERTAIN = 255
"""Weight of a pixel that a person has set."""

_LEVELS = 256
_LIMITS = "limits.json"
_MOST_BYTES = 2**20
_PARTS = ("positions", "weights")

# What a zip file or an array within may be found to be, but that of a training.
_DECODING_ERRORS = (
    ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip

# https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
_START = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '\|u1', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9})\), \} *\n"
)


@dataclass(frozen=True, eq=False)
class PseudoMask:
    """What is believed of the pixels of one image.

    Parameters
    ----------
    positions
        Position of the class in the schema, `NO_CLASS` where there is none, uint8 ``(H, W)``.
    weights
        `CERTAIN` where a person has set the pixel, else 1 to 254 by the confidence of a model, 0
        where there is none, uint8 ``(H, W)``.
    """

    positions: NDArray[np.uint8]
    weights: NDArray[np.uint8]

    def laid_on(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image with both as further channels, ``(H, W, 5)``."""
        return np.dstack([image, self.positions, self.weights])


def believed(
    positions: NDArray[np.uint8], confidence: NDArray[np.float32], classes: int
) -> PseudoMask:
    """Return what a model says of the pixels of an image.

    Parameters
    ----------
    positions
        Of the most probable class, ``(H, W)``; no position of a class where there is none.
    confidence
        0..1, ``(H, W)``.
    classes
        Number of classes.
    """
    known = positions < classes
    weights = np.rint(np.clip(confidence, 0, 1) * (CERTAIN - 2)).astype(np.uint8) + np.uint8(1)
    return PseudoMask(
        np.where(known, positions, np.uint8(NO_CLASS)), np.where(known, weights, np.uint8(0))
    )


class Limits(BaseModel):
    """Least weight of a pixel of each class that is not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: tuple[Annotated[int, Field(ge=0, le=CERTAIN)], ...] = Field(min_length=1)


class PseudoMaskWriter:
    """Writes the pseudo-masks of a training, and finds their limits.

    Parameters
    ----------
    folder
        Where they go.
    classes
        Number of classes.
    """

    def __init__(self, folder: Path, classes: int) -> None:
        self._folder = folder
        self._counts = np.zeros((classes, _LEVELS), dtype=np.int64)

    def add(self, number: int, mask: PseudoMask) -> None:
        """Write the mask of the image with this number.

        Raises
        ------
        StorageError
        """
        content = io.BytesIO()
        np.savez_compressed(
            content,
            positions=np.ascontiguousarray(mask.positions),
            weights=np.ascontiguousarray(mask.weights),
        )
        write_atomically(_file(self._folder, number), content.getvalue())
        # What the label or a person decides says nothing of where a model is unsure.
        doubted = (mask.positions != NO_CLASS) & (mask.weights < CERTAIN - 1)
        for position in range(len(self._counts)):
            of_class = mask.weights[doubted & (mask.positions == position)]
            self._counts[position] += np.bincount(of_class, minlength=_LEVELS)

    def finish(self, ignored: float) -> None:
        """Write the limits: they leave out a share of the pixels of each class.

        Parameters
        ----------
        ignored
            Largest share, 0..1, of those that the model is in doubt of at all.

        Raises
        ------
        StorageError
        """
        least = [_least_weight(counts, ignored) for counts in self._counts]
        limits = Limits(least=tuple(least))
        write_atomically(self._folder / _LIMITS, limits.model_dump_json().encode())


class PseudoMasks:
    """The pseudo-masks of a training, as they were written.

    Parameters
    ----------
    folder
        With the files of a `PseudoMaskWriter`.

    Raises
    ------
    CheckpointError
        They are damaged or incomplete.
    StorageError
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / _LIMITS
        content = read_whole(path, most=_MOST_BYTES)
        try:
            self._least = np.array(Limits.model_validate_json(content).least, np.uint8)
        except ValidationError as error:
            raise _damaged(path) from error

    def holds(self, number: int) -> bool:
        """Tell whether there is one of the image with this number."""
        return _file(self._folder, number).is_file()

    def of(self, number: int) -> PseudoMask:
        """Return the mask of an image, with weight 0 where it is to be ignored.

        Raises
        ------
        CheckpointError, StorageError
        """
        path = _file(self._folder, number)
        require_file(path)
        with storage_errors(path), path.open("rb") as file:
            try:
                positions, weights = _arrays(file)
            except _DECODING_ERRORS as error:
                raise _damaged(path) from error
        known = positions != NO_CLASS
        if positions.shape != weights.shape or np.any(positions[known] >= len(self._least)):
            raise _damaged(path)
        least = self._least[np.where(known, positions, 0)]
        return PseudoMask(positions, np.where(known & (weights >= least), weights, np.uint8(0)))


def _arrays(file: IO[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read both arrays of a mask; what is larger than any image is never unpacked."""
    with zipfile.ZipFile(file) as archive:
        positions, weights = (_array(archive.open(f"{name}.npy")) for name in _PARTS)
    return positions, weights


def _array(stream: IO[bytes]) -> NDArray[np.uint8]:
    """Read what `numpy.save` has written of a mask; its own reader would evaluate the header."""
    with stream:
        start = stream.read(len(_START) + 2)
        header = stream.read(int.from_bytes(start[len(_START) :], "little"))
        found = _HEADER.fullmatch(header)
        if not start.startswith(_START) or found is None:
            raise ValueError("another array than that of a mask")
        height, width = map(int, found.groups())
        if not 0 < height * width <= MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
        content = stream.read(height * width + 1)
    if len(content) != height * width:
        raise ValueError(f"not the bytes of {width} x {height} pixels")
    return np.frombuffer(content, dtype=np.uint8).reshape(height, width)


def _least_weight(counts: NDArray[np.int64], ignored: float) -> int:
    """Return the weight below which lies at most this share of the pixels counted by weight."""
    below: Sequence[int] = np.cumsum(counts).tolist()
    return next((weight for weight, number in enumerate(below) if number > ignored * below[-1]), 0)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        "not the pseudo-masks of a training, or damaged ones",
        where=path,
        remedy="Train the segmentation network again.",
        on_terminal="protoseg segment PROJECT",
    )
