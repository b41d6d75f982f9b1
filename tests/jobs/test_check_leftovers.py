"""What is left over in a project is removed as far as it can be, and never what a row names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.check_report import CheckReport, Outcome
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
SIZE = (16, 16)
RunCode = Callable[..., "CompletedProcess[str]"]

CHECK = """
import sys
from pathlib import Path
from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1])) as project:
    report = finish(check_project(project, repair=len(sys.argv) > 2, images=False))
assert report.masks == 1
print(*report.findings, sep="\\n")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of an image with its mask."""
    folder, image = tmp_path / "project", tmp_path / "tiles" / "0.png"
    Project.create(folder, SCHEMA, created=NOW).close()
    add_image(folder, image)
    with Project.open(folder) as project:
        mask = PredictedMask(1, np.ones(SIZE, np.uint8), np.ones(SIZE, np.float16))
        project.write_mask(mask, SOURCE)
    return folder


def add_image(folder: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), len(path.parts), np.uint8)).save(path, "PNG")
    content = str(path)  # such images are not looked at here
    with Project.open(folder) as project:
        project.add_images(
            [ImageRecord(path=path, content_hash=content, width=16, height=16, label=(1, 0))]
        )


def checked(folder: Path, *, repair: bool = False) -> CheckReport:
    """Check a project, but for its images, whose hashes here are none."""
    with Project.open(folder) as project:
        return finish(check_project(project, repair=repair, images=False))


def places(report: CheckReport, outcome: Outcome) -> set[str]:
    return {found.where for found in report.findings if found.outcome is outcome}


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"?")


def test_leftovers_of_killed_writes_are_removed_and_files_of_others_stay(folder: Path) -> None:
    left = [
        folder / ".project.db.abcd_123",
        folder / "arrays.zarr" / "masks" / "16x16" / "c" / "0" / "0" / ".0.x1y2z3a4",
        folder / "runs" / "0001" / ".last.safetensors.abcdefgh",
        folder / "banks" / ".0001.safetensors.abcdefgh",
    ]
    foreign = [folder / ".DS_Store", folder / "notes.txt", folder / ".git" / "config.abcdefgh"]
    for path in (*left, *foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    unfinished_block = folder / "cache" / "features" / "embedding-0" / ".0123.99"
    unfinished_block.mkdir(parents=True)
    report = checked(folder)
    repaired = {f.where for f in report.findings if f.outcome is Outcome.REPAIRED}
    assert repaired == {path.relative_to(folder).as_posix() for path in (*left, unfinished_block)}
    assert not any(path.exists() for path in (*left, unfinished_block))
    assert all(path.exists() for path in foreign)
    assert report.problems == []


def test_no_leftover_is_looked_for_where_a_link_leads(folder: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "elsewhere" / "deep" / ".theirs.png.abcd1234"
    theirs.mkdir(parents=True)
    (tmp_path / "elsewhere" / ".theirs.png.abcd1234").write_text("theirs")
    link = folder / "cache" / "features" / "dense-of-some-encoder" / "linked"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    checked(folder, repair=True)
    assert theirs.is_dir()
    assert (tmp_path / "elsewhere" / ".theirs.png.abcd1234").is_file()


def test_files_without_a_row_are_named_and_go_only_on_demand(folder: Path) -> None:
    unnamed = [folder / "banks" / "0007.safetensors", folder / "truth" / "000009.png"]
    for path in unnamed:
        path.parent.mkdir()
        path.write_bytes(b"?")
    (folder / "runs" / "0004").mkdir(parents=True)
    unnamed.append(folder / "runs" / "0004")
    (folder / "cache" / "features").mkdir(parents=True)
    report = checked(folder)
    assert {f.outcome for f in report.findings} == {Outcome.KEPT}
    assert len(report.findings) == 3
    assert all(path.exists() for path in unnamed)
    repaired = checked(folder, repair=True)
    assert {f.outcome for f in repaired.findings} == {Outcome.REPAIRED}
    assert not any(path.exists() for path in (*unnamed, folder / "cache" / "features"))
    assert checked(folder).findings == []


def left_beside(*files: Path) -> set[Path]:
    """Put a file that no row names beside each of these."""
    beside = {path.with_name("left over.png") for path in files}
    for path in beside:
        path.write_bytes(b"?")
    return beside


def test_what_a_row_names_stays_wherever_in_the_project_a_person_has_put_it(folder: Path) -> None:
    truth = folder / "truth" / "site A" / "1.png"
    images = [
        folder / "truth" / "2.png",
        folder / "runs" / "scan 1" / "slides" / "3.png",
        folder / "banks" / "4.png",
        folder / "cache" / "tiles" / "5.png",
        folder / "cache" / "a" / "b" / ".c" / "6.png",
        folder / "runs" / ".7.png.abcd1234",
    ]
    truth.parent.mkdir(parents=True)
    Image.new("L", (16, 16)).save(truth)
    for path in images:
        add_image(folder, path)
    with Project.open(folder) as project:
        project.set_truth({1: truth})
    unnamed = left_beside(truth, *images[:4])
    (folder / "runs" / "scan 1" / "notes").mkdir()
    unnamed.add(folder / "runs" / "scan 1" / "notes")
    kept = {f.where for f in checked(folder).findings if f.outcome is Outcome.KEPT}
    assert kept == {
        path.relative_to(folder).as_posix() for path in unnamed if "cache" not in path.parts
    }
    assert checked(folder, repair=True).problems == []
    assert all(path.is_file() for path in (truth, *images))
    assert not any(path.exists() for path in unnamed)


def test_an_image_that_is_recorded_by_its_whole_path_stays_in_the_project(folder: Path) -> None:
    image = folder / "runs" / "scan 1" / "x.png"
    add_image(folder, image)
    with closing(sqlite3.connect(folder / "project.db")) as connection, connection:
        connection.execute("UPDATE images SET path = ? WHERE id = 2", (str(image),))
    checked(folder, repair=True)
    assert image.is_file()


def test_a_file_that_the_link_of_an_image_leads_to_stays(folder: Path, tmp_path: Path) -> None:
    real = folder / "truth" / "real.png"
    real.parent.mkdir()
    Image.new("RGB", (16, 16)).save(real)
    link = tmp_path / "tiles" / "link.png"
    link.symlink_to(real)
    with Project.open(folder) as project:
        project.add_images(
            [ImageRecord(path=link, content_hash="link", width=16, height=16, label=(1, 0))]
        )
    checked(folder, repair=True)
    assert real.is_file()


def test_weights_stay_that_a_bank_or_a_round_was_made_with(folder: Path) -> None:
    weights = [folder / "banks" / "encoder.pth", folder / "truth" / "weights" / "backbone.pth"]
    put(*weights)
    with Project.open(folder) as project:
        summary = json.dumps({"encoder": "banks", "encoder_weights": str(weights[0])})
        bank = project.add_bank(b"?", summary, SCHEMA.fingerprint, created=NOW)
        config = json.dumps({"backbone_weights": str(weights[1])})
        project.new_round(bank.version, config, created=NOW)
    left = left_beside(*weights)
    assert places(checked(folder), Outcome.KEPT) - {"round 1"} == {
        path.relative_to(folder).as_posix() for path in left
    }
    checked(folder, repair=True)
    assert all(path.is_file() for path in weights)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("was", ["/disk/of another/project", "D:\\disk\\project", r"\\host\disk\p"])
def test_weights_stay_in_a_project_that_has_been_moved_since_they_were_named(
    folder: Path, was: str
) -> None:
    weights = [folder / "truth" / "weights" / "e.pth", folder / "cache" / "weights" / "f.pth"]
    put(*weights)
    separator = "\\" if "\\" in was else "/"
    for path in (*weights, folder / "runs" / "gone" / "since.pth"):
        parts = path.relative_to(folder).parts
        summary = json.dumps({"encoder_weights": separator.join((was, *parts))})
        with Project.open(folder) as project:
            project.add_bank(b"?", summary, SCHEMA.fingerprint, created=NOW)
    put(folder / "runs" / "gone" / "another.pth")
    left = left_beside(*weights)
    repaired = places(checked(folder, repair=True), Outcome.REPAIRED)
    assert repaired == {"truth/weights/left over.png", "runs/gone", "cache"}
    assert all(path.is_file() for path in weights)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize(
    "record",
    ["{", r'"\ud800/x"', r'["/\ud800"]', r'"/\u0000"', "[" * 2000, f'"/{"truth/" * 100_000}"'],
)
def test_what_is_recorded_of_a_bank_and_cannot_be_read_names_nothing(
    folder: Path, record: str
) -> None:
    with Project.open(folder) as project:
        project.add_bank(b"?", record, SCHEMA.fingerprint, created=NOW)
    put(folder / "truth" / "notes")
    assert places(checked(folder, repair=True), Outcome.REPAIRED) == {"truth/notes"}


def test_a_folder_of_a_round_goes_as_a_whole_or_not_at_all(folder: Path) -> None:
    with Project.open(folder) as project:
        bank = project.add_bank(b"", "{}", SCHEMA.fingerprint, created=NOW)
        named = project.new_round(bank.version, "{}", created=NOW).folder
    (named / "notes").mkdir(parents=True)
    (folder / "runs" / "0009" / "notes").mkdir(parents=True)
    checked(folder, repair=True)
    assert (named / "notes").is_dir()
    assert not (folder / "runs" / "0009").exists()


def link(place: Path, target: str | Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    ("links", "stays"),
    [
        ({"tiles": "project/truth/mine/tiles"}, ()),
        ({"tiles": "project/runs/../truth/mine/tiles"}, ()),
        (
            {"tiles": "project/cache/a/b/again", "project/cache/a/b/again": "../../../my",
             "project/my": "truth/mine/tiles"},
            ("cache/a/b/again", "my"),
        ),
    ],
)  # fmt: skip
def test_an_image_stays_whose_folder_has_become_a_link_into_the_project(
    folder: Path, links: dict[str, str], stays: tuple[str, ...]
) -> None:
    for name in ("runs", "banks"):
        (folder / name).mkdir()
    mine = folder / "truth" / "mine"
    mine.mkdir(parents=True)
    (folder.parent / "tiles").rename(mine / "tiles")
    for place, target in links.items():
        link(folder.parent / place, target)
    put(mine / "notes", folder / "truth" / "notes")
    image = folder.parent / "tiles" / "0.png"
    assert image.is_file()
    assert places(checked(folder), Outcome.KEPT) == {"truth/mine/notes", "truth/notes"}
    assert checked(folder, repair=True).problems == []
    assert image.is_file()
    assert all((folder / name).is_symlink() for name in stays)
    assert not (mine / "notes").exists()


def test_a_link_in_the_project_stays_by_which_an_image_is_found(folder: Path) -> None:
    tiles = folder.parent / "tiles"
    (tiles / "0.png").rename(tiles / "real.png")
    link(folder / "truth" / "found.png", tiles / "real.png")
    link(tiles / "0.png", folder / "truth" / "found.png")
    assert checked(folder, repair=True).findings == []
    assert (tiles / "0.png").is_file()


def test_an_image_stays_that_the_disk_shows_at_another_place_too(
    folder: Path, bind: Callable[[Path, Path], None]
) -> None:
    inside = folder / "truth" / "mine" / "tiles"
    shutil.copytree(folder.parent / "tiles", inside)
    bind(inside, folder.parent / "tiles")
    put(folder / "truth" / "mine" / "notes")
    assert checked(folder, repair=True).problems == []
    assert [path.name for path in inside.iterdir()] == ["0.png"]
    assert not (folder / "truth" / "mine" / "notes").exists()


def test_links_in_a_circle_are_followed_to_no_end(folder: Path) -> None:
    shutil.rmtree(folder.parent / "tiles")
    link(folder.parent / "tiles", "others")
    link(folder.parent / "others", "tiles")
    put(folder / "truth" / "notes")
    assert checked(folder, repair=True).problems == []
    assert not (folder / "truth" / "notes").exists()


def test_what_can_be_moved_and_not_removed_is_named_where_it_lies_until_it_can(
    folder: Path, as_unprivileged: RunCode
) -> None:
    closed = folder / "runs" / "0009" / "sub"
    others = [folder / "banks" / "0007.safetensors", folder / "cache" / "features" / "block"]
    put(closed / "x", folder / "runs" / "0009" / "notes", *others)
    closed.chmod(0o555)
    repaired = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    (aside,) = folder.glob(".removed-*")
    where = f"{aside.name}/sub/x"
    assert repaired[0].startswith(
        f"problem: {where}: it is left of runs/0009, and cannot be removed (no permission). "
    )
    assert [line.split(":")[1].strip() for line in repaired[1:]] == [
        "banks/0007.safetensors", "cache"
    ]  # fmt: skip
    assert not any(path.exists() for path in others)
    assert [path.name for path in aside.rglob("*")] == ["sub", "x"]
    for _ in range(2):
        (said,) = as_unprivileged(CHECK, folder).stdout.splitlines()
        assert said.startswith(f"problem: {where}: it is left of {aside.name}, and cannot be")
        assert list(folder.glob(".removed-*")) == [aside]
    (aside / "sub").chmod(0o755)
    assert as_unprivileged(CHECK, folder, "repair").stdout.startswith(f"repaired: {aside.name}: ")
    assert checked(folder).findings == []


def test_what_is_half_written_in_a_folder_that_goes_is_told_of_once(
    folder: Path, as_unprivileged: RunCode
) -> None:
    closed = folder / "runs" / "0009" / "sub"
    put(closed / ".last.safetensors.abcdefgh", folder / "runs" / "0008" / ".x.json.abcdefgh")
    closed.chmod(0o555)
    problem, repaired = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    (aside,) = folder.glob(".removed-*")
    assert problem.startswith(f"problem: {aside.name}/sub/.last.safetensors.abcdefgh: it is left")
    assert repaired.startswith("repaired: runs/0008: ")
    (aside / "sub").chmod(0o755)


def test_what_is_half_written_goes_though_its_folder_cannot_be_moved(
    folder: Path, as_unprivileged: RunCode
) -> None:
    half = folder / "runs" / "0009" / ".last.safetensors.abcdefgh"
    put(half)
    (folder / "runs").chmod(0o555)
    lines = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    (folder / "runs").chmod(0o755)
    assert [line.split(": ")[:2] for line in lines] == [
        ["problem", "runs/0009"], ["repaired", "runs/0009/.last.safetensors.abcdefgh"]
    ]  # fmt: skip
    assert not half.exists()


def test_what_cannot_be_moved_either_stays_and_is_named_and_the_rest_goes(
    folder: Path, as_unprivileged: RunCode
) -> None:
    stay = [folder / "banks" / ".0001.safetensors.abcdefgh", folder / "banks" / "0008.safetensors"]
    go = [folder / "runs" / "0009" / "notes", folder / "truth" / "x.png"]
    put(*stay, *go)
    (folder / "banks").chmod(0o555)
    lines = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    problems = [line for line in lines if line.startswith("problem")]
    assert [line.split(":")[1].strip() for line in problems] == [
        "banks/.0001.safetensors.abcdefgh", "banks/0008.safetensors"
    ]  # fmt: skip
    assert all("cannot be removed (no permission). See that its folder" in p for p in problems)
    assert [path.exists() for path in (*stay, *go)] == [True, True, False, False]
    assert list(folder.glob(".removed-*")) == []
    (folder / "banks").chmod(0o755)
    assert checked(folder, repair=True).problems == []
    assert checked(folder).findings == []


@pytest.mark.parametrize("name", ["truth", "runs", "cache"])
def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_looked_at(
    folder: Path, as_unprivileged: RunCode, name: str
) -> None:
    put(folder / name / "x")
    (folder / name).chmod(0o000)
    (line,) = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    assert line.startswith(f"problem: {folder / name}: no permission. ")
    (folder / name).chmod(0o755)
    assert checked(folder, repair=True).problems == []


def test_what_is_left_over_on_another_disk_goes_as_far_as_it_can(
    folder: Path, bind: Callable[[Path, Path], None], as_unprivileged: RunCode
) -> None:
    disk = folder.parent / "disk"
    closed = folder / "runs" / "0009" / "sub"
    put(disk / "0004" / "notes", disk / "0009" / "sub" / "x", disk / "0009" / "y")
    (folder / "runs").mkdir()
    bind(disk, folder / "runs")
    closed.chmod(0o555)
    lines = as_unprivileged(CHECK, folder, "repair").stdout.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["problem", "runs/0009/sub/x"], ["repaired", "runs/0004"]
    ]  # fmt: skip
    assert sorted(path.name for path in disk.rglob("*")) == ["0009", "sub", "x"]
    closed.chmod(0o755)
    assert places(checked(folder, repair=True), Outcome.REPAIRED) == {"runs/0009"}
    assert checked(folder).findings == []


def test_what_a_disk_lists_and_cannot_find_is_named_and_not_tried_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "runs" / "0004" / "notes", folder / "runs" / "0005" / "other")
    unlink = os.unlink

    def lacking(path: str | Path, **options: int) -> None:
        if Path(path).name == "notes":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", lacking)
    report = checked(folder, repair=True)
    (problem,) = report.problems
    assert "it is left of runs/0004, and cannot be removed" in problem.what
    assert places(report, Outcome.REPAIRED) == {"runs/0005"}


def test_a_cache_that_is_a_file_goes_with_a_repair(folder: Path) -> None:
    put(folder / "cache", folder / "truth" / "notes")
    report = checked(folder, repair=True)
    assert report.problems == []
    assert places(report, Outcome.REPAIRED) == {"cache", "truth/notes"}
    assert report.masks == 1
    assert not (folder / "cache").exists()


def test_an_image_that_lies_where_the_cache_belongs_stays(folder: Path) -> None:
    add_image(folder, folder / "cache")
    assert checked(folder, repair=True).findings == []
    assert (folder / "cache").is_file()
