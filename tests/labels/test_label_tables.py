from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook

from napari_protoseg.errors import LabelError, SchemaError, StorageError
from napari_protoseg.labels.matching import match_rows
from napari_protoseg.labels.tables import LabelTable, read_table
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumour", "stroma"])


def renamed(*changes: tuple[str, tuple[str, ...]]) -> ClassSchema:
    """Return the schema with other names, each with the former names of its class."""
    return ClassSchema(
        classes=tuple(
            known.model_copy(update={"name": name, "former": former})
            for known, (name, former) in zip(SCHEMA.classes, changes, strict=True)
        )
    )


def table(folder: Path, text: str, schema: ClassSchema | None = SCHEMA) -> LabelTable:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return read_table(folder / "labels.csv", schema)


def refused(folder: Path, text: str, match: str, schema: ClassSchema | None = SCHEMA) -> None:
    with pytest.raises(LabelError, match=match) as caught:
        table(folder, text, schema)
    assert "labels.csv" in str(caught.value)
    assert caught.value.remedy


def labels_of(found: LabelTable) -> dict[str, tuple[int, ...]]:
    return {row.file: row.label for row in found.rows}


def test_columns_of_classes_are_taken_in_schema_order(tmp_path: Path) -> None:
    found = table(tmp_path, "File,Stroma,TUMOUR\na.png,1,0\nb.png,0,\n")
    assert labels_of(found) == {"a.png": (0, 1), "b.png": (-1, 0)}


@pytest.mark.parametrize(
    ("cell", "presence"),
    [
        *((word, 1) for word in ("1", "1.0", "yes", "True", "PRESENT")),
        *((word, 0) for word in ("0", "0.0", "no", "False", "absent")),
        *((word, -1) for word in ("", "?", "unknown", "-1", " ")),
    ],
)
def test_words_for_present_absent_and_unknown(tmp_path: Path, cell: str, presence: int) -> None:
    found = table(tmp_path, f"image,tumour,stroma\na.png,{cell},1\n")
    assert labels_of(found) == {"a.png": (presence, 1)}


@pytest.mark.parametrize("title", ["labels", "Label", "classes", "class"])
def test_one_column_of_names_says_what_is_present(tmp_path: Path, title: str) -> None:
    found = table(
        tmp_path,
        f"name,{title}\na.png,tumour;Stroma\nb.png,stroma\nc.png, tumour | stroma\nd.png,\n",
    )
    assert labels_of(found) == {
        "a.png": (1, 1),
        "b.png": (0, 1),
        "c.png": (1, 1),
        "d.png": (-1, -1),
    }


@pytest.mark.parametrize("text", ["file,Tumour,stroma\na,1,0\n", "file,labels\na,TUMOUR\n"])
def test_a_renamed_class_is_still_known_by_its_former_name(tmp_path: Path, text: str) -> None:
    schema = renamed(("carcinoma", ("neoplasm", "tumour")), ("stroma", ()))
    assert labels_of(table(tmp_path, text, schema)) == {"a": (1, 0)}


def test_a_former_name_is_that_of_the_class_that_has_it_now(tmp_path: Path) -> None:
    schema = renamed(("carcinoma", ("tumour",)), ("tumour", ("stroma",)))
    assert labels_of(table(tmp_path, "file,labels\na,tumour\n", schema)) == {"a": (0, 1)}
    assert labels_of(table(tmp_path, "file,labels\na,stroma\n", schema)) == {"a": (0, 1)}


def test_a_former_name_that_two_classes_had_is_refused(tmp_path: Path) -> None:
    schema = renamed(("carcinoma", ("tumour",)), ("stroma", ("tumour",)))
    refused(tmp_path, "file,labels\na,tumour\n", "row 2 names 'tumour', which is no class", schema)


