"""Hostile images."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fuzzed_reader import FuzzedReader
from image_files import hostile, valid_files
from mutations import placed

from napari_protoseg.images.reading import inspect_image, list_images, read_image


def _make(random: Random, folder: Path) -> Path:
    suffix = random.choice((".png", ".png", ".jpg", ".tif", ".tif", ".bmp", ".webp"))
    content = hostile(random, suffix)
    if random.random() < 0.05:
        suffix = random.choice(tuple(valid_files()))
    path = placed(random, folder, suffix, content)
    if random.random() < 0.05:
        (folder / "loop").symlink_to(folder)
    return path


def _read(path: Path, random: Random) -> None:
    found = list_images(path.parent)
    assert all(place.parent == path.parent for place in found)
    if random.random() < 0.02:
        list_images(path)
    if random.random() < 0.5:
        inspect_image(path)
    else:
        pixels = read_image(path)
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == "uint8"


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=25_000,
    code={
        "napari_protoseg/images/decoding.py": (),
        "napari_protoseg/images/reading.py": (
            "read_image", "inspect_image", "list_images", "_refuse_folder", "_colour", "_grey",
            "_micrometres_per_pixel",
        ),
    },
)  # fmt: skip
