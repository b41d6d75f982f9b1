"""Data sets that accuracy is measured on: real tissue as its README says, generated tissue."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from napari_protoseg.exports.indexed_png import write_indexed_png
from napari_protoseg.images.reading import read_mask
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.synthesis.sample import image_label
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

CASE_PATTERN = r"^(.+?)-\d+-\d+-\["
"""Finds in the name of a tile the image that it was cut from."""

FOLDS = 3

_SUBSET_SEED = 20261122
_GENERATOR_SEED = 4242
"""Of generated tissue; took no part in development."""
_CASES = {"train": range(8), "val": range(8, 28)}
_TILES_OF_A_CASE = {"train": 15, "val": 6}


@dataclass(frozen=True)
class Tissue:
    """A data set and how its tiles are made.

    Parameters
    ----------
    classes
        In the order of the masks' values.
    quoted
        Classes whose mean IoU is the headline.
    cut
        Further arguments of the data's `cut_tiles.py`.
    training_tiles
        Size of the fixed subset that is trained on; None for all.
    generated
        Whether the tiles are synthesised, not cut from real images.
    """

    classes: tuple[str, ...]
    quoted: tuple[str, ...]
    cut: tuple[str, ...] = ()
    training_tiles: int | None = None
    generated: bool = False


TISSUES = {
    "lung": Tissue(("tumor", "stroma", "normal"), ("tumor", "stroma")),
    "colon": Tissue(
        ("other", "benign_gland", "malignant_gland"),
        ("other", "benign_gland", "malignant_gland"),
        ("--tile", "96", "--min-fraction", "0.05", "--stride", "96"),
        1000,
    ),
    "generated": Tissue(TISSUE_SCHEMA.names, TISSUE_SCHEMA.names, generated=True),
}


def make_tiles(data: Path, name: str, split: str, out: Path) -> None:
    """Make the tiles of a split: images to ``out/images``, masks to ``out/masks``.

    The values of the masks are positions of classes, past the last for background. Labels and
    the image that a tile comes from stand in its name.
    """
    tissue = TISSUES[name]
    if tissue.generated:
        _synthesise(split, out)
    else:
        _cut(data, name, tissue, split, out)


def _synthesise(split: str, out: Path) -> None:
    positions = np.zeros(256, dtype=np.uint8)
    positions[UNLABELLED] = len(TISSUE_SCHEMA.ids)
    positions[list(TISSUE_SCHEMA.ids)] = range(len(TISSUE_SCHEMA.ids))
    for kind in ("images", "masks"):
        (out / kind).mkdir(parents=True)
    for case in _CASES[split]:
        for number in range(_TILES_OF_A_CASE[split]):
            tile = synthesize_tile(_GENERATOR_SEED, case, number)
            name = f"case{case:02d}-0-{number}-{list(image_label(tile.mask))}.png"
            Image.fromarray(tile.image).save(out / "images" / name)
            Image.fromarray(positions[tile.mask]).save(out / "masks" / name)


def _cut(data: Path, name: str, tissue: Tissue, split: str, out: Path) -> None:
    command = [sys.executable, str(data / "cut_tiles.py"), str(data / name / split), str(out)]
    subprocess.run(
        [*command, "--classes", ",".join(tissue.classes), *tissue.cut],
        check=True,
        stdout=sys.stderr,
    )
    if split == "train" and tissue.training_tiles is not None:
        tiles = sorted((out / "images").iterdir())
        chosen = set(random.Random(_SUBSET_SEED).sample(tiles, tissue.training_tiles))
        for tile in tiles:
            if tile not in chosen:
                tile.unlink()


def fold_of_training(folder: Path, fold: int) -> None:
    """Move a third of the images of ``folder/train``, with all tiles of each, to ``folder/val``.

    What is chosen by its figures is chosen so, and never on the validation images.
    """
    tiles = sorted((folder / "train" / "images").iterdir())
    images = sorted({_image_of(tile) for tile in tiles})
    for kind in ("images", "masks"):
        (folder / "val" / kind).mkdir(parents=True)
    for tile in tiles:
        if images.index(_image_of(tile)) % FOLDS == fold:
            for kind in ("images", "masks"):
                (folder / "train" / kind / tile.name).rename(folder / "val" / kind / tile.name)


def _image_of(tile: Path) -> str:
    found = re.match(CASE_PATTERN, tile.name)
    assert found is not None
    return found[1]


def with_project_masks(
    images: Sequence[ImageRecord], masks: Path, out: Path, schema: ClassSchema
) -> list[ImageRecord]:
    """Give each image its mask of the folder `masks`, written to `out` in the codes of a project.

    A value past the last class becomes 0, which is no class.
    """
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[: len(schema.ids)] = schema.ids
    found = []
    for image in images:
        target = out / image.path.name
        if not target.exists():
            write_indexed_png(target, lookup[read_mask(masks / image.path.name)], schema)
        found.append(replace(image, mask_path=target))
    return found
