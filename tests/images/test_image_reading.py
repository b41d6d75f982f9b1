from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from napari_protoseg.errors import ImageError
from napari_protoseg.images.reading import inspect_image, list_images, read_image, read_mask


def tissue(height: int = 40, width: int = 50) -> NDArray[np.uint8]:
    """Coloured noise."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_lossless_files_give_their_pixels_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tile.{suffix}"
    Image.fromarray(tissue()).save(path)
    np.testing.assert_array_equal(read_image(path), tissue())


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_files_are_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tile.{suffix}"
    Image.new("RGB", (50, 40), (200, 80, 150)).save(path)
    image = read_image(path)
    assert image.shape == (40, 50, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.mean(axis=(0, 1)), (200, 80, 150), atol=4)


def test_the_first_bytes_decide_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.fromarray(tissue()).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path), tissue())


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    opaque = np.dstack([tissue(), np.full((40, 50), 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "tile.png")
    np.testing.assert_array_equal(read_image(tmp_path / "tile.png"), tissue())


def test_transparent_pixels_are_laid_on_white(tmp_path: Path) -> None:
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, :10] = 0
    Image.fromarray(np.dstack([tissue(), alpha])).save(tmp_path / "tile.png")
    image = read_image(tmp_path / "tile.png")
    assert (image[:, :10] == 255).all()
    np.testing.assert_array_equal(image[:, 10:], tissue()[:, 10:])


def test_a_palette_is_converted_to_its_colours(tmp_path: Path) -> None:
    indexed = Image.new("P", (50, 40), 1)
    indexed.putpalette([0, 0, 0, 200, 80, 150])
    indexed.save(tmp_path / "tile.png")
    assert (read_image(tmp_path / "tile.png") == (200, 80, 150)).all()


def refused(path: Path, match: str, **options: int) -> None:
    """Both ways of reading refuse `path`, name it, and say what to do."""
    for read in (read_image, inspect_image):
        with pytest.raises(ImageError, match=match) as caught:
            read(path, **options)
        assert path.name in str(caught.value)
        assert caught.value.remedy


def test_a_text_file_named_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("these are notes")
    refused(tmp_path / "notes.png", "not a PNG")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "0 bytes")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"tile.{suffix}"
    Image.fromarray(tissue(200, 200)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(20, int(share * len(content)))])
    refused(path, "damaged or truncated")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "gone.png", "no such file")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "not a file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a file")


def test_16_bit_images_are_refused(tmp_path: Path) -> None:
    deep = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 30
    Image.fromarray(deep).save(tmp_path / "grey16.png")
    Image.fromarray(deep).save(tmp_path / "grey16.tif")
    refused(tmp_path / "grey16.png", "more than 8 bits")
    refused(tmp_path / "grey16.tif", "more than 8 bits")


def test_16_bit_colour_is_refused_although_the_decoder_would_reduce_it(tmp_path: Path) -> None:
    deep = tissue().astype(">u2") * 257
    write_png(tmp_path / "rgb16.png", 50, 40, b"".join(b"\0" + row.tobytes() for row in deep), 16)
    refused(tmp_path / "rgb16.png", "more than 8 bits")


def write_png(path: Path, width: int, height: int, lines: bytes, bits: int = 8) -> None:
    """Write RGB of any depth from filtered lines, which Pillow cannot."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGB"])
def test_grey_images_are_refused_however_they_are_stored(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(tissue()[..., 0]).convert(mode)
    grey.save(tmp_path / "grey.png")
    refused(tmp_path / "grey.png", "H&E needs colour")


def test_bare_glass_without_colour_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (243, 243, 243)).save(tmp_path / "glass.png")
    assert read_image(tmp_path / "glass.png").shape == (40, 50, 3)


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (50, 40)).save(tmp_path / "print.jpg")
    refused(tmp_path / "print.jpg", "colour mode CMYK")


def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(tissue(100, 100)).save(path)
    path.write_bytes(path.read_bytes()[:100])  # there are no pixels to decode
    refused(path, "100 x 100 pixels, more than 9,999", max_pixels=9_999)


def test_an_image_below_the_limit_is_not_stopped_by_the_decoder_s_own(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "wide.png"
    write_png(path, 15_000, 12_000, b"")  # there are no pixels to decode
    refused(path, "15000 x 12000 pixels in .* bytes, less than tissue needs")
    path.write_bytes(path.read_bytes() + bytes(10**6))
    refused(path, "damaged or truncated")
    assert not recwarn.list


def test_a_side_below_32_pixels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(tissue(31, 50)).save(tmp_path / "small.png")
    refused(tmp_path / "small.png", "smaller than 32")
    Image.fromarray(tissue(32, 32)).save(tmp_path / "enough.png")
    assert read_image(tmp_path / "enough.png").shape == (32, 32, 3)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(tissue())
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    refused(tmp_path / "pages.tif", "several pages")


def test_inspection_gives_size_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "tile.png"
    Image.fromarray(tissue()).save(path)
    info = inspect_image(path)
    assert (info.width, info.height) == (50, 40)
    assert info.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.micrometres_per_pixel is None


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_stated_resolution_gives_micrometres_per_pixel(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tile.{suffix}"
    Image.fromarray(tissue()).save(path, dpi=(50_800, 50_800))
    assert inspect_image(path).micrometres_per_pixel == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("dpi", [(72, 72), (96, 96), (300, 300), (50_800, 25_400)])
def test_print_resolutions_and_unequal_axes_count_as_none(
    tmp_path: Path, dpi: tuple[int, int]
) -> None:
    Image.fromarray(tissue()).save(tmp_path / "tile.png", dpi=dpi)
    assert inspect_image(tmp_path / "tile.png").micrometres_per_pixel is None


@pytest.mark.parametrize("unit", [None, 1])
def test_a_resolution_without_unit_counts_as_none(tmp_path: Path, unit: int | None) -> None:
    tags = ImageFileDirectory_v2()
    tags[282] = tags[283] = 50_800.0
    if unit is not None:
        tags[296] = unit
    Image.fromarray(tissue()).save(tmp_path / "tile.tif", tiffinfo=tags)
    assert inspect_image(tmp_path / "tile.tif").micrometres_per_pixel is None


def test_images_are_listed_sorted_with_folders_and_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/z.jpeg", "a/.hidden.png", ".cache/c.png", "notes.txt", "é [1].tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert listed == ["a/z.jpeg", "b.PNG", "é [1].tif"]


def test_loops_of_links_end_and_each_folder_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tile.png").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["tile.png", "self.png"]
    with pytest.raises(ImageError, match="self"):
        read_image(tmp_path / "self.png")


def test_a_missing_folder_and_a_file_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="not a folder"):
        list_images(tmp_path / "file")


@pytest.mark.parametrize("kind", ["float32", "float64", "uint32"])
def test_a_tiff_of_pixels_that_are_not_known_is_not_called_damaged(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "tile.tif"
    tifffile.imwrite(path, np.ones((40, 40, 3), kind), photometric="rgb")
    for read in (read_image, inspect_image, read_mask):
        with pytest.raises(ImageError, match="unsupported type") as caught:
            read(path)
        assert "8 bits a channel" in caught.value.remedy
