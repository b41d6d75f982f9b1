from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ExportError, ImageError, StorageError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.exports.folder import Exported, NamedMask
from napari_protoseg.exports.indexed_png import decode
from napari_protoseg.exports.masks_folder import export_png
from napari_protoseg.exports.training_folder import MaskedImage, export_training_folder
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema, TissueClass

Result = TypeVar("Result")

# Ids are neither positions nor positions + 1.
SCHEMA = ClassSchema(
    classes=(
        TissueClass(id=7, name="tumour", color="#D55E00"),
        TissueClass(id=3, name="stroma", color="#0072B2"),
    )
)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
MASK = np.resize(np.array([0, 7, 3], np.uint8), (40, 48))


def finish(job: Job[Result]) -> Result:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def masked(
    tmp_path: Path,
    name: str = "slide-1",
    *,
    suffix: str = ".png",
    mask: np.ndarray = MASK,
    label: tuple[int, ...] = (1, 1),
    split: Split = Split.TRAIN,
) -> MaskedImage:
    path = tmp_path / "images" / f"{len(name)}{suffix}"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(PIXELS).save(path)
    return MaskedImage(name, mask, path, label, split)


def listing(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_masks_are_written_with_their_class_ids_and_what_they_mean(tmp_path: Path):
    masks = [NamedMask("a.b", MASK), NamedMask("ü [1, 0]", MASK)]
    out = tmp_path / "new" / "out"
    assert finish(export_png(iter(masks), 2, out, SCHEMA)) == Exported(out, 2)
    assert listing(out) == ["a.b.png", "classes.json", "ü [1, 0].png"]
    assert np.array_equal(decode(out / "a.b.png").values, MASK)
    described = json.loads((out / "classes.json").read_text(encoding="utf-8"))
    assert described["unlabelled"] == 0
    assert [entry["value"] for entry in described["classes"]] == [7, 3]
    assert described["schema_fingerprint"] == SCHEMA.fingerprint


def test_a_training_folder_has_positions_in_masks_and_labels_in_names(tmp_path: Path):
    images = [
        masked(tmp_path, "slide-1-[1, 1]"),
        masked(tmp_path, "sl[i]de-2", label=(0, 1)),
        masked(tmp_path, "held-out", split=Split.VALIDATION, label=(1, 0)),
    ]
    out = tmp_path / "out"
    out.mkdir()
    assert finish(export_training_folder(images, 3, out, SCHEMA)) == Exported(out, 3)
    assert listing(out) == [
        "classes.json",
        "training/sl(i)de-2[01].png",
        "training/slide-1[11].png",
        "training_masks/sl(i)de-2[01].png",
        "training_masks/slide-1[11].png",
        "valid/img/held-out[10].png",
        "valid/mask/held-out[10].png",
    ]
    with Image.open(out / "training_masks" / "slide-1[11].png") as image:
        assert image.mode == "P"
        written = np.asarray(image)
        colours = np.asarray(image.convert("RGB"))
    assert np.array_equal(written, np.resize([2, 0, 1], MASK.shape))
    assert colours[0, 1].tolist() == [0xD5, 0x5E, 0x00]
    described = json.loads((out / "classes.json").read_text(encoding="utf-8"))
    assert described["unlabelled"] == 2
    assert described["classes"][1] == {"value": 1, "id": 3, "name": "stroma", "color": "#0072B2"}


def test_a_png_is_copied_byte_for_byte_and_another_image_stored_without_loss(tmp_path: Path):
    images = [masked(tmp_path, "one"), masked(tmp_path, "three", suffix=".tif")]
    out = tmp_path / "out"
    finish(export_training_folder(images, 2, out, SCHEMA))
    assert (out / "training" / "one[11].png").read_bytes() == images[0].image_path.read_bytes()
    with Image.open(out / "training" / "three[11].png") as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), PIXELS)


def refusals(tmp_path: Path) -> dict[str, tuple[list[MaskedImage], str]]:
    unknown_value = np.where(MASK == 7, 8, MASK).astype(np.uint8)
    return {
        "unknown presence": ([masked(tmp_path, label=(1, -1))], "whether stroma is present"),
        "short label": ([masked(tmp_path, label=(1,))], "a label of 1 classes, not 2"),
        "unknown value": ([masked(tmp_path, mask=unknown_value)], "mask value 8 is no class"),
        "other size": ([masked(tmp_path, mask=MASK[:20])], "48 x 20 pixels for an image"),
        "same name": (
            [masked(tmp_path, "Slide-1"), masked(tmp_path, "slide-1-[1, 1]")],
            "two images would get this name",
        ),
        "no name": ([masked(tmp_path, "a/b")], "not a file name"),
    }


@pytest.mark.parametrize(
    "case",
    ["unknown presence", "short label", "unknown value", "other size", "same name", "no name"],
)
def test_what_the_layout_cannot_express_is_refused_and_nothing_stays(tmp_path: Path, case: str):
    images, reason = refusals(tmp_path)[case]
    with pytest.raises(ExportError, match=reason):
        finish(export_training_folder(images, len(images), tmp_path / "out", SCHEMA))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_an_image_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path):
    images = [masked(tmp_path, "one"), masked(tmp_path, "three")]
    images[1].image_path.write_text("not an image")
    with pytest.raises(ImageError):
        finish(export_training_folder(images, 2, tmp_path / "out", SCHEMA))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("name", ["", "..", "a\\b", "a:b", "line\nbreak"])
def test_a_name_that_some_system_cannot_hold_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ExportError, match="not a file name"):
        finish(export_png([NamedMask(name, MASK)], 1, tmp_path / "out", SCHEMA))


def test_a_folder_with_files_in_it_is_left_as_it_was(tmp_path: Path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty") as refusal:
        finish(export_png([NamedMask("a", MASK)], 1, tmp_path, SCHEMA))
    assert "empty folder" in refusal.value.remedy
    with pytest.raises(ExportError, match="not a folder"):
        finish(export_png([NamedMask("a", MASK)], 1, tmp_path / "precious.txt", SCHEMA))
    assert listing(tmp_path) == ["precious.txt"]
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_folder_filled_meanwhile_is_not_overwritten(tmp_path: Path):
    out = tmp_path / "out"
    job = export_png([NamedMask("a", MASK)], 1, out, SCHEMA)
    next(job)
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(ExportError, match="not empty"):
        finish(job)
    assert listing(tmp_path) == ["out/precious.txt"]


@pytest.mark.parametrize("leave", ["stop", "close"])
def test_leaving_early_writes_nothing(tmp_path: Path, leave: str):
    masks = [NamedMask("a", MASK), NamedMask("b", MASK)]
    job = export_png(masks, 2, tmp_path / "out", SCHEMA)
    assert [next(job), next(job)][1] == Progress("Writing masks", 1, 2)
    if leave == "close":
        job.close()
    else:
        with pytest.raises(StopIteration) as end:
            job.send(Request.STOP)
        assert end.value.value is None
    assert not list(tmp_path.iterdir())


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    finish(export_png([NamedMask("a", MASK)], 1, link, SCHEMA))
    assert link.is_symlink()
    assert listing(tmp_path / "real") == ["a.png", "classes.json"]


def test_a_full_disk_is_named_and_nothing_half_written_stays(tiny_tmpfs: Path):
    noise = np.random.default_rng(0).choice(np.array([0, 3, 7], np.uint8), (2000, 2000))
    masks = (NamedMask(str(number), noise) for number in range(100))
    with pytest.raises(StorageError, match="no space left"):
        finish(export_png(masks, 100, tiny_tmpfs / "out", SCHEMA))
    assert not list(tiny_tmpfs.iterdir())
