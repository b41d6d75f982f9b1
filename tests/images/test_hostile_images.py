"""Images that were made to exhaust whoever reads them are refused, soon and by name."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ImageError
from napari_protoseg.exports.indexed_png import decode
from napari_protoseg.images.reading import read_image, read_mask


def tile(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (36, 40, 3), np.uint8)
    Image.fromarray(pixels).save(content, format=kind, **options)
    return content.getvalue()


def zero_png(width: int, height: int, colour: int) -> bytes:
    """Return a PNG of zeros: colour 0 is grey, 2 RGB."""
    packer = zlib.compressobj(9)
    line = bytes(1 + width * (1 if colour == 0 else 3))
    data = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def refused(path: Path, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        read_image(path)
    assert path.name in str(caught.value)


def test_a_small_file_of_a_large_image_is_refused_before_it_is_decoded(tmp_path: Path):
    path = tmp_path / "bomb.png"
    path.write_bytes(zero_png(6000, 6000, 2))
    refused(path, "6000 x 6000 pixels in .* bytes, less than tissue needs")


def test_a_large_mask_of_one_class_is_no_bomb(tmp_path: Path):
    path = tmp_path / "mask.png"
    path.write_bytes(zero_png(6000, 6000, 0))
    assert read_mask(path).shape == (6000, 6000)


def test_pages_without_end_are_not_counted(tmp_path: Path):
    content = tile("tiff", compression="raw")
    start = struct.unpack("<I", content[4:8])[0]
    end = start + 2 + 12 * struct.unpack("<H", content[start : start + 2])[0]
    page = content[start:end]
    many = 40_000
    pages = b"".join(
        page + struct.pack("<I", len(content) + (number + 1) * (len(page) + 4))
        for number in range(many)
    )
    path = tmp_path / "pages.tif"
    path.write_bytes(content[:end] + struct.pack("<I", len(content)) + content[end + 4 :] + pages)
    refused(path, "several pages")


def test_a_canvas_beyond_the_decoder_s_limit_is_refused(tmp_path: Path):
    content = tile("webp")
    canvas = struct.pack("<I", 2**14)[:3] * 2
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    path = tmp_path / "canvas.webp"
    path.write_bytes(content[:12] + extended + content[12:])
    refused(path, "exceeds limit|damaged")


def test_scans_beyond_any_encoder_s_are_refused(tmp_path: Path):
    content = tile("jpeg", progressive=True)
    scan = content.rindex(b"\xff\xda")
    path = tmp_path / "scans.jpg"
    path.write_bytes(content[:-2] + content[scan:-2] * 60 + content[-2:])
    refused(path, "scans, which no encoder writes")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_mask_that_is_a_named_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "mask.png")
    for read in (read_mask, decode):
        with pytest.raises(ImageError, match="not a file"):
            read(tmp_path / "mask.png")


def test_palette_indices_without_a_palette_are_refused(tmp_path: Path):
    content = tile("png")
    path = tmp_path / "indices.png"
    header = content[:25] + b"\x03" + content[26:29]
    path.write_bytes(header + struct.pack(">I", zlib.crc32(header[12:])) + content[33:])
    refused(path, "damaged")
