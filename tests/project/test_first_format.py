"""A project as the program's first version has left it opens, whole, and is worked on.

``first_format/`` was written by that version itself, of commit b1c562e: three images of two sizes,
labels, two versions of the classes, a bank, a round that has failed, and masks.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_protoseg.bank.codec import read_bank
from napari_protoseg.errors import ProjectError
from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import Project, ReviewStatus, RoundStatus, Split
from napari_protoseg.project.migrations import MIGRATIONS
from napari_protoseg.project.times import found_time
from napari_protoseg.review.journal import Journal, recover

KEPT = Path(__file__).with_name("first_format")
WRITTEN = found_time("2026-11-22T21:44:00+00:00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "kept")) / "project"


def version(folder: Path) -> int:
    return int.from_bytes((folder / "project.db").read_bytes()[60:64], "big")


def stripes(height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask that the first version has stored of every image."""
    return (np.add.outer(np.arange(height), np.arange(width)) // 7 % 4).astype(np.uint8)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_opens_and_is_brought_up_to_date(folder: Path) -> None:
    assert version(folder) == 1
    with Project.open(folder) as project:
        assert recover(project).recovered == ()
        assert finish(check_project(project)).findings == []
    assert version(folder) == len(MIGRATIONS)


def test_its_images_labels_and_classes_are_there(folder: Path) -> None:
    with Project.open(folder) as project:
        images = project.images()
        assert project.schema.names == ("tumour", "stroma", "necrosis")
        assert [earlier.names for earlier in project.earlier_schemas()] == [("tumour", "stroma")]
    assert [image.path.name for image in images] == ["case0_0.png", "case0_1.png", "case1_2.png"]
    assert [image.label for image in images] == [(1, 0, -1), (0, 1, 0), (1, 1, 1)]
    assert [image.case for image in images] == ["case0", "case0", None]
    assert [image.split for image in images] == [Split.TRAIN, Split.TRAIN, Split.VALIDATION]
    assert [image.micrometres_per_pixel for image in images] == [0.5, None, 0.25]
    assert images[2].mask_path == images[2].path.with_name("truth_2.png")


def test_its_masks_are_there_and_can_be_drawn_on(folder: Path) -> None:
    with Project.open(folder) as project:
        for image in project.images():
            stored = project.read_mask(image.known_id)
            assert stored is not None
            assert np.array_equal(stored.mask, stripes(image.height, image.width))
            assert stored.confidence[0, 0] == 0 < stored.confidence[-1, -1]
            assert not stored.is_protected.any()
            assert (stored.source.round_id, stored.source.created) == (1, WRITTEN)
        project.introduce("Ada")
        edited, _ = Journal(project, 1).open()
        drawn = edited.mask.copy()
        drawn[:5, :5] = 3
        step = edited.stroke(drawn, author="Ada", now=WRITTEN)
        assert step is not None
        Journal(project, 1).append([step])
        project.set_review_status(2, ReviewStatus.ACCEPTED)
    with Project.open(folder) as project:
        recover(project)
        edited, _ = Journal(project, 1).open()
        assert np.array_equal(edited.mask, drawn)
        assert edited.is_protected[:5, :5].sum() == np.sum(drawn != stripes(*drawn.shape))
        assert edited.undo(now=WRITTEN) is not None
        assert np.array_equal(edited.mask, stripes(*drawn.shape))
        assert project.review_states() == {2: ReviewStatus.ACCEPTED}


def test_its_bank_and_its_round_are_there(folder: Path) -> None:
    with Project.open(folder) as project:
        (row,) = project.banks()
        (trained,) = project.rounds()
        assert project.schema.fingerprint == row.fingerprint
        project.set_muted_prototypes(row.version, {2})
    bank = read_bank(row.path)
    assert bank.centres.shape == (3, 8)
    assert [prototype.class_id for prototype in bank.prototypes] == [1, 2, 3]
    assert (trained.id, trained.bank_version, trained.status) == (1, 1, RoundStatus.FAILED)


def test_one_of_a_later_version_is_refused_untouched(folder: Path) -> None:
    with sqlite3.connect(folder / "project.db") as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = files(folder.parent)
    with pytest.raises(ProjectError, match="newer than this program"):
        Project.open(folder)
    assert files(folder.parent) == before
