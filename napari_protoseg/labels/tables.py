"""Image-level labels from the columns of a table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import LabelError, SchemaError
from napari_protoseg.labels.names import pixel_size, shown
from napari_protoseg.labels.records import Label, Presence
from napari_protoseg.labels.sheets import FILE_COLUMNS, Sheet, read_sheet
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema

_NAMES_COLUMNS = frozenset({"labels", "label", "classes", "class"})
_CASE_COLUMNS = frozenset({"case", "patient", "slide"})
_PIXEL_SIZE_COLUMNS = frozenset({"mpp", "um_per_px", "micrometres_per_pixel"})
SPLIT_COLUMNS = frozenset({"split"})

_UNKNOWN_WORDS = frozenset({"", "?", "unknown", "-1", "-1.0"})
# A spreadsheet that once had an empty cell in the column writes 1 as 1.0.
_PRESENCE = {
    **dict.fromkeys(("1", "1.0", "yes", "true", "present"), Presence.PRESENT),
    **dict.fromkeys(("0", "0.0", "no", "false", "absent"), Presence.ABSENT),
    **dict.fromkeys(_UNKNOWN_WORDS, Presence.UNKNOWN),
}
_MOST_LISTED = 20
_SPLITS = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "validation": Split.VALIDATION,
    "val": Split.VALIDATION,
    "": None,
}


@dataclass(frozen=True)
class TableRow:
    """What a table says of one image.

    Parameters
    ----------
    number
        Row in the file, from 1.
    file
        The image, as the table writes it.
    label
        1 present, 0 absent, -1 unknown, in schema order.
    case, micrometres_per_pixel, split
        None where the table does not say.
    """

    number: int
    file: str
    label: Label
    case: str | None
    micrometres_per_pixel: float | None
    split: Split | None


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Parameters
    ----------
    path
        The file.
    schema
        The one given, or else made of the table's classes.
    orders_classes
        Whether the order of the classes was given, by a schema or by columns; names in cells
        come in none.
    has_cases
        Whether there is a column for the case.
    rows
        In the order of the file.
    """

    path: Path
    schema: ClassSchema
    orders_classes: bool
    has_cases: bool
    rows: tuple[TableRow, ...]


def read_table(path: Path, schema: ClassSchema | None = None) -> LabelTable:
    """Read labels from a table, with one column per class or one column of class names.

    Columns are told by their titles, in any case: one for the file (``file``, ``image``,
    ``filename``, ``name`` or ``path``); optionally one each for the case (``case``,
    ``patient``, ``slide``), the pixel size (``mpp``, ``um_per_px``,
    ``micrometres_per_pixel``) and the split. The others are either one per class (1, yes,
    true, present; 0, no, false, absent; empty, ``?``, unknown, -1), or a single one called
    ``labels``, ``label``, ``classes`` or ``class`` with the classes present joined by ``;``
    or ``|``, the others absent, and an empty cell for nothing known. A class of the schema may be
    called by a former name. Without a schema the columns, or the names in alphabetical order, make
    one.

    Raises
    ------
    LabelError
        The table cannot be understood; the message names row and column.
    SchemaError
        The table's own class names make no schema.
    StorageError
        The file cannot be read.
    """
    sheet = read_sheet(path)
    twice = [t for t, n in Counter(t.casefold() for t in sheet.titles).items() if n > 1]
    if twice:
        raise LabelError(
            f"the column title {twice[0]!r} stands twice",
            where=shown(path),
            remedy="Give each column a title of its own.",
        )
    file = only_column(sheet, FILE_COLUMNS)
    if file is None:
        raise LabelError(
            "no column names the image",
            where=shown(path),
            remedy=f"Call it one of {', '.join(sorted(FILE_COLUMNS))}.",
        )
    case = only_column(sheet, _CASE_COLUMNS)
    size = only_column(sheet, _PIXEL_SIZE_COLUMNS)
    split = only_column(sheet, SPLIT_COLUMNS)
    named = only_column(sheet, _NAMES_COLUMNS)
    orders_classes = schema is not None or named is None
    taken = {file, case, size, split, named}
    columns = [column for column in range(len(sheet.titles)) if column not in taken]
    if named is None:
        schema = schema or schema_of([sheet.titles[column] for column in columns], path)
        labels = _labels_of_columns(sheet, columns, schema)
    else:
        if columns:
            raise LabelError(
                f"a column of class names, {sheet.titles[named]!r}, and other columns: "
                f"{_titles(sheet, columns)}",
                where=shown(path),
                remedy="Keep one column of names, or one column per class.",
            )
        cells = [_names_in(cells[named]) for _, cells in sheet.rows]
        schema = schema or schema_of(sorted({n for names in cells for n in names}), path)
        labels = [
            _label_of_names(sheet, number, names, schema)
            for (number, _), names in zip(sheet.rows, cells, strict=True)
        ]
    return LabelTable(
        path=path,
        schema=schema,
        orders_classes=orders_classes,
        has_cases=case is not None,
        rows=tuple(
            TableRow(
                number=number,
                file=cells[file],
                label=label,
                case=(cells[case] or None) if case is not None else None,
                micrometres_per_pixel=(
                    pixel_size(cells[size], f"{shown(path)}, row {number}")
                    if size is not None and cells[size]
                    else None
                ),
                split=split_of(sheet, number, cells[split]) if split is not None else None,
            )
            for (number, cells), label in zip(sheet.rows, labels, strict=True)
        ),
    )


