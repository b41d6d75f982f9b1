from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ImageError, LabelError, SchemaError, Stopped
from napari_protoseg.events import Event, Progress, Request
from napari_protoseg.labels.reader import LabelReading, read_labels
from napari_protoseg.labels.report import ClassCount, LabelReport, LabelSource
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema


def tile(path: Path, content: str | None = None, **options: Any) -> Path:
    """Write a tile that only `content`, by default its path, makes different from others."""
    seed = zlib.crc32((content or str(path)).encode())
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def tiles(folder: Path, *names: str) -> Path:
    for name in names:
        tile(folder / name)
    return folder


def read(images: Path, **options: Any) -> LabelReading:
    return events_and_reading(images, **options)[1]


def events_and_reading(images: Path, **options: Any) -> tuple[list[Event], LabelReading]:
    job = read_labels(images, **options)
    events = []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


def labels_of(reading: LabelReading, folder: Path) -> dict[str, tuple[int, ...]]:
    return {image.path.relative_to(folder).as_posix(): image.label for image in reading.images}


def test_labels_in_names_are_read_in_the_order_of_the_classes(tmp_path: Path) -> None:
    reading = read(tiles(tmp_path, "a[1 0].png", "s/b[0, 1].png"), classes=["tumour", "stroma"])
    assert reading.schema.names == ("tumour", "stroma")
    assert reading.report.source is LabelSource.BRACKETS
    assert labels_of(reading, tmp_path) == {"a[1 0].png": (1, 0), "s/b[0, 1].png": (0, 1)}


def test_an_image_without_bracket_among_others_is_unlabelled_and_reported(tmp_path: Path) -> None:
    reading = read(tiles(tmp_path, "a[10].png", "b.png"), classes=["x", "y"])
    assert labels_of(reading, tmp_path)["b.png"] == (-1, -1)
    assert reading.report.images_without_labels == ("b.png",)
    assert reading.report.labelled == 1


def test_labels_in_names_without_classes_ask_for_as_many(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"have 3 digits.*Name the 3 classes"):
        read(tiles(tmp_path, "a[101].png"))


def test_another_number_of_digits_than_classes_names_a_file(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"a\[101\]\.png: .*3 digits.*2 classes: x, y"):
        read(tiles(tmp_path, "a[101].png"), classes=["x", "y"])


def test_unequal_lengths_name_a_file_of_each(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"2 in b\[10\]\.png, 3 in a\[101\]\.png"):
        read(tiles(tmp_path, "a[101].png", "b[10].png"), classes=["x", "y"])


def test_folders_of_classes_are_labels(tmp_path: Path) -> None:
    images = tiles(tmp_path, "stroma/a.png", "Tumour/case 1/b.png")
    reading = read(images, classes=["tumour", "stroma", "normal"])
    assert reading.report.source is LabelSource.FOLDERS
    assert labels_of(reading, images) == {
        "Tumour/case 1/b.png": (1, 0, 0),
        "stroma/a.png": (0, 1, 0),
    }


def test_the_folder_of_a_renamed_class_may_have_its_former_name(tmp_path: Path) -> None:
    stroma, tumour = ClassSchema.from_names(["stroma", "tumour"]).classes
    carcinoma = tumour.model_copy(update={"name": "carcinoma", "former": ("tumour",)})
    images = tiles(tmp_path, "stroma/a.png", "Tumour/b.png")
    reading = read(images, schema=ClassSchema(classes=(stroma, carcinoma)))
    assert labels_of(reading, tmp_path) == {"stroma/a.png": (1, 0), "Tumour/b.png": (0, 1)}


def test_folders_make_the_classes_where_none_are_given(tmp_path: Path) -> None:
    assert read(tiles(tmp_path, "b/1.png", "a/2.png")).schema.names == ("a", "b")


