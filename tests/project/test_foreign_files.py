"""What stands in a project under the name of one of its files is its own, or is not opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_protoseg.cli.commands import application
from napari_protoseg.errors import ProjectError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
MASK = PredictedMask(1, np.ones((9, 9), np.uint8), np.ones((9, 9), np.float16))
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    schema = ClassSchema.from_names(["tumour", "stroma"])
    with Project.create(folder, schema, created=NOW) as project:
        project.add_images(
            [
                ImageRecord(
                    path=tmp_path / "a.png", content_hash="a", width=9, height=9, label=(1, 0)
                )
            ]
        )
        project.write_mask(MASK, SOURCE)
    return folder


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_two_folders_do_not_write_to_one_database(folder: Path, tmp_path: Path, link: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Project.open(folder) as project:
        getattr(other / "project.db", link)(folder / "project.db")
        with pytest.raises(ProjectError, match="link") as refusal:
            Project.open(other, take_over=True)
        assert str(other / "project.db") in str(refusal.value)
        project.set_recipe_json("{}")
    assert [path.name for path in other.iterdir()] == ["project.db"]
    for command in (["check", str(other)], ["backup", str(other), str(tmp_path / "copy")]):
        result = CliRunner().invoke(application, command)
        assert result.exit_code != 0
        assert "project.db" in result.output.replace("\n", "")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("end", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_file_beside_the_database_that_is_anothers_is_not_touched(
    folder: Path, tmp_path: Path, end: str, link: str
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"of somebody else")
    getattr(folder / f"project.db{end}", link)(foreign)
    with pytest.raises(ProjectError, match=f"project.db{end}: .*link"):
        Project.open(folder)
    assert foreign.read_bytes() == b"of somebody else"


def test_a_copy_by_hard_links_opens_once_it_is_a_real_one(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "linked", copy_function=os.link)
    for place in (folder, tmp_path / "linked"):
        with pytest.raises(ProjectError, match="Copy the folder without hard links"):
            Project.open(place)
    shutil.copytree(tmp_path / "linked", tmp_path / "copied")
    with Project.open(tmp_path / "copied") as project:
        assert project.read_mask(1) is not None


WITH_PIPES = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from napari_protoseg.errors import ProjectError
from napari_protoseg.project import MaskSource, PredictedMask, Project

folder = Path(sys.argv[1])
mask = PredictedMask(1, np.ones((9, 9), np.uint8), np.ones((9, 9), np.float16))
source = MaskSource(
    round_id=None, label_condition="given", recipe_json="{}", created=datetime.now(UTC)
)

def say(place, work):
    try:
        work()
    except ProjectError as error:
        print(place, error, flush=True)

def use():
    with Project.open(folder) as project:
        say(place, lambda: project.read_mask(1))
        say(place, lambda: project.write_mask(mask, source))

for place in sys.argv[2:]:
    former = folder / place
    if former.exists():
        former = former.rename(folder.parent / "former")
    os.mkfifo(folder / place)
    say(place, use)
    (folder / place).unlink()
    if former.exists():
        former.rename(folder / place)
"""


def told_with_pipes(folder: Path, *places: str) -> list[str]:
    """Use a project in a process of its own with a named pipe in each place; return what it says.

    Whoever waits for a named pipe waits for ever.
    """
    child = subprocess.run(
        [sys.executable, "-c", WITH_PIPES, str(folder), *places],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return child.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_beside_the_database_is_not_waited_for(folder: Path) -> None:
    places = [f"project.db{end}" for end in ("-journal", "-wal", "-shm")]
    told = told_with_pipes(folder, *places)
    assert [line.split(". ")[0] for line in told] == [
        f"{place} {folder / place}: not a file, and a part of the database belongs there"
        for place in places
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_among_the_arrays_is_not_waited_for(folder: Path) -> None:
    both = "arrays.zarr/masks/9x9/zarr.json"
    read = "arrays.zarr/origins/9x9/c/0/0/0"  # a mask can be written beside it
    written = "arrays.zarr/zarr.json"  # it is not needed to read
    told = told_with_pipes(folder, both, read, written)
    assert [line.split()[0] for line in told] == [both, both, read, written]
    for line in told:
        assert f"{folder / line.split()[0]} is not a file" in line
