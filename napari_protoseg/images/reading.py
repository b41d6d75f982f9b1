"""Reading image and mask files: 8-bit colour in, class ids in, all else refused by name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import RESOLUTION_UNIT, TiffImageFile

from napari_protoseg.errors import ImageError
from napari_protoseg.images.decoding import (
    MAX_PIXELS,
    bits_per_sample,
    decoded,
    opened,
    refuse_expansion,
)
from napari_protoseg.images.tissue import WHITE_LEVEL
from napari_protoseg.storage import storage_error, storage_errors

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
"""Suffixes of the files that count as images, in lower case."""

MIN_SIDE = 32
"""Smallest side in pixels: below it the deepest maps of a network hold nothing."""

PLAUSIBLE_MICROMETRES = (0.05, 20.0)
"""Micrometres per pixel that a microscope gives; print resolutions lie far outside."""

_COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})
_GREY_MODES = frozenset({"1", "L", "LA"})
_MOST_OF_32_BITS = 2**26
_MASK_REMEDY = "Save the mask as an indexed or 8-bit grey PNG whose values are class ids."


@dataclass(frozen=True)
class ImageInfo:
    """What is known of an image file once it has been read whole.

    Parameters
    ----------
    width, height
        In pixels.
    content_hash
        SHA-256 of the file's bytes, in hexadecimal.
    micrometres_per_pixel
        From the file's own resolution, or None where it gives no believable one.
    """

    width: int
    height: int
    content_hash: str
    micrometres_per_pixel: float | None


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB.

    PNG, JPEG, TIFF, BMP and WebP. Palettes are converted, transparent pixels are laid on
    white (glass). Colour profiles and EXIF orientation are not applied.

    Returns
    -------
    Array of shape ``(height, width, 3)``, values 0..255.

    Raises
    ------
    ImageError
        The file cannot be read or decoded, has more than 8 bits a channel, is grey, has
        more than `max_pixels` pixels, is smaller than `MIN_SIDE`, or has several pages.
    """
    with opened(path, max_pixels) as image:
        return _colour(image, path)


def inspect_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Read an image whole, as `read_image` does, and return what is known of it.

    The pixel size is taken from a resolution whose unit the file states (TIFF unit tag,
    PNG or BMP pixels per metre, JPEG density), equal along both axes within 1 %, and within
    `PLAUSIBLE_MICROMETRES`, so that the 72 or 96 dots per inch that programs write by
    default count as none.

    Raises
    ------
    ImageError
        As `read_image`.
    StorageError
        The file vanished while it was read.
    """
    with opened(path, max_pixels) as image:
        _colour(image, path)
        width, height = image.size
        pixel_size = _micrometres_per_pixel(image)
    with storage_errors(path), path.open("rb") as file:
        content_hash = hashlib.file_digest(file, "sha256").hexdigest()
    return ImageInfo(width, height, content_hash, pixel_size)


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a mask: the stored values of an indexed or grey file, never its colours.

    16-bit grey is accepted where no value is above 255.

    Returns
    -------
    Array of shape ``(height, width)``, values 0..255 as stored.

    Raises
    ------
    ImageError
        The file cannot be read or decoded, or holds colours, lossy or scaled values.
    """
    with opened(path, max_pixels) as image:
        if isinstance(image, JpegImageFile):
            raise ImageError("JPEG blurs class ids", where=path, remedy=_MASK_REMEDY)
        # Pillow stretches grey of 2 and 4 bits to 0..255, which is not what was stored.
        if image.mode == "L" and bits_per_sample(image) < 8:
            raise ImageError(
                f"grey of {bits_per_sample(image)} bits, not 8", where=path, remedy=_MASK_REMEDY
            )
        if image.mode not in {"P", "L", "1", "I"} and not image.mode.startswith("I;16"):
            raise ImageError(
                f"a mask of mode {image.mode} does not hold class ids",
                where=path,
                remedy=_MASK_REMEDY,
            )
        if image.mode == "I" and image.width * image.height > _MOST_OF_32_BITS:
            raise ImageError("a large mask of 32 bits, not 8", where=path, remedy=_MASK_REMEDY)
        values = np.asarray(decoded(image, path))
    if values.size and (values.max() > 255 or values.min() < 0):
        raise ImageError(
            f"mask values up to {values.max()} do not fit class ids 0..255",
            where=path,
            remedy=_MASK_REMEDY,
        )
    return values.astype(np.uint8)  # a copy, for what Pillow gives cannot be written to


def list_images(folder: Path) -> list[Path]:
    """List the image files below `folder`, sorted; hidden files and folders are skipped.

    Links to folders are followed, each real folder once, so that loops end.

    Raises
    ------
    ImageError
        There is no such folder.
    StorageError
        A folder cannot be read.
    """
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise ImageError(what, where=folder, remedy="Give the folder that holds the images.")

    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(
            Path(place, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        )
    return sorted(found, key=Path.as_posix)


def _refuse_folder(error: OSError) -> NoReturn:
    raise storage_error(error, error.filename) from error


def _colour(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint8]:
    """Decode an opened image to RGB, or refuse what H&E at 8 bits cannot be."""
    if min(image.size) < MIN_SIDE:
        raise ImageError(
            f"{image.width} x {image.height} pixels, smaller than {MIN_SIDE} on a side",
            where=path,
            remedy="Cut larger tiles.",
        )
    if bits_per_sample(image) > 8 or image.mode.startswith(("I", "F")):
        raise ImageError(
            "more than 8 bits a channel",
            where=path,
            remedy="Convert it to 8-bit RGB; scaling it here would be a guess.",
        )
    if image.mode in _GREY_MODES:
        raise _grey(path)
    if image.mode not in _COLOUR_MODES:
        raise ImageError(
            f"colour mode {image.mode}, not RGB", where=path, remedy="Save it as 8-bit RGB."
        )
    refuse_expansion(image, path)
    raster: Image.Image = decoded(image, path)
    if raster.has_transparency_data:
        layer = raster.convert("RGBA")
        raster = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    pixels = np.array(raster if raster.mode == "RGB" else raster.convert("RGB"))
    red, green, blue = (pixels[..., channel] for channel in range(3))
    # A tile of bare glass may well be without colour; one with anything darker may not.
    if red.min() < WHITE_LEVEL and np.array_equal(red, green) and np.array_equal(green, blue):
        raise _grey(path)
    return pixels


def _grey(path: Path) -> ImageError:
    return ImageError(
        "a grey image, and H&E needs colour",
        where=path,
        remedy="Give the RGB original of the stained section.",
    )


def _micrometres_per_pixel(image: ImageFile.ImageFile) -> float | None:
    # Pillow gives every stated unit as dots per inch; for a TIFF without one it assumes inches.
    if isinstance(image, TiffImageFile) and RESOLUTION_UNIT not in image.tag_v2:
        return None
    across, down = (float(dots) for dots in image.info.get("dpi", (0, 0)))
    if across <= 0 or abs(across - down) > 0.01 * across:
        return None
    micrometres = 25_400 / across
    low, high = PLAUSIBLE_MICROMETRES
    return round(micrometres, 6) if low <= micrometres <= high else None
