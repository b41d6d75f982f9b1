"""`protoseg new`: images, labels, masks, splits, cases and pixel sizes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from terminal_runs import INPUT, USAGE, protoseg, refusal
from tiny_project import CASE_PATTERN, CLASSES, NAMES, write_tile

from napari_protoseg.images.reading import read_mask
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.schema import ClassSchema


def images_of(project: Path) -> tuple[ImageRecord, ...]:
    with Project.open(project) as opened:
        return opened.images()


def together(workspace: Path) -> Path:
    """Put the validation images beside the training tiles, and return their folder."""
    for path in (workspace / "validation" / "images").iterdir():
        shutil.copy(path, workspace / "tiles")
    return workspace / "tiles"


def test_images_with_masks_are_validated_on(tmp_path: Path, made: Path):
    project = tmp_path / "p"
    args = ("--images", together(made), "--classes", CLASSES, "--masks", made / "validation/masks")
    assert "4 to validate on, 4 with a mask" in protoseg("new", project, *args).out
    for image in images_of(project):
        with_mask = image.path.name.startswith("case08")
        assert (image.split is Split.VALIDATION) is with_mask
        assert (image.mask_path is not None) is with_mask


def test_validation_masks_choose_the_best_epoch(tmp_path: Path, made: Path):
    project = tmp_path / "p"
    args = ("--images", together(made), "--classes", CLASSES, "--masks", made / "validation/masks")
    protoseg("new", project, *args)
    protoseg("bank", project, "--clusters", "1")
    said = protoseg("train", project, "--epochs", "1", "--batch-size", "4", "--matching", "none")
    assert "mIoU" in said.err


def test_a_project_of_validation_images_alone_says_that_there_is_none_to_train_on(
    tmp_path: Path, made: Path
):
    project = tmp_path / "p"
    validation = made / "validation"
    args = ("--images", validation / "images", "--classes", CLASSES)
    protoseg("new", project, *args, "--masks", validation / "masks")
    said = refusal("bank", project, untouched=project)
    assert "no training image" in said
    assert "--split" in said


def test_a_mask_of_another_size_is_refused(tmp_path: Path, made: Path):
    masks = made / "validation" / "masks"
    first = min(masks.iterdir())
    Image.fromarray(read_mask(first)[:-2]).save(first)
    args = ("--images", together(made), "--classes", CLASSES, "--masks", masks)
    said = refusal("new", tmp_path / "p", *args, untouched=tmp_path / "p")
    assert first.name in said
    assert "64 x 62" in said


def test_a_mask_with_a_value_that_is_no_class_is_refused(tmp_path: Path, made: Path):
    masks = made / "validation" / "masks"
    first = min(masks.iterdir())
    values = read_mask(first)
    values[0, 0] = 9
    Image.fromarray(values).save(first)
    args = ("--images", together(made), "--classes", CLASSES, "--masks", masks)
    said = refusal("new", tmp_path / "p", *args, untouched=tmp_path / "p")
    assert first.name in said
    assert "value 9" in said


def test_a_folder_of_masks_of_other_images_is_refused(tmp_path: Path, made: Path):
    args = ("--images", made / "tiles", "--classes", CLASSES, "--masks", made / "validation/masks")
    said = refusal("new", tmp_path / "p", *args, untouched=tmp_path / "p")
    assert "no mask named as an image" in said


def test_a_split_file_says_what_an_image_is_for(tmp_path: Path, made: Path):
    first, second, *_ = sorted(path.name for path in (made / "tiles").iterdir())
    table = tmp_path / "split.csv"
    table.write_text(f"file,split\n{first},validation\n{second},train\n")
    args = ("--images", made / "tiles", "--classes", CLASSES, "--split", table)
    protoseg("new", tmp_path / "p", *args)
    held = [i.path.name for i in images_of(tmp_path / "p") if i.split is Split.VALIDATION]
    assert held == [first]
    table.write_text(f"file,split\n{first},holdout\n")
    said = refusal("new", tmp_path / "q", *args, untouched=tmp_path / "q")
    assert "holdout" in said


def test_cases_and_pixel_sizes_come_from_patterns_over_the_names(tmp_path: Path, made: Path):
    for path in (made / "tiles").iterdir():
        path.rename(path.with_name(f"mpp0.{path.name[5]}5-{path.name}"))
    args = ("--images", made / "tiles", "--classes", CLASSES)
    patterns = ("--case-pattern", CASE_PATTERN, "--mpp", r"mpp([0-9.]+)-")
    protoseg("new", tmp_path / "p", *args, *patterns)
    found = {(image.case, image.micrometres_per_pixel) for image in images_of(tmp_path / "p")}
    expected = {("case00", "05"), ("case01", "15"), ("case02", "25"), ("case03", "35")}
    assert found == {(case, float(f"0.{digits}")) for case, digits in expected}


def test_one_pixel_size_holds_for_all(tmp_path: Path, made: Path):
    args = ("--images", made / "tiles", "--classes", CLASSES, "--mpp", "0.5")
    protoseg("new", tmp_path / "p", *args)
    assert {image.micrometres_per_pixel for image in images_of(tmp_path / "p")} == {0.5}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--mpp", "0"),
        ("--mpp", "nan"),
        ("--mpp", "inf"),
        ("--mpp", "mpp[0-9"),
        ("--case-pattern", "("),
        ("--case-pattern", "case"),
    ],
)
def test_a_pattern_or_number_that_is_none_is_refused(
    tmp_path: Path, made: Path, option: str, value: str
):
    args = ("--images", made / "tiles", "--classes", CLASSES, option, value)
    assert value in refusal("new", tmp_path / "p", *args, untouched=tmp_path / "p")


def test_classes_may_come_from_a_schema_file(tmp_path: Path, made: Path):
    schema = ClassSchema.from_names([name.upper() for name in NAMES])
    file = tmp_path / "classes.json"
    file.write_text(schema.to_json())
    protoseg("new", tmp_path / "p", "--images", made / "tiles", "--schema", file)
    with Project.open(tmp_path / "p") as project:
        assert project.schema == schema
    args = ("--images", made / "tiles", "--schema", file, "--classes", "a,b,c,d")
    refusal("new", tmp_path / "q", *args, untouched=tmp_path / "q")
    file.write_text("[]")
    said = refusal("new", tmp_path / "q", *args[:4], untouched=tmp_path / "q")
    assert str(file) in said


def test_labels_may_come_from_a_table_or_from_folders(tmp_path: Path, made: Path):
    images = tmp_path / "images"
    rows = []
    for number, path in enumerate(sorted((made / "tiles").iterdir())):
        place = images / NAMES[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{number}.png")
        rows.append(f"{NAMES[number % 4]}/{number}.png,{NAMES[number % 4]}")
    protoseg("new", tmp_path / "folders", "--images", images)
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,classes", *rows]) + "\n")
    args = ("--images", images, "--labels", table, "--classes", CLASSES)
    protoseg("new", tmp_path / "table", *args)
    for image in images_of(tmp_path / "table"):
        assert image.label.index(1) == int(image.path.stem) % 4
    by_path = {image.path: image for image in images_of(tmp_path / "folders")}
    with Project.open(tmp_path / "folders") as project:
        names = project.schema.names
    for path, image in by_path.items():
        assert image.label[names.index(path.parent.name)] == 1


def test_an_image_that_stands_twice_is_kept_once(tmp_path: Path, made: Path):
    first = min((made / "tiles").iterdir())
    shutil.copy(first, first.with_name(f"copy-{first.name}"))
    args = ("--images", made / "tiles", "--classes", CLASSES, "--json")
    record = json.loads(protoseg("new", tmp_path / "p", *args).out)
    assert record["training"] == 16
    assert record["report"]["duplicates"] == [[first.name, f"copy-{first.name}"]]


def test_an_image_that_stands_twice_under_two_labels_is_refused(tmp_path: Path, made: Path):
    first = min((made / "tiles").iterdir())
    other = first.with_name("other-[1 1 1 1].png")
    shutil.copy(first, other)
    args = ("--images", made / "tiles", "--classes", CLASSES)
    said = refusal("new", tmp_path / "p", *args, untouched=tmp_path / "p")
    assert first.name in said
    assert other.name in said


def test_a_project_is_not_made_over_another(made: Path):
    args = ("--images", made / "tiles", "--classes", CLASSES)
    assert "project already" in refusal("new", made / "project", *args, untouched=made)
    assert "not empty" in refusal("new", made / "tiles", *args, untouched=made)


def test_a_project_may_be_made_in_an_empty_folder(tmp_path: Path, made: Path):
    (tmp_path / "empty").mkdir()
    protoseg("new", tmp_path / "empty", "--images", made / "tiles", "--classes", CLASSES)
    assert len(images_of(tmp_path / "empty")) == 16


def test_missing_and_unknown_options_are_wrong_usage(tmp_path: Path, made: Path):
    assert "--images" in protoseg("new", tmp_path / "p", code=USAGE).err
    protoseg("new", tmp_path / "p", "--images", made / "tiles", "--color", "red", code=USAGE)
    protoseg("train", made / "project", "--preset", "fast", code=USAGE)
    protoseg("train", made / "project", "--epochs", "0", code=USAGE)
    protoseg("bank", made / "project", "--clusters", "few", code=USAGE)
    assert not (tmp_path / "p").exists()


def test_a_folder_that_is_no_project_is_named(tmp_path: Path):
    for command in (("bank",), ("train",), ("info",), ("predict", "--out", tmp_path / "o")):
        name, *rest = command
        said = refusal(name, tmp_path / "p", *rest, untouched=tmp_path, code=INPUT)
        assert str(tmp_path / "p") in said
        assert "protoseg new" in said


def test_images_whose_masks_would_get_one_name_are_told_of_at_once(tmp_path: Path):
    images = tmp_path / "images"
    write_tile(images, 0, 0, 0).replace(images / "a__x-[1000].png")
    (images / "a").mkdir()
    write_tile(images, 0, 1, 0).replace(images / "a" / "x-[1000].png")
    said = protoseg("new", tmp_path / "p", "--images", images, "--classes", CLASSES).err
    assert "two images would get this name" in said
    assert len(images_of(tmp_path / "p")) == 2
