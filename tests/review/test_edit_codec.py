"""The pixels of an edit survive as bytes, and no other bytes are taken for them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.edit_codec import PixelChange, packed, unpacked
from napari_protoseg.project.mask_values import SETTERS

SHAPE = (7, 11)
AREA = SHAPE[0] * SHAPE[1]
HEADER = struct.Struct("<4sIIIII")


@st.composite
def changes(draw: st.DrawFn) -> PixelChange:
    positions = np.array(
        sorted(draw(st.sets(st.integers(0, AREA - 1), min_size=1))), dtype=np.int64
    )

    def arrays(values: st.SearchStrategy[int]) -> st.SearchStrategy[NDArray[np.uint8]]:
        return st.lists(values, min_size=positions.size, max_size=positions.size).map(
            lambda found: np.array(found, dtype=np.uint8)
        )

    setters = arrays(st.sampled_from(SETTERS))
    before = (draw(arrays(st.integers(0, 254))), draw(setters))
    after = (before[0] ^ np.uint8(1), draw(setters))
    after = (np.where(after[0] == 255, np.uint8(0), after[0]), after[1])
    return PixelChange(positions, before, after)


def same(first: PixelChange, second: PixelChange) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in zip(
            (first.positions, *first.before, *first.after),
            (second.positions, *second.before, *second.after),
            strict=True,
        )
    )


def sealed(counts: tuple[int, int], raw: bytes, shape: tuple[int, int] = SHAPE) -> bytes:
    """Return bytes whose checksum is right, whatever else is wrong."""
    stream = zlib.compress(raw)
    return HEADER.pack(b"PSE1", *shape, *counts, zlib.crc32(stream)) + stream


@given(changes())
def test_a_change_comes_back_as_it_was(change: PixelChange) -> None:
    assert same(unpacked(packed(change, SHAPE), SHAPE), change)


@given(changes(), st.data())
def test_a_flipped_byte_or_a_lost_end_is_refused(change: PixelChange, data: st.DataObject) -> None:
    content = bytearray(packed(change, SHAPE))
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    with pytest.raises(ProjectError, match="damaged"):
        unpacked(bytes(content), SHAPE)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ProjectError, match="damaged"):
        unpacked(content, SHAPE)


@settings(max_examples=300)
@given(
    st.integers(0, AREA + 1),
    st.integers(0, AREA + 1),
    st.binary(max_size=400),
    st.booleans(),
)
def test_a_sealed_stream_of_anything_is_refused_or_fits_the_image(
    count: int, runs: int, raw: bytes, fits: bool
) -> None:
    if fits:
        raw = raw.ljust(8 * runs + 4 * count, b"\0")[: 8 * runs + 4 * count]
    try:
        change = unpacked(sealed((count, runs), raw), SHAPE)
    except ProjectError as error:
        assert "damaged" in str(error)
        return
    assert change.positions[0] >= 0 and change.positions[-1] < AREA
    assert np.all(np.diff(change.positions) > 0)
    assert change.positions.size == count


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(200 * 1024 * 1024), 9)
    head = HEADER.pack(b"PSE1", *SHAPE, 1, 1, zlib.crc32(bomb))
    with pytest.raises(ProjectError, match="another length"):
        unpacked(head + bomb, SHAPE)
    with pytest.raises(ProjectError, match="counts are impossible"):
        unpacked(sealed((2**32 - 1, 1), b""), SHAPE)


@pytest.mark.parametrize(
    ("counts", "gaps", "lengths", "values", "reason"),
    [
        ((2, 2), (0, 0), (1, 1), (0, 0, 0, 0, 1, 1, 0, 0), "runs touch"),
        ((1, 1), (AREA,), (1,), (0, 0, 1, 0), "leaves the image"),
        ((2, 1), (0,), (1,), (0, 0, 0, 0, 1, 1, 0, 0), "another length than its pixels"),
        ((1, 1), (0,), (0,), (0, 0, 1, 0), "runs touch"),
        ((1, 1), (0,), (1,), (3, 1, 3, 1), "do not change"),
        ((1, 1), (0,), (1,), (3, 1, 255, 1), "stand in no mask"),
        ((1, 1), (0,), (1,), (3, 1, 3, 7), "stand for nobody"),
    ],
)
def test_what_no_edit_would_hold_is_refused(
    counts: tuple[int, int],
    gaps: tuple[int, ...],
    lengths: tuple[int, ...],
    values: tuple[int, ...],
    reason: str,
) -> None:
    raw = np.array([*gaps, *lengths], "<u4").tobytes() + bytes(values)
    with pytest.raises(ProjectError, match=reason):
        unpacked(sealed(counts, raw), SHAPE)


def test_bytes_behind_the_stream_and_another_image_are_refused() -> None:
    change = PixelChange(
        np.array([3, 4, 9]),
        (np.zeros(3, np.uint8), np.zeros(3, np.uint8)),
        (np.ones(3, np.uint8), np.ones(3, np.uint8)),
    )
    content = packed(change, SHAPE)
    with pytest.raises(ProjectError, match="another size"):
        unpacked(content, (SHAPE[1], SHAPE[0]))
    longer = content[HEADER.size :] + b"more"
    head = HEADER.pack(b"PSE1", *SHAPE, 3, 2, zlib.crc32(longer))
    with pytest.raises(ProjectError, match="follows"):
        unpacked(head + longer, SHAPE)
