"""Which images are to train on and which to validate on, from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.matching import match_rows
from napari_protoseg.labels.names import shown
from napari_protoseg.labels.sheets import FILE_COLUMNS, read_sheet
from napari_protoseg.labels.tables import SPLIT_COLUMNS, only_column, split_of
from napari_protoseg.project.records import Split


@dataclass(frozen=True)
class _SplitRow:
    number: int
    file: str
    split: Split | None


def read_splits(table: Path, images: Path, paths: Sequence[Path]) -> dict[Path, Split]:
    """Read the split of each image that a table names; an empty cell says nothing.

    Parameters
    ----------
    table
        With the columns ``file`` (or ``image``, ...) and ``split``: train or validation.
    images, paths
        The folder of images, and those in it.

    Raises
    ------
    LabelError
        The table lacks a column, holds another word, or names no image or one twice.
    StorageError
    """
    sheet = read_sheet(table)
    file, split = only_column(sheet, FILE_COLUMNS), only_column(sheet, SPLIT_COLUMNS)
    if file is None or split is None:
        raise LabelError(
            "needs a column for the image and one called split",
            where=shown(table),
            remedy="Call them file and split.",
        )
    rows = [
        _SplitRow(number, cells[file], split_of(sheet, number, cells[split]))
        for number, cells in sheet.rows
    ]
    matched = match_rows(table, rows, images, paths).by_image
    return {path: row.split for path, row in matched.items() if row.split is not None}
