"""What others do while a mask is made ready to be stored is neither lost nor overlooked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.database import Database
from napari_protoseg.project.records import Correction, Origin, StoredMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "fat"])
SIZE = 600  # large enough for a shard of its own
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "project"
    with Project.create(folder, SCHEMA, created=NOW) as project:
        path = tmp_path / "1.png"
        project.add_images(
            [ImageRecord(path=path, content_hash="1", width=SIZE, height=SIZE, label=(1, 1, 1))]
        )
        project.introduce("Ada")
        yield project
        assert list((folder / "arrays.zarr").glob(".*")) == []


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Is to be filled with what happens while masks are made ready, one thing each time."""
    actions: list[Callable[[], object]] = []
    staging = ArrayFolder.staging

    @contextmanager
    def slowly(arrays: ArrayFolder, entry: MaskArrays) -> Iterator[MaskArrays]:
        with staging(arrays, entry) as ready:
            if actions:
                actions.pop(0)()
            yield ready

    monkeypatch.setattr(ArrayFolder, "staging", slowly)
    return actions


def whole(value: int, confidence: float = 0.5) -> PredictedMask:
    mask = np.full((SIZE, SIZE), value, np.uint8)
    return PredictedMask(1, mask, np.full((SIZE, SIZE), confidence, np.float16))


def dot(project: Project, column: int) -> None:
    """Draw one pixel of the second class, and have it recorded."""
    journal = Journal(project, 1)
    edited, _ = journal.open()
    drawn = edited.mask.copy()
    drawn[0, column] = 2
    step = edited.stroke(drawn, author="Ada", now=NOW)
    assert step is not None
    journal.append([step])


def stored(project: Project) -> StoredMask:
    mask = project.read_mask(1)
    assert mask is not None
    return mask


def undone(project: Project) -> np.ndarray:
    """Undo what was done last; return the first pixels of the mask."""
    journal = Journal(project, 1)
    edited, _ = journal.open()
    step = edited.undo(now=NOW)
    assert step is not None
    journal.append([step])
    return stored(project).mask[0, :4]


@pytest.mark.parametrize("strokes", [1, 2, 3])
def test_strokes_are_kept_by_a_prediction(
    project: Project, meanwhile: list[Callable[[], object]], strokes: int
) -> None:
    meanwhile += [lambda column=column: dot(project, column) for column in range(strokes)]
    project.write_mask(whole(1), SOURCE)
    # Whoever draws without end does not keep it from being stored.
    drawn = min(strokes, 2)
    assert len(meanwhile) == strokes - drawn
    mask = stored(project)
    assert mask.mask[0, :4].tolist() == [2] * drawn + [1] * (4 - drawn)
    assert mask.origins[0, :4].tolist() == [Origin.PERSON] * drawn + [Origin.MODEL] * (4 - drawn)
    assert mask.confidence[0, :4].tolist() == [1] * drawn + [0.5] * (4 - drawn)
    assert project.unfolded_images() == []
    assert undone(project).tolist() == [2] * drawn + [0] * (4 - drawn)


def test_another_prediction_is_what_can_be_undone_to(
    project: Project, meanwhile: list[Callable[[], object]]
) -> None:
    dot(project, 0)
    other = MaskSource(round_id=None, label_condition="given", recipe_json='{"o": 1}', created=NOW)
    meanwhile.append(lambda: project.write_mask(whole(3), other))
    project.write_mask(whole(1), SOURCE)
    assert stored(project).source == SOURCE
    assert undone(project).tolist() == [2, 3, 3, 3]
    assert stored(project).source == other


def test_a_class_that_has_gone_is_refused(
    project: Project, meanwhile: list[Callable[[], object]]
) -> None:
    meanwhile.append(lambda: project.remove_class(3, None, created=NOW))
    with pytest.raises(ProjectError, match="no class ids"):
        project.write_mask(whole(3), SOURCE)
    assert project.read_mask(1) is None


def test_strokes_are_kept_by_an_import(
    project: Project, meanwhile: list[Callable[[], object]]
) -> None:
    every = np.ones((SIZE, SIZE), np.bool_)
    imported = Correction(
        image_id=1, mask=whole(1).mask, is_set=every, base=None, origin=Origin.IMPORTED
    )
    meanwhile.append(lambda: dot(project, 0))
    project.store_corrections((imported,), person="Bea", now=NOW)
    mask = stored(project)
    assert mask.mask[0, :2].tolist() == [2, 1]
    assert mask.origins[0, :2].tolist() == [Origin.PERSON, Origin.IMPORTED]
    assert undone(project).tolist() == [2, 0, 0, 0]


def test_steps_that_others_have_stored_meanwhile_are_not_stored_again(
    project: Project, meanwhile: list[Callable[[], object]]
) -> None:
    dot(project, 0)
    meanwhile.append(lambda: project.write_mask(whole(1), SOURCE))
    assert project.fold_journal(1) == 0
    assert stored(project).source == SOURCE
    assert stored(project).mask[0, :3].tolist() == [2, 1, 1]


def test_a_full_disk_leaves_nothing_and_is_raised(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def full(database: Database) -> Iterator[None]:
        raise StorageError("no space", where="disk", remedy="Make some.")
        yield

    project.write_mask(whole(1), SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "writing", full)
        with pytest.raises(StorageError, match="no space"):
            project.write_mask(whole(2), SOURCE)
    assert stored(project).mask[0, 0] == 1
