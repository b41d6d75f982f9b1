"""Opening an image file by its first bytes, within a pixel limit, every failure typed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from napari_protoseg.errors import ImageError
from napari_protoseg.storage import storage_error

MAX_PIXELS = 2**28
"""Largest image that is decoded (about 0.8 GB of RGB)."""

# What expands further than any tissue, or any encoder's idea of progress, is made to exhaust.
_MANY_PIXELS = 2**24
_MOST_PIXELS_A_BYTE = 200
_MOST_SCANS = 25

# The first bytes decide, not the suffix. The classes are used directly since `Image.open`
# has a pixel limit of its own that only a process-wide setting could change.
_FORMATS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
    (b"RIFF", WebPImageFile),
    (b"BM", BmpImageFile),
)

# What Pillow's decoders raise on damaged files.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    AttributeError,
    AssertionError,
    struct.error,
    zlib.error,
)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Raise `ImageError` naming `path` for whatever a decoder finds wrong with it."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise _too_large(str(error), path) from error
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"damaged or truncated ({error})",
            where=path,
            remedy="Open it in a viewer; export or copy it again.",
        ) from error


@contextmanager
def _known_pixels(path: Path) -> Iterator[None]:
    """Tell a sound TIFF whose pixels Pillow does not know, such as floats, from a damaged one."""
    try:
        yield
    except SyntaxError as error:
        if str(error) != "unknown pixel mode":
            raise
        raise ImageError(
            "pixels of an unsupported type, such as fractions or more than 8 bits",
            where=path,
            remedy="Convert it to 8 bits a channel; scaling it here would be a guess.",
        ) from error


@contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Yield the image with its header read and its size checked, its pixels not decoded.

    Raises
    ------
    ImageError
        Not a file, unreadable, empty, of another format, damaged, larger than `max_pixels`,
        or of several pages.
    """
    try:
        # A named pipe would be waited for without end.
        if path.exists() and not path.is_file():
            raise ImageError("not a file", where=path, remedy="Give an image file.")
        file = path.open("rb")
    except OSError as error:
        known = storage_error(error, path)
        raise ImageError(known.what, where=path, remedy=known.remedy) from error
    with file:
        with _decoding(path):
            start = file.read(16)
            file.seek(0)
        format_class = _format_of(start, path)
        with _decoding(path), _known_pixels(path):
            image = format_class(file, str(path))
        if image.width * image.height > max_pixels:
            raise _too_large(
                f"{image.width} x {image.height} pixels, more than {max_pixels:,} in all", path
            )
        if isinstance(image, JpegImageFile):
            _refuse_scans(file, path)
        # To count them would take long: a file may list pages without end.
        if getattr(image, "is_animated", False):
            raise ImageError(
                "holds several pages or frames, and which one is meant would be a guess",
                where=path,
                remedy="Save the one that is meant as a file of its own.",
            )
        # What is asked of an image, and made of it, may find it damaged, too.
        with _decoding(path):
            yield image


def _too_large(what: str, path: Path) -> ImageError:
    return ImageError(what, where=path, remedy="Cut the image into tiles or regions first.")


def _refuse_scans(file: BinaryIO, path: Path) -> None:
    """Raise `ImageError` where each of many scans of a progressive JPEG goes over all pixels."""
    with _decoding(path):
        place = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(place)
    if scans > _MOST_SCANS:
        raise ImageError(
            f"{scans} scans, which no encoder writes", where=path, remedy="Save it again as PNG."
        )


def refuse_expansion(image: ImageFile.ImageFile, path: Path) -> None:
    """Refuse a small file of a large image, before memory is taken: a decompression bomb.

    Not for masks, of which large parts may well be one class.

    Raises
    ------
    ImageError
    """
    pixels = image.width * image.height
    with _decoding(path):
        size = path.stat().st_size
    if pixels > _MANY_PIXELS and pixels > _MOST_PIXELS_A_BYTE * size:
        raise ImageError(
            f"{image.width} x {image.height} pixels in {size:,} bytes, less than tissue needs",
            where=path,
            remedy="Export or copy it again; leave it out if it is empty.",
        )


def _format_of(start: bytes, path: Path) -> type[ImageFile.ImageFile]:
    if not start:
        raise ImageError(
            "the file is empty (0 bytes)", where=path, remedy="Copy or export it again."
        )
    for magic, format_class in _FORMATS:
        if start.startswith(magic) and (magic != b"RIFF" or start[8:12] == b"WEBP"):
            return format_class
    raise ImageError(
        "not a PNG, JPEG, TIFF, BMP or WebP image, whatever its name says",
        where=path,
        remedy="Export the image in one of these formats.",
    )


def decoded(image: ImageFile.ImageFile, path: Path) -> ImageFile.ImageFile:
    """Decode the pixels of an opened image; `ImageError` names `path` where they are damaged."""
    with _decoding(path):
        image.load()
    return image


def bits_per_sample(image: ImageFile.ImageFile) -> int:
    """Return the bits a sample as the file stores them: Pillow reduces 16-bit colour unasked."""
    if isinstance(image, PngImageFile):
        assert image.fp is not None
        place = image.fp.tell()
        image.fp.seek(24)  # signature 8, chunk length and name 8, width and height 8
        depth = image.fp.read(1)[0]
        image.fp.seek(place)
        return depth
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(BITSPERSAMPLE, (1,))))
    return 8
