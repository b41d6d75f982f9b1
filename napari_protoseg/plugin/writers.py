"""What napari's save dialog writes: a labels layer as an indexed PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.indexed_png import write_indexed_png
from napari_protoseg.schema import IGNORE, UNLABELLED, ClassSchema, TissueClass


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer with its colours; the values of its pixels are those of the file.

    Parameters
    ----------
    path
        Ends in ``.png``.
    data
        ``(height, width)``, values 0..255.
    meta
        What napari says of the layer: its colormap and its features.

    Raises
    ------
    ExportError
        It has more than two dimensions, or values above 255.
    StorageError
    """
    values = np.asarray(data)
    if values.ndim != 2 or values.size == 0 or values.min() < 0 or values.max() > IGNORE:
        raise ExportError(
            f"a layer of shape {values.shape} with values up to {values.max(initial=0)}",
            where=path,
            remedy="An indexed PNG holds one plane, (height, width), of values 0 to 255.",
        )
    write_indexed_png(Path(path), values.astype(np.uint8), _schema_of(values, meta))
    return [path]


def _schema_of(values: np.ndarray[Any, Any], meta: dict[str, Any]) -> ClassSchema:
    """Return the classes of a layer: those it names, or else one for each value."""
    colormap, features = meta.get("colormap"), meta.get("features")
    names: dict[int, str] = {}
    if features is not None and {"index", "class"} <= set(features):
        names = {int(k): str(v) for k, v in zip(features["index"], features["class"], strict=True)}
    ids = sorted({*names, *np.unique(values).tolist()} - {UNLABELLED, IGNORE}) or [1]
    return ClassSchema(
        classes=tuple(
            TissueClass(id=k, name=names.get(k, f"class {k}"), color=_color(colormap, k))
            for k in ids
        )
    )


def _color(colormap: Any, value: int) -> str:
    if colormap is None:
        return ClassSchema.from_names([f"class {k}" for k in range(1, value + 1)]).classes[-1].color
    red, green, blue = (round(255 * float(part)) for part in np.ravel(colormap.map(value))[:3])
    return f"#{red:02X}{green:02X}{blue:02X}"