def test_folders_of_splits_are_no_classes(tmp_path: Path) -> None:
    images = tiles(tmp_path, "train/1.png", "val/2.png")
    with pytest.raises(LabelError, match="no labels in file names or class folders"):
        read(images)
    assert read(images, classes=["x"]).report.source is LabelSource.NONE


def test_folders_of_which_only_some_are_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="but not blood"):
        read(tiles(tmp_path, "tumour/1.png", "blood/2.png"), classes=["tumour"])


def test_images_without_any_labels_are_all_unknown(tmp_path: Path) -> None:
    reading = read(tiles(tmp_path, "a.png", "s/b.png"), classes=["x", "y"])
    assert {image.label for image in reading.images} == {(-1, -1)}
    assert reading.report.source is LabelSource.NONE
    assert reading.report.combinations == ()


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_gives_labels_case_pixel_size_and_split(tmp_path: Path) -> None:
    images = tiles(tmp_path / "images", "a.png", "b.png")
    labels = table(tmp_path, "file,x,y,case,mpp,split\na.png,1,0,P1,0.5,val\ngone.png,1,1,P1,,\n")
    reading = read(images, labels=labels)
    first, second = reading.images
    assert first.label == (1, 0)
    assert (first.case, first.micrometres_per_pixel) == ("P1", 0.5)
    assert first.split is Split.VALIDATION
    assert second.label == (-1, -1)
    report = reading.report
    assert report.source is LabelSource.TABLE
    assert report.labels_without_images == ("gone.png",)
    assert report.images_without_labels == report.images_without_case == ("b.png",)


def test_a_table_that_agrees_with_the_names_is_taken(tmp_path: Path) -> None:
    images = tiles(tmp_path / "images", "a[1 0].png")
    reading = read(images, labels=table(tmp_path, "file,x,y\na[1 0].png,1,?\n"))
    assert reading.images[0].label == (1, -1)


def test_a_table_that_contradicts_a_name_is_refused(tmp_path: Path) -> None:
    images = tiles(tmp_path / "images", "a[1 0].png")
    with pytest.raises(
        LabelError, match=r"a\[1 0\]\.png: .*\[1, 0\].*row 2 of .*\[0, 1\] for x, y"
    ):
        read(images, labels=table(tmp_path, "file,x,y\na[1 0].png,0,1\n"))


def test_a_bracket_that_is_no_label_stands_beside_a_table(tmp_path: Path) -> None:
    images = tiles(tmp_path / "images", "a[x=3].png", "b[0].png")
    labels = table(tmp_path, "file,labels\na[x=3].png,x\nb[0].png,y\n")
    assert [image.label for image in read(images, labels=labels).images] == [(1, 0), (0, 1)]


@pytest.mark.parametrize("pattern", ["^([^-]+)-", "^(x)?(?P<case>[^-]+)-"])
def test_a_pattern_gives_the_case(tmp_path: Path, pattern: str) -> None:
    reading = read(tiles(tmp_path, "P7-1.png", "other.png"), classes=["c"], case_pattern=pattern)
    assert [image.case for image in reading.images] == ["P7", None]
    assert reading.report.images_without_case == ("other.png",)


@pytest.mark.parametrize(
    ("pattern", "match"), [("(", "not a regular expression"), ("P[0-9]", "no group")]
)
def test_a_pattern_that_is_malformed_or_has_no_group_is_refused(
    tmp_path: Path, pattern: str, match: str
) -> None:
    with pytest.raises(LabelError, match=f"case pattern: .*{match}"):
        read(tmp_path, case_pattern=pattern)
    with pytest.raises(LabelError, match=f"micrometres per pixel: .*{match}"):
        read(tmp_path, micrometres_per_pixel=pattern)