def test_two_columns_of_one_class_are_refused(tmp_path: Path) -> None:
    schema = renamed(("carcinoma", ("tumour",)), ("stroma", ()))
    text = "file,tumour,carcinoma,stroma\na,1,0,1\n"
    refused(tmp_path, text, "columns 'tumour', 'carcinoma' are of the same class", schema)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_encoding_are_told_from_the_file(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    text = "path,tumour,stroma\nä/é.png,1,0\n".replace(",", delimiter)
    (tmp_path / "labels.tsv").write_text(text, encoding=encoding)
    assert labels_of(read_table(tmp_path / "labels.tsv", SCHEMA)) == {"ä/é.png": (1, 0)}


def test_a_delimiter_within_quotes_parts_nothing(tmp_path: Path) -> None:
    schema = ClassSchema.from_names(["tumour, viable", "stroma"])
    found = table(tmp_path, 'file;"tumour, viable";stroma\n"a;b.png";1;0\n', schema)
    assert labels_of(found) == {"a;b.png": (1, 0)}


def test_two_possible_delimiters_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "file,b;image\nx,1;y\n", "',' and ';' may part the columns")


def test_case_pixel_size_and_split_are_taken_from_their_columns(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "file,patient,mpp,split,tumour,stroma\na.png,P1,0.5,train,1,0\nb.png,,,validation,0,1\n",
    )
    first, second = found.rows
    assert (first.case, first.micrometres_per_pixel, first.split) == ("P1", 0.5, Split.TRAIN)
    assert (second.case, second.micrometres_per_pixel) == (None, None)
    assert second.split is Split.VALIDATION


def test_a_class_called_na_stays_a_class(tmp_path: Path) -> None:
    found = table(tmp_path, "file,labels\na.png,NA\nb.png,null\n", None)
    assert found.schema.names == ("NA", "null")


def test_without_a_schema_columns_make_one_in_their_order(tmp_path: Path) -> None:
    found = table(tmp_path, "file,stroma,tumour\na.png,1,0\n", None)
    assert found.schema.names == ("stroma", "tumour")
    assert found.orders_classes


def test_without_a_schema_names_make_one_in_alphabetical_order(tmp_path: Path) -> None:
    found = table(tmp_path, "file,labels\na.png,tumour\nb.png,stroma\n", None)
    assert found.schema.names == ("stroma", "tumour")
    assert not found.orders_classes


def test_a_table_that_names_no_class_makes_no_schema(tmp_path: Path) -> None:
    with pytest.raises(SchemaError):
        table(tmp_path, "file,labels\na.png,\n", None)


def test_wrong_columns_are_refused_by_name(tmp_path: Path) -> None:
    refused(tmp_path, "tumour,stroma\n1,0\n", "no column names the image")
    refused(tmp_path, "file,Image,tumour,stroma\na,a,1,0\n", "'file', 'Image' may mean the same")
    refused(tmp_path, "file,tumour,stroma,blood,fat\na,1,0,1,1\n", "'blood', 'fat' are no classes")
    refused(tmp_path, "file,tumour\na,1\n", "no column for the class 'stroma'")
    refused(tmp_path, "file,tumour,Tumour\na,1,0\n", "'tumour' stands twice")
    refused(tmp_path, "file,labels,tumour\na,stroma,1\n", "a column of class names, 'labels'")


def test_wrong_cells_are_refused_by_row_and_column(tmp_path: Path) -> None:
    refused(tmp_path, "file,tumour,stroma\na,1,0\nb,1,2\n", "row 3, column 'stroma': '2'")
    refused(tmp_path, "file,tumour,stroma\na,=1+0,0\n", "row 2, column 'tumour': '=1\\+0'")
    refused(tmp_path, "file,labels\na,tumour;fat\n", "row 2 names 'fat'")
    refused(tmp_path, "file,split,labels\na,test,tumour\n", "row 2: 'test' is no split")
    refused(tmp_path, "file,mpp,labels\na,-1,tumour\n", "'-1' is not a number of micrometres")


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "", "no column names the image")
    refused(tmp_path, "file,tumour,stroma\n", "the table is empty")
    refused(tmp_path, "file,tumour,stroma\na,1\n", "row 2 has 2 cells, the titles are 3")
    refused(tmp_path, "file,tumour,stroma\na,1,0,1\n", "row 2 has 4 cells, the titles are 3")
    refused(tmp_path, 'file,tumour,stroma\n"a,1,0\n', "not a table")
    (tmp_path / "labels.csv").write_bytes(b"file,tumour,stroma\n\xff\xff.png,1,0\n")
    with pytest.raises(LabelError, match="not utf-8"):
        read_table(tmp_path / "labels.csv", SCHEMA)
    (tmp_path / "labels.xls").touch()
    with pytest.raises(LabelError, match=r"suffix .*not '\.xls'"):
        read_table(tmp_path / "labels.xls", SCHEMA)
    with pytest.raises(StorageError, match="no such file"):
        read_table(tmp_path / "gone.csv", SCHEMA)


