"""Files of a project take their places under its lock: none of a program that has lost it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from napari_protoseg.errors import ProjectLockedError, StorageError
from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])

TAKE_OVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    with project.replacing(project.folder / "runs" / "0001" / "last") as temporary:
        temporary.write_bytes(b"theirs")
    project.add_bank(b"theirs", "{}", "f", created=datetime.now(UTC))
    project.import_truth([(1, b"theirs")])
"""

TIDY_UP = """
import sys
from pathlib import Path
from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    finish(check_project(project))
"""


def another(folder: Path, script: str) -> None:
    """Let another process take the project over, do something, and close it."""
    command = [sys.executable, "-c", script, str(folder)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        image = tmp_path / "image.png"
        project.add_images(
            [ImageRecord(path=image, content_hash="a", width=9, height=9, label=(1, 0))]
        )
    return tmp_path / "project"


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in the folders of a project, and what is half-written there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("runs", "banks", "truth")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def test_a_file_is_replaced_as_a_whole(folder: Path) -> None:
    with Project.open(folder) as project:
        for content in (b"first", b"second"):
            with project.replacing(folder / "runs" / "0001" / "last") as temporary:
                temporary.write_bytes(content)
            assert contents(folder) == {"runs/0001/last": content}


def test_a_file_that_was_ready_when_another_took_over_does_not_take_its_place(
    folder: Path,
) -> None:
    with Project.open(folder) as project:
        with (
            pytest.raises(ProjectLockedError),
            project.replacing(folder / "runs" / "0001" / "last") as temporary,
        ):
            temporary.write_bytes(b"mine")
            another(folder, TAKE_OVER)
        theirs = contents(folder)
        assert set(theirs.values()) == {b"theirs"}
        assert len(theirs) == 3
        with (
            pytest.raises(ProjectLockedError),
            project.replacing(folder / "runs" / "0001" / "last"),
        ):
            pytest.fail("nothing is written any more")


def test_true_masks_that_are_written_while_another_takes_over_are_gone(folder: Path) -> None:
    def masks():
        yield 1, b"mine"
        another(folder, TAKE_OVER)

    with Project.open(folder) as project:
        with pytest.raises(ProjectLockedError):
            project.import_truth(masks())
        theirs = contents(folder)
        assert set(theirs.values()) == {b"theirs"}
        assert project.image(1).mask_path in {folder / name for name in theirs}


def test_who_has_the_project_is_said_also_where_the_other_has_removed_what_was_half_written(
    folder: Path,
) -> None:
    with (
        Project.open(folder) as project,
        pytest.raises(ProjectLockedError),
        project.replacing(folder / "runs" / "0001" / "last") as temporary,
    ):
        temporary.write_bytes(b"mine")
        another(folder, TIDY_UP)
        assert not temporary.exists()


def test_a_disk_that_cannot_be_written_is_named_while_nobody_else_has_the_project(
    folder: Path,
) -> None:
    (folder / "runs").write_bytes(b"a file where a folder belongs")
    with (
        Project.open(folder) as project,
        pytest.raises(StorageError, match="a file"),
        project.replacing(folder / "runs" / "0001" / "last"),
    ):
        pytest.fail("there is no place for it")
