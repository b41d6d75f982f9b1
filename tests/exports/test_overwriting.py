"""An export in the place of an earlier one: wholly or not at all, and never of anything else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.events import Request, finish
from napari_protoseg.exports import folder as export_folder
from napari_protoseg.exports.earlier import earlier_export
from napari_protoseg.exports.folder import NamedMask
from napari_protoseg.exports.masks_folder import export_png
from napari_protoseg.exports.training_folder import MaskedImage, export_training_folder
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
MASK = np.resize(np.array([0, 1, 2], np.uint8), (40, 48))


def export(out: Path, *names: str, overwrite: bool = False) -> None:
    masks = [NamedMask(name, MASK) for name in names]
    documents = {"prediction.json": "{}", "recipe.json": "{}"}
    finish(export_png(masks, len(masks), out, SCHEMA, documents, overwrite=overwrite))


def export_training(out: Path, images: Path, *, overwrite: bool = False) -> None:
    images.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    masked = [
        MaskedImage("a", MASK, images / "a.png", (1, 1), Split.TRAIN),
        MaskedImage("b", MASK, images / "a.png", (1, 1), Split.VALIDATION),
    ]
    finish(export_training_folder(masked, 2, out, SCHEMA, overwrite=overwrite))


def listing(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_a_new_export_replaces_the_earlier_one_completely(tmp_path: Path):
    out = tmp_path / "out"
    export(out, "a", "b")
    assert earlier_export(out) == 5
    export(out, "b", "c", overwrite=True)
    assert listing(tmp_path) == [
        f"out/{name}" for name in ("b.png", "c.png", "classes.json", "prediction.json")
    ] + ["out/recipe.json"]


def test_the_layouts_replace_each_other(tmp_path: Path):
    out, images = tmp_path / "out", tmp_path / "images"
    export(out, "a")
    export_training(out, images, overwrite=True)
    assert earlier_export(out) == 5
    assert not list(out.glob("*.png"))
    export(out, "a", overwrite=True)
    assert not (out / "training").exists()


def test_a_new_place_needs_no_earlier_export(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        export(tmp_path / name, "a", overwrite=True)
        assert (tmp_path / name / "a.png").is_file()


def with_file(name: str):
    def change(out: Path, elsewhere: Path) -> None:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("years of work")

    return change


def with_link(out: Path, elsewhere: Path) -> None:
    (out / "more.png").symlink_to(elsewhere / "a.png")


def with_linked_folder(out: Path, elsewhere: Path) -> None:
    (out / "training").symlink_to(elsewhere, target_is_directory=True)


def without_classes(out: Path, elsewhere: Path) -> None:
    (out / "classes.json").unlink()


def with_other_classes(out: Path, elsewhere: Path) -> None:
    (out / "classes.json").write_text('{"classes": []}')


@pytest.mark.parametrize(
    "change",
    [
        with_file("thesis.txt"),
        with_file("project.db"),
        with_file("raw/tile.png"),
        with_file("training/notes.txt"),
        with_link,
        with_linked_folder,
        without_classes,
        with_other_classes,
    ],
)
def test_anything_but_an_earlier_export_is_refused_and_left(tmp_path: Path, change):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    export(out, "a")
    export(elsewhere, "a")
    change(out, elsewhere)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ExportError, match=r"earlier export|no export of this kind"):
        export(out, "b", overwrite=True)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_images_are_no_earlier_export(tmp_path: Path):
    (tmp_path / "tiles").mkdir()
    Image.fromarray(MASK).save(tmp_path / "tiles" / "a.png")
    with pytest.raises(ExportError, match="no earlier export"):
        export(tmp_path / "tiles", "a", overwrite=True)
    assert listing(tmp_path) == ["tiles/a.png"]


def test_what_a_file_browser_leaves_does_not_hinder(tmp_path: Path):
    out = tmp_path / "out"
    export(out, "a")
    (out / ".DS_Store").write_bytes(b"\0")
    export(out, "b", overwrite=True)
    assert not (out / ".DS_Store").exists()


def test_without_leave_an_earlier_export_stays(tmp_path: Path):
    out = tmp_path / "out"
    export(out, "a")
    with pytest.raises(ExportError, match="not empty"):
        export(out, "b")
    assert (out / "a.png").is_file()


@pytest.mark.parametrize("leave", ["stop", "close", "fail"])
def test_leaving_early_leaves_the_earlier_export(tmp_path: Path, leave: str):
    out = tmp_path / "out"
    export(out, "a")
    names = ("b", "B") if leave == "fail" else ("b", "c")  # two that one disk may not tell apart
    masks = [NamedMask(name, MASK) for name in names]
    job = export_png(masks, 2, out, SCHEMA, overwrite=True)
    next(job)
    if leave == "close":
        job.close()
    elif leave == "stop":
        with pytest.raises(StopIteration):
            job.send(Request.STOP)
    else:
        with pytest.raises(ExportError, match="two images"):
            finish(job)
    assert listing(tmp_path)[0] == "out/a.png"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_was_added_while_it_was_written_is_not_lost(tmp_path: Path):
    out = tmp_path / "out"
    export(out, "a")
    job = export_png([NamedMask("b", MASK)], 1, out, SCHEMA, overwrite=True)
    next(job)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"thesis\.txt"):
        finish(job)
    assert (out / "a.png").is_file()
    assert (out / "thesis.txt").is_file()


def test_where_the_new_one_cannot_take_its_place_the_earlier_one_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    export(out, "a")
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if ".export." in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(Exception, match="no permission"):
        export(out, "b", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "a.png").is_file()


@pytest.mark.parametrize("moment", ["rename", "rmtree"])
def test_whenever_it_dies_one_whole_export_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    out = tmp_path / "out"
    export(out, "a")
    seen: list[list[str]] = []

    def look() -> None:
        places = [tmp_path / "out", tmp_path / "out.earlier"]
        seen.append([place.name for place in places if (place / "classes.json").is_file()])

    rename, rmtree = Path.rename, shutil.rmtree

    def looking_rename(path: Path, target: Path) -> Path:
        done = rename(path, target)
        look()
        return done

    def looking_rmtree(path: Path, **options: Any) -> None:
        look()
        rmtree(path, **options)

    if moment == "rename":
        monkeypatch.setattr(Path, "rename", looking_rename)
    else:
        monkeypatch.setattr(export_folder.shutil, "rmtree", looking_rmtree)
    export(out, "b", overwrite=True)
    assert seen
    assert all(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_an_earlier_death_has_left_aside_stays(tmp_path: Path):
    out = tmp_path / "out"
    export(tmp_path / "out.earlier", "old")
    export(out, "a")
    export(out, "b", overwrite=True)
    assert (tmp_path / "out.earlier" / "old.png").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.earlier"]


def test_a_link_to_an_earlier_export_stays_a_link(tmp_path: Path):
    export(tmp_path / "real", "a")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    export(link, "b", overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "real" / "b.png").is_file()
    assert not (tmp_path / "real" / "a.png").exists()