def test_pixel_size_comes_from_the_name_then_the_table_then_the_file(tmp_path: Path) -> None:
    images = tiles(tmp_path / "images", "a_MPP-0.2500+0.png", "b.png")
    tile(images / "c.png", dpi=(50_800, 50_800))
    labels = table(tmp_path, "file,mpp,x\na_MPP-0.2500+0.png,1,1\nb.png,2,1\nc.png,,1\n")
    reading = read(images, labels=labels, micrometres_per_pixel=r"MPP-([0-9.]+)")
    assert [image.micrometres_per_pixel for image in reading.images] == [0.25, 2, 0.5]
    assert reading.report.pixel_sizes == (0.25, 2)


@pytest.mark.parametrize("given", [0.25, "0.25"])
def test_a_pixel_size_for_all_goes_before_the_file(tmp_path: Path, given: float | str) -> None:
    tile(tmp_path / "a.png", dpi=(50_800, 50_800))
    reading = read(tmp_path, classes=["x"], micrometres_per_pixel=given)
    assert reading.images[0].micrometres_per_pixel == 0.25


@pytest.mark.parametrize("given", [0, -1.0, float("nan"), "inf"])
def test_an_impossible_pixel_size_is_refused(tmp_path: Path, given: float | str) -> None:
    with pytest.raises(LabelError, match="not a number of micrometres"):
        read(tmp_path, classes=["x"], micrometres_per_pixel=given)


def test_a_name_whose_pixel_size_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"MPP-1\.2\.3\.png: '1\.2\.3' is not a number"):
        read(
            tiles(tmp_path, "MPP-1.2.3.png"),
            classes=["x"],
            micrometres_per_pixel=r"MPP-([0-9.]+)\.png",
        )


def test_unreadable_images_are_left_out_and_reported(tmp_path: Path) -> None:
    tiles(tmp_path, "good[1].png", "cut[1].png")
    (tmp_path / "cut[1].png").write_bytes((tmp_path / "cut[1].png").read_bytes()[:200])
    (tmp_path / "text[1].png").write_text("no image")
    Image.new("L", (40, 40)).save(tmp_path / "grey[1].png")
    reading = read(tmp_path, classes=["x"])
    assert [image.path.name for image in reading.images] == ["good[1].png"]
    assert reading.report.found == 4
    reasons = {left_out.file: left_out.reason for left_out in reading.report.unreadable}
    assert set(reasons) == {"cut[1].png", "text[1].png", "grey[1].png"}
    assert "truncated" in reasons["cut[1].png"]
    assert "colour" in reasons["grey[1].png"]


