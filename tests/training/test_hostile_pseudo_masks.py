"""Pseudo-masks that were made to exhaust or to mislead are refused by name."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import CheckpointError
from napari_protoseg.training.pseudo_masks import PseudoMask, PseudoMasks, PseudoMaskWriter

SHAPE = (6, 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = PseudoMaskWriter(tmp_path, 3)
    positions = np.tile(np.uint8([0, 1, 2, 255, 0, 1, 2]), (6, 1))
    writer.add(1, PseudoMask(positions, np.full(SHAPE, 100, np.uint8)))
    writer.finish(0.2)
    return tmp_path


def replace(folder: Path, name: str, part: bytes) -> None:
    """Put another array into the file of the mask."""
    path = folder / "000001.npz"
    with zipfile.ZipFile(path) as packed:
        parts = {known: packed.read(known) for known in packed.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for known, content in (parts | {name: part}).items():
            packed.writestr(known, content)


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"000001\.npz: not the pseudo-masks of a training"):
        PseudoMasks(folder).of(1)


def test_the_mask_of_these_tests_is_one(folder: Path) -> None:
    assert PseudoMasks(folder).of(1).positions.shape == SHAPE


def test_masks_by_columns_are_written_as_they_are_read(tmp_path: Path) -> None:
    turned = np.arange(42, dtype=np.uint8).reshape(7, 6).T % 3
    writer = PseudoMaskWriter(tmp_path, 3)
    writer.add(1, PseudoMask(turned, np.full((7, 6), 100, np.uint8).T))
    writer.finish(0)
    assert np.array_equal(PseudoMasks(tmp_path).of(1).positions, turned)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(SHAPE, np.float32),
        np.zeros(SHAPE, "S3"),
        np.zeros(42, np.uint8),
        np.zeros((7, 6), np.uint8),
        np.full(SHAPE, 3, np.uint8),
    ],
    ids=["fractions", "text", "flat", "turned", "class"],
)
def test_another_array_than_that_of_a_mask_is_refused(folder: Path, array: np.ndarray) -> None:
    replace(folder, "positions.npy", saved(array))
    refused(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (999999999, 999999999), }\n",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (16384, 16384), }\n",
        "{{'descr': '|u1', 'fortran_order': False, 'shape': (6, 7), }\n",
        "(" * 9000 + "\n",
    ],
    ids=["impossible", "more than there is", "unclosed", "nested"],
)
def test_what_an_array_says_of_itself_is_not_evaluated(folder: Path, text: str) -> None:
    replace(folder, "weights.npy", header(text) + bytes(42))
    refused(folder)


def test_a_bomb_is_not_unpacked(folder: Path) -> None:
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (30000, 30000), }\n"
    replace(folder, "positions.npy", header(text) + bytes(10**8))
    refused(folder)


@pytest.mark.parametrize("place", [8, 10], ids=["encrypted", "method"])
def test_a_part_that_is_packed_in_another_way_is_refused(folder: Path, place: int) -> None:
    path = folder / "000001.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + place] = 65
    path.write_bytes(content)
    refused(folder)


@pytest.mark.parametrize("least", ["[]", "[-1, 0, 0]", "[0, 0, 256]", "[1e999]"])
def test_limits_that_no_weight_has_are_refused(folder: Path, least: str) -> None:
    (folder / "limits.json").write_text(f'{{"least": {least}}}')
    with pytest.raises(CheckpointError, match=r"limits\.json"):
        PseudoMasks(folder)
