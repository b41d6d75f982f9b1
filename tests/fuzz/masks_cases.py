"""Hostile masks."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
from fuzzed_reader import FuzzedReader
from image_files import hostile
from mutations import placed

from napari_protoseg.exports.indexed_png import decode, write_indexed_png
from napari_protoseg.images.reading import read_mask
from napari_protoseg.schema import ClassSchema

_SCHEMA = ClassSchema.from_names(["tumour", "stroma"])


def _make(random: Random, folder: Path) -> Path:
    if random.random() < 0.1:
        path = folder / "written.png"
        values = np.frombuffer(random.randbytes(1200), np.uint8).reshape(30, 40)
        write_indexed_png(path, values, _SCHEMA)
        return path
    suffix = random.choice((".png", ".png", ".png", ".tif", ".tif", ".jpg", ".bmp", ".webp"))
    return placed(random, folder, suffix, hostile(random, suffix))


def _read(path: Path, random: Random) -> None:
    values = read_mask(path) if random.random() < 0.5 else decode(path).values
    assert values.ndim == 2 and values.dtype == np.uint8


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=15_000,
    code={
        "napari_protoseg/images/reading.py": ("read_mask",),
        "napari_protoseg/images/decoding.py": (),
        "napari_protoseg/exports/indexed_png.py": ("decode",),
    },
)
