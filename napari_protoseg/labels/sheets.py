"""Reading a table file (CSV, TSV, Excel) as rows of text, nothing guessed or evaluated."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from openpyxl import Workbook, load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.names import shown
from napari_protoseg.storage import read_whole

FILE_COLUMNS = frozenset({"file", "image", "filename", "name", "path"})
"""Titles of the column that names the image, in lower case."""

_DELIMITERS = (",", ";", "\t")
_TEXT_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Far above what tables of labels have; what is larger is made to exhaust, or no such table.
_MOST_BYTES = 2**25
_MOST_COLUMNS = 2**14
_MOST_CELLS = 2**21
_MOST_ELEMENTS = 2**20
_MOST_SHEET_CELLS = 2**19

# What openpyxl and the readers below it raise over what is no workbook, or a damaged one.
_WORKBOOK_ERRORS = (
    InvalidFileException, zipfile.BadZipFile, zlib.error, SyntaxError, LookupError, ValueError,
    TypeError, AttributeError, AssertionError, RuntimeError, OSError, EOFError, OverflowError,
    MemoryError,
)  # fmt: skip
_Rows = list[tuple[int, tuple[str, ...]]]


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Parameters
    ----------
    path
        The file.
    titles
        Of the columns, stripped.
    rows
        Number of the row in the file (from 1) and its cells, stripped, one for each title;
        empty rows are left out.
    """

    path: Path
    titles: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_sheet(path: Path) -> Sheet:
    """Read a table: UTF-8 or UTF-16 text parted by commas, semicolons or tabs, or ``.xlsx``.

    Every cell is text as it stands; ``NA`` is a name like any other. Which delimiter parts
    the text is seen from the titles.

    Raises
    ------
    LabelError
        Another kind of file, damaged, empty, parted by more than one delimiter, with rows of
        unequal length or formulas, or with content in more than one worksheet.
    StorageError
        The file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in _TEXT_SUFFIXES:
        rows = _text_rows(path)
    elif suffix == ".xlsx":
        rows = _excel_rows(path)
    else:
        raise LabelError(
            f"a label table has the suffix .csv, .tsv, .txt or .xlsx, not {suffix!r}",
            where=shown(path),
            remedy="Save the table in one of these formats.",
        )
    filled = [(number, cells) for number, cells in rows if any(cells)]
    if len(filled) < 2:
        raise LabelError(
            "the table is empty",
            where=shown(path),
            remedy="It needs a row of column titles and one row for each image.",
        )
    (_, titles), *body = filled
    width = max((n for n, title in enumerate(titles, start=1) if title), default=0)
    for number, cells in body:
        if len(cells) < width or any(cells[width:]):
            raise LabelError(
                f"row {number} has {len(cells)} cells, the titles are {width}",
                where=shown(path),
                remedy="Give each row one cell for each title; put text with delimiters in quotes.",
            )
    return Sheet(
        path=path,
        titles=titles[:width],
        rows=tuple((number, cells[:width]) for number, cells in body),
    )


def _stripped(rows: Iterable[Iterable[str]], path: Path) -> _Rows:
    stripped: _Rows = []
    count = 0
    for number, cells in enumerate(rows, 1):
        stripped.append((number, tuple(cell.strip() for cell in cells)))
        columns = len(stripped[-1][1])
        count += columns
        if columns > _MOST_COLUMNS:
            raise _too_large(f"row {number} has {columns:,} columns", path)
        if count > _MOST_CELLS:
            raise _too_large(f"more than {_MOST_CELLS:,} cells", path)
    return stripped


def _too_large(what: str, path: Path) -> LabelError:
    return LabelError(
        what,
        where=shown(path),
        remedy="Keep one row for each image, and one column for each class; remove the others.",
    )


def _text_rows(path: Path) -> _Rows:
    content = read_whole(path, most=_MOST_BYTES)
    encoding = "utf-16" if content.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise LabelError(
            f"not {encoding} text (byte {error.start})",
            where=shown(path),
            remedy="Save the table as UTF-8 (in Excel: CSV UTF-8).",
        ) from error
    try:
        delimiter = _delimiter(text, path)
        return _stripped(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), path
        )
    except csv.Error as error:
        raise LabelError(
            f"not a table parted by commas, semicolons or tabs ({error})",
            where=shown(path),
            remedy="Close every quote, and save the table again.",
        ) from error


def _delimiter(text: str, path: Path) -> str:
    """Return the delimiter that parts the titles so that one of them names the file."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    candidates = []
    for delimiter in (delimiter for delimiter in _DELIMITERS if delimiter in first):
        titles = next(csv.reader([first], delimiter=delimiter), [])
        if len(titles) > 1 and any(title.strip().casefold() in FILE_COLUMNS for title in titles):
            candidates.append(delimiter)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise LabelError(
            f"{' and '.join(map(repr, candidates))} may part the columns, and which is not clear",
            where=shown(path),
            remedy="Use one of them in the titles, and put the other in quotes.",
        )
    raise LabelError(
        "no column names the image",
        where=shown(path),
        remedy=f"Call it one of {', '.join(sorted(FILE_COLUMNS))}, and part the columns by "
        "commas, semicolons or tabs.",
    )


def _excel_rows(path: Path) -> _Rows:
    content = read_whole(path, most=_MOST_BYTES)
    try:
        _refuse_expansion(content, path)
        return _rows_of(load_workbook(io.BytesIO(content)), path)
    except _WORKBOOK_ERRORS as error:
        raise LabelError(
            f"not an Excel workbook ({error})",
            where=shown(path),
            remedy="Save it as .xlsx without a password, or as CSV.",
        ) from error


def _refuse_expansion(content: bytes, path: Path) -> None:
    """Refuse a workbook that is small only as long as it is packed, before it is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        parts = packed.infolist()
        # A part is never read past the size that stands here.
        if sum(part.file_size for part in parts) > _MOST_BYTES:
            raise _too_large(f"more than {_MOST_BYTES:,} bytes, unpacked", path)
        elements = 0
        for part in parts:
            text = packed.read(part)
            elements += text.count(b"<")
            if b"<!DOCTYPE" in text:
                raise ValueError("a document type, which no spreadsheet program writes")
    if elements > _MOST_ELEMENTS:
        raise _too_large(f"more than {_MOST_ELEMENTS:,} elements", path)


def _rows_of(book: Workbook, path: Path) -> _Rows:
    for sheet in book.worksheets:
        # One cell far away makes all those before it.
        if sheet.max_row * sheet.max_column > _MOST_SHEET_CELLS:
            raise _too_large(
                f"a worksheet of {sheet.max_row:,} rows and {sheet.max_column:,} columns", path
            )
    filled = [
        sheet
        for sheet in book.worksheets
        if any(cell.value is not None for row in sheet.iter_rows() for cell in row)
    ]
    if len(filled) > 1:
        raise LabelError(
            f"{len(filled)} worksheets hold something: {', '.join(s.title for s in filled)}",
            where=shown(path),
            remedy="Keep the one with the labels.",
        )
    formulas = [
        cell.coordinate
        for sheet in filled
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "f"
    ]
    if formulas:
        raise LabelError(
            f"cell {formulas[0]} holds a formula, and formulas are not evaluated",
            where=shown(path),
            remedy="Paste the values in place of the formulas.",
        )
    return _stripped(
        (
            ("" if cell.value is None else str(cell.value) for cell in row)
            for sheet in filled
            for row in sheet.iter_rows()
        ),
        path,
    )
