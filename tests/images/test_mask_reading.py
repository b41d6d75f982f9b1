from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ImageError
from napari_protoseg.images.reading import read_mask

VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3


def test_an_indexed_mask_gives_indices_and_not_colours(tmp_path: Path) -> None:
    mask = Image.fromarray(VALUES).convert("P")
    mask.putdata(VALUES.ravel().tolist())
    mask.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    mask.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), VALUES)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_few_bits_are_not_scaled(tmp_path: Path, bits: int) -> None:
    values = VALUES % 2
    mask = Image.new("P", (4, 3))
    mask.putdata(values.ravel().tolist())
    mask.save(tmp_path / "mask.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), values)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_grey_masks_give_their_values(tmp_path: Path, kind: type[np.generic]) -> None:
    Image.fromarray(VALUES.astype(kind)).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, VALUES)


def test_a_mask_of_one_bit_gives_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(VALUES > 0).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), VALUES > 0)


def test_values_above_255_are_refused(tmp_path: Path) -> None:
    Image.fromarray(VALUES.astype(np.uint16) * 200).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match="up to 400"):
        read_mask(tmp_path / "mask.png")


def test_colours_and_lossy_files_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"mask\.png.*does not hold class ids"):
        read_mask(tmp_path / "mask.png")
    Image.new("L", (4, 3)).save(tmp_path / "mask.jpg")
    with pytest.raises(ImageError, match="JPEG blurs"):
        read_mask(tmp_path / "mask.jpg")


def test_grey_of_4_bits_is_refused_since_the_decoder_stretches_it(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "mask.png")
    content = bytearray((tmp_path / "mask.png").read_bytes())
    content[24] = 4
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(ImageError, match="grey of 4 bits"):
        read_mask(tmp_path / "mask.png")


def test_a_missing_or_damaged_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "gone.png")
    Image.fromarray(np.tile(VALUES, (50, 50))).save(tmp_path / "mask.png")
    (tmp_path / "mask.png").write_bytes((tmp_path / "mask.png").read_bytes()[:60])
    with pytest.raises(ImageError, match="damaged"):
        read_mask(tmp_path / "mask.png")