def test_a_folder_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image in this folder"):
        read(tmp_path, classes=["x"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"none of 1 images.*text\.png: not a PNG"):
        read(tmp_path, classes=["x"])
    with pytest.raises(ImageError, match="no such folder"):
        read(tmp_path / "gone", classes=["x"])


def test_equal_images_of_one_label_are_kept_once(tmp_path: Path) -> None:
    for name in ("a[1].png", "b[0].png", "c[1].png", "d[1].png"):
        tile(tmp_path / name, content="same" if name != "b[0].png" else "other")
    reading = read(tmp_path, classes=["x"])
    assert list(labels_of(reading, tmp_path)) == ["a[1].png", "b[0].png"]
    assert reading.report.duplicates == (("a[1].png", "c[1].png", "d[1].png"),)
    assert (reading.report.found, reading.report.usable) == (4, 2)


def test_equal_images_of_different_labels_name_both_files(tmp_path: Path) -> None:
    tile(tmp_path / "a[1].png", content="same")
    tile(tmp_path / "b[0].png", content="same")
    with pytest.raises(LabelError, match=r"b\[0\]\.png: the same image as .*a\[1\]\.png"):
        read(tmp_path, classes=["x"])


def test_the_report_counts_classes_combinations_and_sizes(tmp_path: Path) -> None:
    tiles(tmp_path, "a[110].png", "b[110].png", "c[001].png", "d.png")
    Image.new("RGB", (64, 33), (200, 80, 150)).save(tmp_path / "e[000].png")
    report = read(tmp_path, classes=["x", "y", "z"]).report
    assert report.classes[0] == ClassCount(name="x", present=2, absent=2, unknown=1)
    assert [(c.classes, c.images) for c in report.combinations] == [
        (("x", "y"), 2),
        (("z",), 1),
        ((), 1),
    ]
    assert (report.widths, report.heights) == ((40, 64), (32, 33))
    assert report.images_without_pixel_size == 5


def test_the_report_is_sentences_and_json(tmp_path: Path) -> None:
    tiles(tmp_path, "a[10].png", "b[01].png", *(f"c{number}.png" for number in range(7)))
    (tmp_path / "text.png").write_text("no image")
    report = read(tmp_path, classes=["tumour", "stroma"]).report
    lines = report.lines()
    assert lines[0] == "10 images found, 9 usable, 2 labelled from brackets in the file names."
    assert "Class tumour: present in 1, absent in 1, unknown in 7." in lines
    assert any("text.png (not a PNG" in line for line in lines)
    assert any(line.startswith("Images without label (7): c0.png") for line in lines)
    assert any("c4.png, and 2 more." in line for line in lines)
    assert LabelReport.model_validate_json(report.model_dump_json()) == report
    assert json.loads(report.model_dump_json())["found"] == 10


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids these names")
def test_odd_names_pass_and_are_shown_escaped(tmp_path: Path) -> None:
    names = ["<b>\"x\" 'y'.png", "line\nbreak.png", "🔬 é.png", "\x1b[31mred.png"]
    tiles(tmp_path, *names, "ok[1].png")
    with pytest.raises(LabelError, match="which is not a label") as caught:
        read(tiles(tmp_path, "a\n[x].png"), classes=["x"])
    assert "\n" not in str(caught.value)
    (tmp_path / "a\n[x].png").unlink()
    reading = read(tmp_path, classes=["x"])
    assert {image.path.name for image in reading.images} == {*names, "ok[1].png"}
    assert set(reading.report.images_without_labels) == set(names)
    assert all(line.isprintable() for line in reading.report.lines())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems demand Unicode names")
def test_a_name_that_is_not_unicode_is_left_out_and_reported(tmp_path: Path) -> None:
    tiles(tmp_path, "a[1].png")
    os.rename(tmp_path / "a[1].png", os.fsencode(tmp_path) + b"/\xff[1].png")  # noqa: PTH104
    tiles(tmp_path, "b[1].png")
    report = read(tmp_path, classes=["x"]).report
    assert [left_out.reason for left_out in report.unreadable] == ["its name is not Unicode"]
    assert LabelReport.model_validate_json(report.model_dump_json()) == report


def test_a_schema_gives_the_classes_and_others_contradict_it(tmp_path: Path) -> None:
    schema = ClassSchema.from_names(["x", "y"])
    images = tiles(tmp_path, "a[10].png")
    assert read(images, schema=schema).schema == schema
    assert read(images, schema=schema, classes=["x", "y"]).schema == schema
    with pytest.raises(LabelError, match="y, x are not those of the schema"):
        read(images, schema=schema, classes=["y", "x"])
    with pytest.raises(SchemaError, match="stands twice"):
        read(images, classes=["x", "X"])


def test_progress_goes_from_nothing_to_all_and_order_is_by_path(tmp_path: Path) -> None:
    names = [f"{number:03}[1].png" for number in range(70)]
    events, reading = events_and_reading(tiles(tmp_path, *names), classes=["x"])
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (0, 70, 70)
    assert [image.path.name for image in reading.images] == names


def test_asked_to_stop_it_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    job = read_labels(tiles(tmp_path, "a[1].png"), classes=["x"])
    next(job)
    with pytest.raises(Stopped, match="stopped after 0 of 1 images"):
        job.send(Request.STOP)


def test_importing_the_reader_does_not_import_torch() -> None:
    code = (
        "import sys, napari_protoseg.labels.reader; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'qtpy', 'napari')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