def schema_of(names: Sequence[str], path: Path) -> ClassSchema:
    """Make a schema of names that stand at `path`.

    Raises
    ------
    SchemaError
        A name is empty or stands twice, or there are none.
    """
    try:
        return ClassSchema.from_names(names)
    except SchemaError as error:
        raise SchemaError(error.what, where=shown(path), remedy=error.remedy) from error


def only_column(sheet: Sheet, titles: frozenset[str]) -> int | None:
    """Return the one column whose title is among `titles`, or None."""
    found = [n for n, title in enumerate(sheet.titles) if title.casefold() in titles]
    if len(found) > 1:
        raise LabelError(
            f"the columns {_titles(sheet, found)} may mean the same",
            where=shown(sheet.path),
            remedy="Keep one of them.",
        )
    return found[0] if found else None


def _titles(sheet: Sheet, columns: Sequence[int]) -> str:
    shortened = ", ".join(repr(sheet.titles[column]) for column in columns[:_MOST_LISTED])
    others = len(columns) - _MOST_LISTED
    return f"{shortened} and {others} others" if others > 0 else shortened


def _labels_of_columns(sheet: Sheet, columns: Sequence[int], schema: ClassSchema) -> list[Label]:
    found = {column: schema.find(sheet.titles[column]) for column in columns}
    unknown = [column for column, position in found.items() if position is None]
    if unknown:
        raise LabelError(
            f"the columns {_titles(sheet, unknown)} are no classes",
            where=shown(sheet.path),
            remedy=f"Remove them; the classes are: {', '.join(schema.names)}.",
        )
    columns_of = defaultdict(list)
    for column, position in found.items():
        columns_of[position].append(column)
    twice = next((same for same in columns_of.values() if len(same) > 1), None)
    if twice is not None:
        raise LabelError(
            f"the columns {_titles(sheet, twice)} are of the same class, which had another name",
            where=shown(sheet.path),
            remedy="Keep one of them.",
        )
    column_of = {position: column for column, position in found.items()}
    missing = [name for n, name in enumerate(schema.names) if n not in column_of]
    if missing:
        raise LabelError(
            f"no column for the class {', '.join(map(repr, missing))}",
            where=shown(sheet.path),
            remedy="Add it; where nothing is known of a class, leave its cells empty.",
        )
    return [
        tuple(
            int(_presence(sheet, number, column_of[n], cells[column_of[n]]))
            for n in range(len(schema.names))
        )
        for number, cells in sheet.rows
    ]


def _presence(sheet: Sheet, number: int, column: int, cell: str) -> Presence:
    presence = _PRESENCE.get(cell.casefold())
    if presence is None:
        raise LabelError(
            f"row {number}, column {sheet.titles[column]!r}: {cell!r} is neither present, absent "
            "nor unknown",
            where=shown(sheet.path),
            remedy="Write 1 or 0 (or yes, no, true, false, present, absent); unknown is empty.",
        )
    return presence


def _names_in(cell: str) -> tuple[str, ...]:
    if cell.casefold() in _UNKNOWN_WORDS:
        return ()
    return tuple(name.strip() for name in re.split(r"[;|]", cell) if name.strip())


def _label_of_names(sheet: Sheet, number: int, names: Sequence[str], schema: ClassSchema) -> Label:
    others = [name for name in names if schema.find(name) is None]
    if others:
        raise LabelError(
            f"row {number} names {', '.join(map(repr, others))}, which is no class",
            where=shown(sheet.path),
            remedy=f"Join names by ; or |. The classes are: {', '.join(schema.names)}.",
        )
    if not names:
        return (int(Presence.UNKNOWN),) * len(schema.names)
    present = {schema.find(name) for name in names}
    return tuple(
        int(Presence.PRESENT if position in present else Presence.ABSENT)
        for position in range(len(schema.names))
    )


def split_of(sheet: Sheet, number: int, cell: str) -> Split | None:
    """Return the split that a cell in row `number` names, None where it is empty.

    Raises
    ------
    LabelError
    """
    if cell.casefold() not in _SPLITS:
        raise LabelError(
            f"row {number}: {cell!r} is no split",
            where=shown(sheet.path),
            remedy="Write train or validation, or leave the cell empty.",
        )
    return _SPLITS[cell.casefold()]
