"""How the classes of a mask are coloured and named in napari, in plain values."""

from __future__ import annotations

from typing import Any

from napari_protoseg.schema import UNLABELLED, ClassSchema

_UNKNOWN_COLOR = "magenta"  # a value that is no class must not go unseen


def label_colors(schema: ClassSchema) -> dict[int | None, str]:
    """Return the colour of each value: clear where there is no class, loud where none is known."""
    colors: dict[int | None, str] = {None: _UNKNOWN_COLOR, UNLABELLED: "transparent"}
    return colors | {known.id: known.color for known in schema.classes}


def class_features(schema: ClassSchema, unlabelled: str = "unlabelled") -> dict[str, list[Any]]:
    """Return what napari's status bar says of each value; `unlabelled` where there is no class."""
    return {
        "index": [UNLABELLED, *schema.ids],
        "class": [unlabelled, *schema.names],
    }
