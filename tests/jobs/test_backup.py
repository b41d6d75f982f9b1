"""A copy of a project that is consistent, whoever writes meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ProjectError, Stopped, StorageError
from napari_protoseg.events import Request, finish
from napari_protoseg.jobs.backup import back_up
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.snapshot import move_paths
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
SIZES = (200, 200, 200, 600)

# Each pass of the loop gives every image a mask of one class, all of them in one transaction.
WRITE_MASKS = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from napari_protoseg.project import MaskSource, PredictedMask, Project

now = datetime(2026, 3, 1, tzinfo=UTC)
project = Project.open(Path(sys.argv[1]))
images = project.images()
for number in itertools.count():
    masks = [
        PredictedMask(
            image.known_id,
            np.full((image.height, image.width), number % 3, np.uint8),
            np.ones((image.height, image.width), np.float16),
        )
        for image in images
    ]
    source = MaskSource(
        round_id=None, label_condition="given", recipe_json=str(number), created=now
    )
    project.write_masks(masks, source)
    print(number, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    records = []
    (tmp_path / "here" / "tiles").mkdir(parents=True)
    for number, size in enumerate(SIZES):
        path = tmp_path / "here" / "tiles" / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        records.append(
            ImageRecord(path=path, content_hash=content, width=size, height=size, label=(1, 0))
        )
    with Project.create(tmp_path / "here" / "project", SCHEMA, created=NOW) as project:
        project.add_images(records)
        for image in project.images():
            mask = random.integers(0, 3, (image.height, image.width), dtype=np.uint8)
            confidence = np.ones(mask.shape, np.float16)
            project.write_mask(PredictedMask(image.known_id, mask, confidence), SOURCE)
        truth = project.folder / "truth" / "000001.png"
        truth.parent.mkdir()
        Image.new("L", (200, 200)).save(truth)
        project.set_truth({1: truth})
    (tmp_path / "here" / "project" / "cache" / "features").mkdir(parents=True)
    return tmp_path / "here" / "project"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_taken_while_another_process_writes_is_of_one_moment(
    folder: Path, tmp_path: Path
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_MASKS, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert writer.stdout is not None
        first = int(writer.stdout.readline())
        for copy in range(3):
            with Project.open(folder) as project:
                assert project.is_read_only
                made = finish(back_up(project, tmp_path / f"copy-{copy}"))
            assert made.report.findings == []
            assert made.report.masks == len(SIZES)
        assert writer.poll() is None
        writer.kill()
        rest = writer.stdout.read()
    finally:
        writer.kill()
        writer.wait()
    assert rest  # it has gone on writing meanwhile
    for copy in range(3):
        with Project.open(tmp_path / f"copy-{copy}") as project:
            assert not project.is_read_only
            passes = set()
            for image in project.images():
                stored = project.read_mask(image.known_id)
                assert stored is not None
                written = int(stored.source.recipe_json)
                assert written >= first
                assert np.all(stored.mask == written % 3)
                passes.add(written)
            assert len(passes) == 1
            assert finish(check_project(project)).findings == []
            project.write_mask(
                PredictedMask(1, np.ones((200, 200), np.uint8), np.ones((200, 200), np.float16)),
                SOURCE,
            )


def test_a_copy_elsewhere_finds_the_images_and_has_no_cache(folder: Path, tmp_path: Path) -> None:
    with Project.open(folder) as project:
        paths = [image.path for image in project.images()]
        before = names(folder)
        made = finish(back_up(project, tmp_path / "there" / "deep" / "copy"))
        assert names(folder) == before
    assert names(tmp_path / "there" / "deep") == ["copy"]
    assert names(made.folder) == ["arrays.zarr", "project.db", "truth"]
    with Project.open(made.folder) as copy:
        assert [image.path for image in copy.images()] == paths
        assert copy.image(1).mask_path == made.folder / "truth" / "000001.png"
        assert finish(check_project(copy)).findings == []
    if os.name != "nt":
        assert made.folder.stat().st_mode == (tmp_path / "there").stat().st_mode


def test_a_disk_that_knows_no_second_names_is_backed_up_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no second names")

    monkeypatch.setattr(os, "link", refused)
    with Project.open(folder) as project:
        made = finish(back_up(project, tmp_path / "copy"))
    assert (made.report.masks, made.report.findings) == (len(SIZES), [])


def test_nothing_is_replaced_and_nothing_goes_into_the_project(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    with Project.open(folder) as project:
        for place in (tmp_path / "copy", folder, folder / "copy"):
            with pytest.raises(ProjectError, match="Choose a folder"):
                finish(back_up(project, place))
    assert names(tmp_path / "copy") == []
    assert not (folder / "copy").exists()


def test_a_stopped_or_failed_backup_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with Project.open(folder) as project:
        before = names(folder)
        for stop_at in range(1, 8):
            job = back_up(project, tmp_path / "copy")
            for _ in range(stop_at):
                next(job)
            with pytest.raises(Stopped):
                while True:
                    job.send(Request.STOP)
            closed = back_up(project, tmp_path / "copy")
            for _ in range(stop_at):
                next(closed)
            closed.close()
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError):
            finish(back_up(project, tmp_path / "file" / "copy"))
        assert names(folder) == before
    assert names(tmp_path) == ["file", "here"]


def test_a_disk_that_is_full_once_all_files_are_copied_is_named(
    folder: Path, tiny_tmpfs: Path
) -> None:
    copied = tiny_tmpfs / "project.db"
    shutil.copyfile(folder / "project.db", copied)
    with (tiny_tmpfs / "filling").open("wb", buffering=0) as file:
        while shutil.disk_usage(tiny_tmpfs).free:
            file.write(bytes(4096))
    with pytest.raises(StorageError, match="full"):
        move_paths(copied, folder, tiny_tmpfs / "elsewhere")


def test_what_is_damaged_is_copied_and_said(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "arrays.zarr" / "masks" / "600x600" / "c")
    with Project.open(folder) as project:
        made = finish(back_up(project, tmp_path / "copy"))
    (problem,) = made.report.problems
    assert "image 4" in problem.where
    assert made.folder.is_dir()


def test_what_a_killed_backup_has_left_is_removed_and_a_running_one_left_alone(
    folder: Path, tmp_path: Path
) -> None:
    hold = "import sys, time\nfrom pathlib import Path\n" + (
        "from napari_protoseg.project import Project\n"
        "with Project.open(Path(sys.argv[1])) as project, project.staged():\n"
        "    project.close()\n"
        "    print('staged', flush=True)\n"
        "    time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        (stage,) = folder.glob(".backup-*")
        with Project.open(folder) as project:
            assert finish(check_project(project)).findings == []
        assert stage.exists()
    finally:
        child.kill()
        child.communicate()
    with Project.open(folder) as project:
        (finding,) = finish(check_project(project)).findings
    assert finding.where == stage.name
    assert not stage.exists()


@pytest.mark.parametrize("place", ["arrays.zarr/around", "runs/0001/deep"])
def test_a_link_to_a_folder_is_followed_neither_out_nor_round(
    folder: Path, tmp_path: Path, place: str
):
    if os.name == "nt":
        pytest.skip("links take rights of their own on Windows")
    with Project.open(folder) as project:
        link = folder / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(".", target_is_directory=True)
        before = names(folder)
        with pytest.raises(ProjectError, match="a link to a folder") as refused:
            finish(back_up(project, tmp_path / "copy"))
        assert refused.value.where == str(link)
        assert names(folder) == before
    assert not (tmp_path / "copy").exists()
