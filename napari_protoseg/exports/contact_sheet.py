"""One picture of many images: each beside its class maps and masks, such as the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.indexed_png import color_of, palette
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.storage import replacing

TILE = 192
"""Longest side of one picture in pixels."""

_MARGIN, _GAP = 28, 10
_TITLE_ROW, _CAPTION_ROW, _LEGEND_ROW, _SWATCH = 30, 22, 28, 16
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 36, 44), (122, 128, 138)
_NEUTRAL = (214, 217, 222)  # pixels without a class
_MAP_STRENGTH = 0.9  # share of the class colour where a map is 1

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet.

    Parameters
    ----------
    caption
        Stands above the row.
    image
        Shape ``(H, W, 3)``, uint8 RGB.
    masks
        By the title of their column, from left to right: shape ``(H, W)``, uint8, 0 unlabelled,
        k class id k.
    class_maps
        Shape ``(C, h, w)``, floats 0..1, in schema order, at any resolution; None for a sheet of
        masks alone.
    """

    caption: str
    image: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    class_maps: NDArray[np.floating] | None = None


def write_contact_sheet(path: Path, rows: Sequence[SheetRow], schema: ClassSchema) -> None:
    """Write the sheet as PNG, complete or not at all.

    Raises
    ------
    ExportError
        There are no rows, or the class maps of one are not one for each class.
    StorageError
    """
    sheet = contact_sheet(rows, schema)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def contact_sheet(rows: Sequence[SheetRow], schema: ClassSchema) -> Image.Image:
    """Draw the sheet; parameters and errors as `write_contact_sheet`.

    A class map is laid in its class colour over the image, dimmed to grey: the stronger the
    colour, the higher the value. Masks are in class colours, grey where nothing is labelled.
    There is a column for each mask that some row has, empty where another row has none.
    """
    if not rows:
        raise ExportError("no rows", where="contact sheet", remedy="Give at least one image.")
    for row in rows:
        maps = row.class_maps
        if maps is not None and (maps.ndim != 3 or len(maps) != len(schema.classes)):
            raise ExportError(
                f"class maps of shape {maps.shape} for {len(schema.classes)} classes",
                where=row.caption,
                remedy="Give one map for each class of the schema.",
            )
    mapped = schema.classes if any(row.class_maps is not None for row in rows) else ()
    masks = list(dict.fromkeys(title for row in rows for title in row.masks))
    titles = ["image", *(c.name for c in mapped), *masks]
    colors = [None, *(c.color for c in mapped), *(None for _ in masks)]
    heights = [_CAPTION_ROW + _size(row.image.shape)[1] + _GAP for row in rows]
    width = 2 * _MARGIN + len(titles) * (TILE + _GAP) - _GAP
    *tops, legend_top = accumulate(heights, initial=_MARGIN + _TITLE_ROW)
    legend_lines = list(_legend_lines(schema, width - 2 * _MARGIN))
    height = legend_top + _GAP + len(legend_lines) * _LEGEND_ROW + _MARGIN // 2

    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    heading, small = _font(17), _font(13)
    lefts = [_MARGIN + column * (TILE + _GAP) for column in range(len(titles))]
    for left, title, color in zip(lefts, titles, colors, strict=True):
        draw.text((left, _MARGIN - 8), _fitted(title, heading, TILE), _INK, heading)
        if color is not None:
            draw.rectangle((left, _MARGIN + 17, left + TILE - 1, _MARGIN + 19), color_of(color))
    for y, row in zip(tops, rows, strict=True):
        caption = _fitted(row.caption, small, width - 2 * _MARGIN)
        draw.text((_MARGIN, y + 3), caption, _FAINT, small)
        top = y + _CAPTION_ROW
        sheet.paste(_resized(row.image, Image.Resampling.LANCZOS), (lefts[0], top))
        for left, picture in zip(lefts[1:], _map_pictures(row, schema), strict=False):
            sheet.paste(picture, (left, top))
        for left, title in zip(lefts[1 + len(mapped) :], masks, strict=True):
            if title in row.masks:
                sheet.paste(_mask_picture(row.masks[title], schema), (left, top))
    for number, line in enumerate(legend_lines):
        y = legend_top + _GAP + number * _LEGEND_ROW
        for x, name, fill in line:
            draw.rectangle(
                (_MARGIN + x, y, _MARGIN + x + _SWATCH, y + _SWATCH), fill, outline=_FAINT
            )
            draw.text((_MARGIN + x + _SWATCH + 8, y), name, _INK, small)
    return sheet


def _map_pictures(row: SheetRow, schema: ClassSchema) -> Iterator[Image.Image]:
    """Yield the class maps of a row, laid over its image."""
    if row.class_maps is None:
        return
    size = _size(row.image.shape)
    grey = np.asarray(Image.fromarray(row.image).convert("L").resize(size), np.float32)
    dimmed = (40 + 0.5 * grey)[..., None]
    for values, tissue in zip(row.class_maps, schema.classes, strict=True):
        strength = Image.fromarray(np.clip(values, 0, 1).astype(np.float32))
        share = np.asarray(strength.resize(size, Image.Resampling.BILINEAR))[..., None]
        share = share * _MAP_STRENGTH
        blended = dimmed * (1 - share) + np.array(color_of(tissue.color), np.float32) * share
        yield Image.fromarray(np.clip(blended, 0, 255).astype(np.uint8))


def _mask_picture(mask: NDArray[np.uint8], schema: ClassSchema) -> Image.Image:
    table = palette(schema)
    table[UNLABELLED] = _NEUTRAL
    return _resized(table[mask], Image.Resampling.NEAREST)


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return width and height of a picture whose longest side is `TILE`."""
    height, width = shape[:2]
    scale = TILE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(picture: NDArray[np.uint8], how: Image.Resampling) -> Image.Image:
    return Image.fromarray(picture).resize(_size(picture.shape), how)


def _legend_lines(
    schema: ClassSchema, width: int
) -> Iterator[list[tuple[int, str, tuple[int, int, int]]]]:
    """Yield, line by line, where each entry of the legend stands, its name and its colour."""
    entries = [(c.name, color_of(c.color)) for c in schema.classes] + [("unlabelled", _NEUTRAL)]
    font = _font(13)
    line: list[tuple[int, str, tuple[int, int, int]]] = []
    x = 0
    for name, fill in entries:
        shown = _fitted(name, font, width - _SWATCH - 8)
        advance = _SWATCH + 8 + round(font.getlength(shown)) + 28
        if line and x + advance - 28 > width:
            yield line
            line, x = [], 0
        line.append((x, shown, fill))
        x += advance
    yield line


def _fitted(text: str, font: _Font, width: float) -> str:
    """Make `text` one printable line and shorten it in its middle until it fits `width` pixels."""
    text = "".join(mark if mark.isprintable() else "?" for mark in text)
    if font.getlength(text) <= width:
        return text
    halves = (f"{text[: keep // 2]}...{text[-(keep // 2) :]}" for keep in count(len(text) - 2, -1))
    return next(short for short in halves if len(short) <= 5 or font.getlength(short) <= width)


def _font(size: int) -> _Font:
    return ImageFont.load_default(size=size)
