"""Images are found again by what they are, wherever their folder has gone."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import Stopped
from napari_protoseg.events import Request, finish
from napari_protoseg.jobs.relocate import RelocatedImages, missing_images, relocate_images
from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])


def tile(path: Path, seed: int, size: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        for number in range(4):
            path = tile(tmp_path / "tiles" / f"{number}.png", number)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            image = ImageRecord(
                path=path, content_hash=content, width=32, height=32, label=(1, number % 2)
            )
            project.add_images([image])
    return tmp_path / "project"


def relocated(folder: Path, images: Path) -> RelocatedImages:
    with Project.open(folder) as project:
        return finish(relocate_images(project, images))


def everything_but_paths(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "project.db")
    connection.execute("UPDATE images SET path = id")
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_a_folder_that_moved_is_found_and_nothing_else_changes(
    folder: Path, tmp_path: Path
) -> None:
    before = everything_but_paths_of_copy(folder)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tiles").rename(tmp_path / "elsewhere" / "renamed")
    assert relocated(folder, tmp_path / "elsewhere") == RelocatedImages(4, ())
    with Project.open(folder) as project:
        assert missing_images(project) == []
        assert project.image(1).path == tmp_path / "elsewhere" / "renamed" / "0.png"
    assert everything_but_paths(folder) == before


def everything_but_paths_of_copy(folder: Path) -> list[str]:
    copy = folder.parent / "copy"
    copy.mkdir()
    (copy / "project.db").write_bytes((folder / "project.db").read_bytes())
    lines = everything_but_paths(copy)
    (copy / "project.db").unlink()
    copy.rmdir()
    return lines


def test_content_counts_and_not_the_name(folder: Path, tmp_path: Path) -> None:
    tiles, there = tmp_path / "tiles", tmp_path / "there"
    there.mkdir()
    (tiles / "0.png").rename(there / "1.png")  # two have changed names
    (tiles / "1.png").rename(there / "0.png")
    tile(there / "2.png", seed=99)  # named as one, and another
    (there / "3.png").write_bytes(b"no image")
    (tiles / "2.png").unlink()
    assert relocated(folder, there) == RelocatedImages(2, (tiles / "2.png",))
    with Project.open(folder) as project:
        assert project.image(1).path == there / "1.png"
        assert project.image(2).path == there / "0.png"
        assert project.image(3).path == tiles / "2.png"
        assert project.image(4).path == tiles / "3.png"


def test_a_file_that_stands_for_another_image_is_left_to_it(folder: Path, tmp_path: Path) -> None:
    tiles = tmp_path / "tiles"
    (tiles / "1.png").write_bytes((tiles / "0.png").read_bytes())
    (tiles / "0.png").unlink()
    assert relocated(folder, tiles) == RelocatedImages(0, (tiles / "0.png",))


def test_a_stopped_search_changes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiles").rename(tmp_path / "moved")
    with Project.open(folder) as project:
        job = relocate_images(project, tmp_path / "moved")
        next(job)
        with pytest.raises(Stopped):
            job.send(Request.STOP)
        assert len(missing_images(project)) == 4
