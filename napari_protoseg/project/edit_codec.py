"""The pixels of an edit as bytes, read strictly: whatever is damaged is refused, never guessed.

A header, then one zlib stream. The stream holds the runs of consecutive positions (gap to the
run before, length; little-endian uint32 each), then one byte a pixel for each of class before,
setter before, class after and setter after. Its size follows from the header, and the header is
held against the size of the image: no bytes, however hostile, are inflated to more than 12 bytes
for each pixel of the image.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import DamagedError
from napari_protoseg.project.mask_values import SETTERS, others
from napari_protoseg.project.sqlite_errors import DAMAGED, GIVE_UP, TO_GIVE_UP
from napari_protoseg.schema import UNLABELLED

_MAGIC = b"PSE1"
_HEADER = struct.Struct("<4sIIIII")  # magic, height, width, pixels, runs, CRC-32 of the stream
_LEVEL = 1  # what is left to gain beyond it is small: runs and constant bytes
_NEVER_WRITTEN = 255


class JournalError(DamagedError):
    """The journal of edits of an image is damaged; whoever knows the image names it."""

    def __init__(self, reason: str, where: str = "the journal of edits") -> None:
        remedy = f"{DAMAGED} {GIVE_UP}"
        super().__init__(reason, where=where, remedy=remedy, on_terminal=TO_GIVE_UP)


Values = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Class and setter of each pixel of a change."""


@dataclass(frozen=True, eq=False)
class PixelChange:
    """Pixels of a mask that change.

    Parameters
    ----------
    positions
        In the flat image, ``row * width + column``, ascending.
    before, after
        Class and setter of each, ``(n,)`` uint8.
    """

    positions: NDArray[np.int64]
    before: Values
    after: Values

    @property
    def reversed(self) -> PixelChange:
        """The change that takes this one back."""
        return PixelChange(self.positions, self.after, self.before)

    def only(self, kept: NDArray[np.bool_]) -> PixelChange:
        """Return the change of those pixels alone that are `kept`, ``(n,)``."""
        return PixelChange(
            self.positions[kept],
            (self.before[0][kept], self.before[1][kept]),
            (self.after[0][kept], self.after[1][kept]),
        )

    def apply(self, mask: NDArray[np.uint8], setters: NDArray[np.uint8]) -> None:
        """Write what is after into mask and setters, ``(height, width)``, in place."""
        mask.put(self.positions, self.after[0])
        setters.put(self.positions, self.after[1])


def differ(some: Values, others: Values) -> NDArray[np.bool_]:
    """Tell which pixels differ in class or setter."""
    return np.asarray((some[0] != others[0]) | (some[1] != others[1]))


def packed(change: PixelChange, shape: tuple[int, int]) -> bytes:
    """Return the bytes that stand for a change of an image of this height and width.

    Raises
    ------
    JournalError
        Some of its pixels do not change: who reads it would refuse it.
    """
    _require_change(change)
    positions = change.positions
    begins = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
    starts = positions[begins]
    lengths = np.diff(begins, append=positions.size)
    gaps = starts - np.concatenate(([0], (starts + lengths)[:-1]))
    raw = b"".join(
        (
            gaps.astype("<u4").tobytes(),
            lengths.astype("<u4").tobytes(),
            *(part.tobytes() for part in (*change.before, *change.after)),
        )
    )
    stream = zlib.compress(raw, _LEVEL)
    head = _HEADER.pack(_MAGIC, *shape, positions.size, starts.size, zlib.crc32(stream))
    return head + stream


def unpacked(content: bytes, shape: tuple[int, int]) -> PixelChange:
    """Return the change that `packed` has made these bytes of.

    Raises
    ------
    JournalError
        They are damaged, or belong to an image of another size.
    """
    count, runs, stream = _opened(content, shape)
    raw = _inflated(stream, 8 * runs + 4 * count)
    gaps, lengths = _runs(raw, runs)
    # A gap of nothing would make one run of two; the first run may begin with the image.
    _require(bool(lengths.min() > 0 and (runs == 1 or gaps[1:].min() > 0)), "its runs touch")
    _require(int(lengths.sum()) == count, "its runs have another length than its pixels")
    _require(int(gaps.sum()) + count <= shape[0] * shape[1], "it leaves the image")
    positions = np.arange(count) + np.repeat(np.cumsum(gaps), lengths)
    parts = np.frombuffer(raw, np.uint8, 4 * count, offset=8 * runs).reshape(4, count)
    _require(int(parts.max()) < _NEVER_WRITTEN, "it holds values that stand in no mask")
    _require(not others(parts[1::2], SETTERS), "it holds setters that stand for nobody")
    change = PixelChange(positions, (parts[0], parts[1]), (parts[2], parts[3]))
    _require_change(change)
    return change


def _require_change(change: PixelChange) -> None:
    """Make sure that each pixel changes."""
    _require(bool(differ(change.before, change.after).all()), "it holds pixels that do not change")


def require_given(change: PixelChange, given: Collection[int]) -> None:
    """Make sure that pixels were and are of classes, by the ids that the project has ever given.

    Raises
    ------
    JournalError
        They hold others.
    """
    for classes, _ in (change.before, change.after):
        strange = others(classes, (UNLABELLED, *given))
        _require(not strange, f"it holds {strange}, never given by the project as class ids")


def covers(content: bytes, shape: tuple[int, int], position: int) -> bool:
    """Tell whether a change holds a position of the flat image; only its runs are looked at.

    Raises
    ------
    JournalError
        The bytes are damaged, as far as was read.
    """
    _, runs, stream = _opened(content, shape)
    gaps, lengths = _runs(_inflated(stream, 8 * runs, whole=False), runs)
    ends = np.cumsum(gaps + lengths)
    run = int(np.searchsorted(ends, position, side="right"))
    return run < runs and position >= int(ends[run] - lengths[run])


def _opened(content: bytes, shape: tuple[int, int]) -> tuple[int, int, memoryview]:
    """Return number of pixels, number of runs, and the stream, once the header is found right."""
    _require(len(content) > _HEADER.size, "it is cut off")
    magic, height, width, count, runs, checksum = _HEADER.unpack_from(content)
    stream = memoryview(content)[_HEADER.size :]
    _require(magic == _MAGIC, "it is of no known kind")
    _require((height, width) == shape, "it belongs to an image of another size")
    _require(0 < runs <= count <= height * width, "its counts are impossible")
    _require(zlib.crc32(stream) == checksum, "its checksum is wrong")
    return count, runs, stream


def _runs(raw: bytes, runs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the gap before each run, and its length."""
    gaps, lengths = np.frombuffer(raw, "<u4", 2 * runs).astype(np.int64).reshape(2, runs)
    return gaps, lengths


def _inflated(stream: memoryview, size: int, *, whole: bool = True) -> bytes:
    """Return what was deflated, of exactly this size, or its beginning: not one byte more."""
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(stream, size)
        if not whole:
            _require(len(raw) == size, "it is shorter than it says")
            return raw
        rest = b"" if inflate.eof else inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise JournalError(f"an edit is damaged ({error})") from error
    _require(len(raw) == size and not rest and inflate.eof, "it has another length than it says")
    _require(not inflate.unused_data, "something follows it")
    return raw


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise JournalError(f"an edit is damaged ({reason})")
