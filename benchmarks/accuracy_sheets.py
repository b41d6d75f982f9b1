"""Contact sheets of what `accuracy.py` predicted: image, plain CAM, ours, truth, side by side.

Above the tiles that stand at even steps between the best and the median of ours, below them the
worst, by the part of the tile's tissue that has the right class. Tiles of a single class say
nothing with given labels, and are left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tissue import TISSUES, make_tiles

from napari_protoseg.exports.contact_sheet import SheetRow, write_contact_sheet
from napari_protoseg.images.reading import read_image, read_mask
from napari_protoseg.schema import ClassSchema

_COLUMNS = ("plain CAM", "ours")
_RULE = "given labels, softmax"
_TYPICAL = (0.1, 0.25, 0.4, 0.5)
"""Of the tiles in the order of their accuracy, the share that is better than the one shown."""
_WORST = 4


def write_sheets(data: Path, masks: Path, seed: int) -> list[Path]:
    """Write a sheet of each tissue that has masks of both predictions, and return their paths."""
    written = []
    for name, tissue in TISSUES.items():
        columns = {title: masks / name / f"{title}, seed {seed}" / _RULE for title in _COLUMNS}
        if not all(folder.is_dir() for folder in columns.values()):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            tiles = Path(temporary) / "val"
            make_tiles(data, name, "val", tiles)
            rows = _rows(tiles, columns, ClassSchema.from_names(tissue.classes))
        written.append(masks / f"{name}.png")
        write_contact_sheet(written[-1], rows, ClassSchema.from_names(tissue.classes))
    return written


def _rows(tiles: Path, columns: dict[str, Path], schema: ClassSchema) -> list[SheetRow]:
    rows = []
    accuracies = []
    for image in sorted((tiles / "images").iterdir()):
        truth = read_mask(tiles / "masks" / image.name)
        tissue = truth < len(schema.ids)
        if len(np.unique(truth[tissue])) < 2:
            continue
        ids = np.where(tissue, truth + 1, 0).astype(np.uint8)
        masks = {title: read_mask(folder / image.name) for title, folder in columns.items()}
        parts = {title: float((mask == ids)[tissue].mean()) for title, mask in masks.items()}
        said = ", ".join(f"{title} {part:.0%}" for title, part in parts.items())
        caption = f"{image.stem}: right are {said}"
        rows.append(SheetRow(caption, read_image(image), {**masks, "truth": ids}))
        accuracies.append(parts[_COLUMNS[-1]])
    return [rows[index] for index in _chosen(accuracies)]


def _chosen(accuracies: Sequence[float]) -> list[int]:
    best_first = [int(index) for index in np.argsort(accuracies)[::-1]]
    typical = [best_first[int(share * len(best_first))] for share in _TYPICAL]
    return typical + best_first[-_WORST:]