def workbook(path: Path, *sheets: list[list[object]]) -> Path:
    book = Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_excel_cells_of_any_kind_are_read_as_they_stand(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "labels.xlsx",
        [["file", "tumour", "stroma", "mpp"], ["a.png", 1, None, 0.25], ["b.png", True, 0.0, None]],
        [],
    )
    found = read_table(path, SCHEMA)
    assert labels_of(found) == {"a.png": (1, -1), "b.png": (1, 0)}
    assert found.rows[0].micrometres_per_pixel == 0.25


def test_excel_formulas_and_further_sheets_are_refused(tmp_path: Path) -> None:
    rows: list[list[object]] = [["file", "tumour", "stroma"], ["a.png", "=1+0", 0]]
    with pytest.raises(LabelError, match=r"labels\.xlsx.*cell B2 holds a formula"):
        read_table(workbook(tmp_path / "labels.xlsx", rows), SCHEMA)
    with pytest.raises(LabelError, match="2 worksheets hold something"):
        read_table(workbook(tmp_path / "two.xlsx", rows[:1], rows[:1]), SCHEMA)


def test_a_file_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_text("file,tumour,stroma\n")
    with pytest.raises(LabelError, match="not an Excel workbook"):
        read_table(tmp_path / "labels.xlsx", SCHEMA)


def matched(folder: Path, files: list[str], images: list[str]) -> dict[str, str]:
    """Return the file in the table by the image that it was found to mean."""
    text = "file,labels\n" + "".join(f"{file},tumour\n" for file in files)
    read = table(folder, text)
    found = match_rows(read.path, read.rows, folder, [folder / image for image in images])
    return {path.relative_to(folder).as_posix(): row.file for path, row in found.by_image.items()}


@pytest.mark.parametrize(
    "file", ["s1/a.png", "./s1/a.png", "s1\\a.png", "a.png", "/data/images/s1/a.png"]
)
def test_rows_find_their_image_by_path_or_unique_name(tmp_path: Path, file: str) -> None:
    assert matched(tmp_path, [file], ["s1/a.png", "s1/b.png"]) == {"s1/a.png": file}


def test_accents_may_be_composed_or_not(tmp_path: Path) -> None:
    assert matched(tmp_path, ["\u00e9.png"], ["e\u0301.png"]) == {"e\u0301.png": "\u00e9.png"}


def test_an_exact_path_goes_before_a_name(tmp_path: Path) -> None:
    assert matched(tmp_path, ["a.png", "s/a.png"], ["a.png", "s/a.png"]) == {
        "a.png": "a.png",
        "s/a.png": "s/a.png",
    }


def test_another_folder_s_image_of_the_same_name_is_not_meant(tmp_path: Path) -> None:
    images = [tmp_path / "s1/a.png", tmp_path / "b.png"]
    read = table(tmp_path, "file,labels\ns2/a.png,tumour\nb.png,tumour\n")
    found = match_rows(read.path, read.rows, tmp_path, images)
    assert list(found.by_image) == [tmp_path / "b.png"]
    assert found.without_image == ("s2/a.png",)


def test_ambiguous_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"row 2: 'a\.png' may mean s1/a\.png, s2/a\.png"):
        matched(tmp_path, ["a.png"], ["s1/a.png", "s2/a.png"])
    with pytest.raises(LabelError, match=r"rows 2 and 3 both mean s1/a\.png"):
        matched(tmp_path, ["a.png", "s1/a.png"], ["s1/a.png"])
    with pytest.raises(LabelError, match="row 3 names no image"):
        matched(tmp_path, ["a.png", ""], ["a.png"])


def test_a_table_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"none of its 1 rows .* it names 'x', there is a\.png"):
        matched(tmp_path, ["x"], ["a.png"])
