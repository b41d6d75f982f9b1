"""The sample data: a folder of synthetic tiles with labels in their names, and its truth."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.storage import storage_errors, write_atomically
from napari_protoseg.synthesis.tiles import SyntheticTile, synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

SAMPLE_SEED = 0
"""Seed of the sample data that comes with this project."""

TRAINING_CASES = range(8)
"""Numbers of the cases of the training tiles."""

VALIDATION_CASES = range(8, 11)
"""Numbers of the cases of the validation tiles: other slides, other stains."""

TRAINING_TILES, VALIDATION_TILES = 120, 24
"""Tiles of the sample data, over all cases."""

PRESENT_FRACTION = 0.02
"""Least share of a tile's pixels that makes a class present in its label."""

_GLASS_COLOR = "#FFFFFF"

_README = """\
# Sample data

Synthetic H&E-like tissue, about 0.8 micrometres per pixel, made by this project itself; no
patient is shown. The same seed gives the same pixels:

    python -m napari_protoseg.synthesis OUT --seed {seed}

- `train/`: tiles with image-level labels in their names, `caseCC_TTT-[1 0 0 1].png`, in the order
  {names}. A class is present where it has at least 2 % of the pixels.
- `validation/images/`, `validation/masks/`: tiles of other cases and their exact masks (indexed
  PNG; the value is the class id, 0 is glass). The lumen of a gland belongs to the tumor.
- `classes.json`: class ids, names and colours. `labels.csv`: the labels once more, as a table.

Dedicated to the public domain (CC0 1.0).
"""


@dataclass(frozen=True)
class SampleData:
    """Where the sample data lies.

    Parameters
    ----------
    training
        Folder of the training images.
    validation_images, validation_masks
        Folders of the validation images and their masks, under the same names.
    classes
        The class schema as JSON.
    labels
        Table of the labels of all images.
    images
        Number of images written, training and validation together.
    """

    training: Path
    validation_images: Path
    validation_masks: Path
    classes: Path
    labels: Path
    images: int


def write_sample_data(
    folder: Path,
    *,
    seed: int = SAMPLE_SEED,
    training_tiles: int = TRAINING_TILES,
    validation_tiles: int = VALIDATION_TILES,
) -> Job[SampleData]:
    """Write tiles, masks, labels and class schema to a new or empty folder.

    Stopped early, it leaves fewer tiles, but a table that fits them.

    Parameters
    ----------
    folder
        Where to write.
    seed
        Of the tissue, at least 0.
    training_tiles, validation_tiles
        Numbers of tiles, spread evenly over the cases of each split.

    Raises
    ------
    ExportError
        The folder holds something already.
    StorageError
        The folder cannot be written.
    """
    with storage_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise ExportError(
                "the folder is not empty", where=folder, remedy="Choose a new or an empty folder."
            )
    data = SampleData(
        training=folder / "train",
        validation_images=folder / "validation" / "images",
        validation_masks=folder / "validation" / "masks",
        classes=folder / "classes.json",
        labels=folder / "labels.csv",
        images=training_tiles + validation_tiles,
    )
    plan = [(data.training, *_place(TRAINING_CASES, n)) for n in range(training_tiles)] + [
        (data.validation_images, *_place(VALIDATION_CASES, n)) for n in range(validation_tiles)
    ]
    rows: list[list[str | int]] = []
    for done, (place, case, number) in enumerate(sorted(plan), start=1):
        tile = synthesize_tile(seed, case, number)
        label = image_label(tile.mask)
        image = place / _name(case, number, label)
        write_atomically(image, _png(Image.fromarray(tile.image)))
        if place == data.validation_images:
            write_atomically(data.validation_masks / image.name, _mask_png(tile))
        rows.append([image.relative_to(folder).as_posix(), f"case{case:02d}", *label])
        if (yield Progress("Making tissue", done, len(plan))) is Request.STOP:
            break
    write_atomically(data.labels, _table(rows))
    write_atomically(data.classes, TISSUE_SCHEMA.to_json())
    write_atomically(
        folder / "README.md", _README.format(seed=seed, names=", ".join(TISSUE_SCHEMA.names))
    )
    return replace(data, images=len(rows))


def image_label(mask: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return 1 or 0 for each class in schema order: whether it has 2 % of the mask's pixels."""
    return tuple(int((mask == k).mean() >= PRESENT_FRACTION) for k in TISSUE_SCHEMA.ids)


def _place(cases: range, number: int) -> tuple[int, int]:
    """Return case, and tile within the case, of the tile with a running number."""
    return cases[number % len(cases)], number // len(cases)


def _name(case: int, number: int, label: tuple[int, ...]) -> str:
    return f"case{case:02d}_{number:03d}-[{' '.join(map(str, label))}].png"


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def _mask_png(tile: SyntheticTile) -> bytes:
    """Return the mask as an indexed PNG whose palette holds the colours of the classes."""
    colors = {0: _GLASS_COLOR} | {c.id: c.color for c in TISSUE_SCHEMA.classes}
    image = Image.fromarray(tile.mask)
    image.putpalette(b"".join(bytes.fromhex(colors[k][1:]) for k in sorted(colors)))
    return _png(image)


def _table(rows: list[list[str | int]]) -> str:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["file", "case", *TISSUE_SCHEMA.names])
    writer.writerows(rows)
    return content.getvalue()
