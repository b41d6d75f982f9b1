"""Tables that were made to exhaust whoever reads them are refused, soon and by name."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from napari_protoseg.errors import LabelError, ProtosegError, SchemaError, StorageError
from napari_protoseg.labels.source import find_labels
from napari_protoseg.labels.tables import read_table


def refused(path: Path, match: str, kind: type[ProtosegError] = LabelError) -> None:
    with pytest.raises(kind, match=match) as caught:
        read_table(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 10_000


def workbook(path: Path, sheet: dict[str, str] | None = None, **parts: bytes) -> Path:
    """Write a table as a workbook, with patterns in its sheet replaced, and parts added."""
    book = Workbook()
    for row in (("file", "tumour"), ("a.png", 1)):
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    with (
        zipfile.ZipFile(content) as packed,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in packed.namelist():
            text = packed.read(name)
            if name.endswith("sheet1.xml"):
                for old, replacement in (sheet or {}).items():
                    text = re.sub(old.encode(), replacement.encode(), text, count=1)
            new.writestr(name, text)
        for name, part in parts.items():
            new.writestr(name, part)
    return path


def test_the_workbook_of_these_tests_is_a_table(tmp_path: Path):
    assert read_table(workbook(tmp_path / "table.xlsx")).rows[0].label == (1,)


def test_a_title_of_megabytes_is_refused(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("file," + "a" * 200_000 + "\nb.png,1\n")
    refused(path, "field larger than field limit")


def test_a_hundred_thousand_columns_are_refused(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("file" + ",c" * 100_000 + "\na.png" + ",1" * 100_000)
    refused(path, "row 1 has 100,001 columns")


def test_a_file_beyond_any_table_is_not_read(tmp_path: Path):
    path = tmp_path / "table.csv"
    with path.open("wb") as file:
        file.truncate(2**33)
    refused(path, "8,589,934,592 bytes", StorageError)


def test_cells_without_end_are_refused(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("file,tumour\n" + "," * 16_000 + "\n" + ("," * 16_000 + "\n") * 200)
    refused(path, "more than 2,097,152 cells")


@pytest.mark.parametrize("cell", ["XFD1048576", "B1048576", "A1048576000"])
def test_one_cell_far_away_makes_no_cells_before_it(tmp_path: Path, cell: str):
    path = workbook(tmp_path / "far.xlsx", {'r="B2"': f'r="{cell}"'})
    refused(path, "a worksheet of|not an Excel workbook")


def test_a_workbook_that_unpacks_to_much_is_not_unpacked(tmp_path: Path):
    path = workbook(tmp_path / "bomb.xlsx", {"</sheetData>": " " * 10**8 + "</sheetData>"})
    assert path.stat().st_size < 10**6
    refused(path, "bytes, unpacked")


def test_cells_of_four_bytes_are_counted_before_they_are_made(tmp_path: Path):
    path = workbook(tmp_path / "cells.xlsx", {"</sheetData>": "<c/>" * 2_200_000 + "</sheetData>"})
    refused(path, "more than 1,048,576 elements")


def test_entities_are_never_resolved(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    document = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]><worksheet'
    path = workbook(tmp_path / "entity.xlsx", {"<worksheet": document})
    refused(path, "a document type, which no spreadsheet program writes")


def test_a_workbook_of_broken_xml_is_refused_by_name(tmp_path: Path):
    refused(workbook(tmp_path / "broken.xlsx", {"<sheetData>": "<sheetData"}), "not an Excel")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_a_named_pipe_is_not_waited_for(tmp_path: Path, suffix: str):
    os.mkfifo(tmp_path / f"table.{suffix}")
    refused(tmp_path / f"table.{suffix}", "not a file", StorageError)


def test_classes_that_make_no_schema_are_refused_with_the_table_named(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("file,labels\na.png,tumour|TUMOUR\n")
    refused(path, "'tumour' stands twice", SchemaError)


def test_folders_that_make_no_schema_are_refused_with_their_place_named(tmp_path: Path):
    images = tmp_path / "images"
    paths = [images / "tumour" / "a.png", images / "TUMOUR" / "b.png"]
    with pytest.raises(SchemaError, match=r"images: .*'tumour' stands twice"):
        find_labels(images, paths, None, None)
