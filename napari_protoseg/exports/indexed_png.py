"""Masks as palette PNGs: values are class ids, colours are the schema's."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from napari_protoseg.errors import ExportError
from napari_protoseg.images.decoding import MAX_PIXELS, opened
from napari_protoseg.images.reading import read_mask
from napari_protoseg.schema import IGNORE, UNLABELLED, ClassSchema
from napari_protoseg.storage import write_atomically

FINGERPRINT_KEY = "protoseg-schema-fingerprint"
"""Keyword of the PNG text chunk that holds the fingerprint of the schema."""

_UNLABELLED_COLOR = (0, 0, 0)
_IGNORED_COLOR = (224, 224, 224)
_UNKNOWN_COLOR = (255, 0, 255)  # loud, so that a value without a class is seen at once


@dataclass(frozen=True)
class IndexedMask:
    """A mask read back from a palette PNG.

    Parameters
    ----------
    values
        Shape ``(height, width)``: 0 unlabelled, k class id k.
    fingerprint
        Of the schema that the ids belong to; None where the file does not say.
    """

    values: NDArray[np.uint8]
    fingerprint: str | None


def color_of(hex_color: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0..255, of a ``#RRGGBB`` colour."""
    red, green, blue = bytes.fromhex(hex_color.removeprefix("#"))
    return red, green, blue


def palette(schema: ClassSchema) -> NDArray[np.uint8]:
    """Return a colour for each of the 256 mask values, shape ``(256, 3)``.

    Unlabelled is black, ignored light grey, a class has its colour, and a value that the
    schema does not know is magenta.
    """
    colors = {c.id: color_of(c.color) for c in schema.classes}
    return value_palette({UNLABELLED: _UNLABELLED_COLOR, IGNORE: _IGNORED_COLOR, **colors})


def value_palette(colors: dict[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return `colors` as a table of shape ``(256, 3)``, magenta where a value has none."""
    table = np.full((256, 3), _UNKNOWN_COLOR, np.uint8)
    for value, color in colors.items():
        table[value] = color
    return table


def write_indexed_png(path: Path, mask: NDArray[np.uint8], schema: ClassSchema) -> None:
    """Write a mask whose values are class ids, complete or not at all.

    Parameters
    ----------
    mask
        Shape ``(height, width)``, uint8: 0 unlabelled, 255 ignored, k class id k.

    Raises
    ------
    ExportError
        `mask` is no such array.
    StorageError
    """
    write_values(path, mask, palette(schema), schema)


def encoded_mask(mask: NDArray[np.uint8], schema: ClassSchema, *, where: str | Path) -> bytes:
    """Return the file that `write_indexed_png` writes; `where` is named in its error."""
    return _encoded(mask, palette(schema), schema, where=where)


def write_values(
    path: Path, values: NDArray[np.uint8], colors: NDArray[np.uint8], schema: ClassSchema
) -> None:
    """Write `values` with any palette of shape ``(256, 3)``; errors as `write_indexed_png`."""
    write_atomically(path, _encoded(values, colors, schema, where=path))


def _encoded(
    values: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    schema: ClassSchema,
    *,
    where: str | Path,
) -> bytes:
    if values.ndim != 2 or values.dtype != np.uint8 or not values.size:
        raise ExportError(
            f"a mask of shape {values.shape} and type {values.dtype}",
            where=where,
            remedy="Give a uint8 array of shape (height, width).",
        )
    image = Image.fromarray(np.ascontiguousarray(values), mode="L")
    image.putpalette(colors.tobytes())
    text = PngInfo()
    text.add_text(FINGERPRINT_KEY, schema.fingerprint)
    content = BytesIO()
    image.save(content, format="PNG", pnginfo=text)
    return content.getvalue()


def decode(path: Path) -> IndexedMask:
    """Read back what `write_indexed_png` wrote: the same values, and the fingerprint.

    Raises
    ------
    ImageError
        The file is no mask.
    StorageError
    """
    values = read_mask(path)
    with opened(path, MAX_PIXELS) as image:
        fingerprint = image.info.get(FINGERPRINT_KEY)
    return IndexedMask(values, fingerprint if isinstance(fingerprint, str) else None)
