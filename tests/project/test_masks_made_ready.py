"""What others do while a mask is made ready to be stored is neither lost nor overlooked."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zarr.abc.store import RangeByteRequest

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project, array_store
from napari_protoseg.project import arrays as arrays_module
from napari_protoseg.project.array_store import FileStore
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.database import Database
from napari_protoseg.project.mask_changes import NewMask
from napari_protoseg.project.records import FreshConfidence, Origin, StoredMask
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "fat"])
SIZE = 600  # large enough for a shard of its own
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)


def made(folder: Path, count: int, size: int) -> Project:
    """Make a project with images of one size, and a person."""
    project = Project.create(folder, SCHEMA, created=NOW)
    project.add_images(
        ImageRecord(
            path=folder.parent / f"{number}.png",
            content_hash=str(number),
            width=size,
            height=size,
            label=(1, 1, 1),
        )
        for number in range(count)
    )
    project.introduce("Ada")
    return project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "project"
    with made(folder, 1, SIZE) as project:
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


FRESH = FreshConfidence(whole(1, 0.75).confidence, SOURCE)


def enter(project: Project) -> tuple[Journal, EditedMask]:
    """Let the prediction that `FRESH` belongs to enter as a step, and have it recorded."""
    journal = Journal(project, 1)
    edited, _ = journal.open()
    step = edited.enter_prediction(whole(1, 0.75), SOURCE, now=NOW)
    assert step is not None
    journal.append([step])
    return journal, edited


def undo(project: Project) -> None:
    """Undo what was done last."""
    journal = Journal(project, 1)
    edited, _ = journal.open()
    step = edited.undo(now=NOW)
    assert step is not None
    journal.append([step])


def undone(project: Project) -> np.ndarray:
    """Undo what was done last; return the first pixels of the mask."""
    undo(project)
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


@pytest.mark.parametrize("is_stored_between", [True, False])
def test_of_pixels_that_are_given_back_nothing_is_known(
    project: Project, is_stored_between: bool
) -> None:
    journal, edited = enter(project)
    fresh: FreshConfidence | None = FRESH
    if is_stored_between:
        project.fold_journal(1, fresh)
        fresh = None
    drawn = edited.mask.copy()
    drawn[0, :2] = 2
    step = edited.stroke(drawn, author="Ada", now=NOW)
    back = edited.release(drawn == 2, author="Ada", now=NOW)
    assert step is not None
    assert back is not None
    journal.append([step, back])
    project.fold_journal(1, fresh)
    assert stored(project).confidence[0, :3].tolist() == [0, 0, 0.75]


def test_what_is_drawn_and_undone_leaves_the_confidence_of_the_model(project: Project) -> None:
    enter(project)
    dot(project, 0)
    undo(project)
    project.fold_journal(1, FRESH)
    assert stored(project).confidence[0, :2].tolist() == [0.75, 0.75]
    dot(project, 0)
    undo(project)
    project.fold_journal(1)
    assert stored(project).confidence[0, :2].tolist() == [0.75, 0.75]


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
    meanwhile.append(lambda: dot(project, 0))
    project.store_imports({1: whole(1).mask}, person="Bea", now=NOW)
    mask = stored(project)
    assert mask.mask[0, :2].tolist() == [2, 1]
    assert mask.origins[0, :2].tolist() == [Origin.PERSON, Origin.IMPORTED]
    assert undone(project).tolist() == [2, 0, 0, 0]


def test_what_is_undone_while_masks_are_imported_stays_undone(
    project: Project, meanwhile: list[Callable[[], object]]
) -> None:
    dot(project, 0)
    meanwhile.append(lambda: undo(project))
    imported = np.zeros((SIZE, SIZE), np.uint8)
    imported[0, 1] = 1
    project.store_imports({1: imported}, person="Bea", now=NOW)
    mask = stored(project)
    assert mask.mask[0, :3].tolist() == [0, 1, 0]
    assert mask.origins[0, :3].tolist() == [Origin.NONE, Origin.IMPORTED, Origin.NONE]


def test_an_import_leaves_a_mask_the_prediction_that_a_step_has_brought(project: Project) -> None:
    enter(project)
    imported = np.zeros((SIZE, SIZE), np.uint8)
    imported[0, 0] = 2
    project.store_imports({1: imported}, person="Bea", now=NOW)
    assert stored(project).source == SOURCE
    project.fold_journal(1, FRESH)
    assert stored(project).confidence[0, :2].tolist() == [1, 0.75]


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


SMALL = 40  # of which many masks share a shard


class Between:
    """Lets something happen once, between the two looks that zarr takes at a shard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_begun, self.is_done = threading.Event(), threading.Event()
        self.armed = False
        get = FileStore.get

        async def late(store: FileStore, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if self.armed and type(store) is FileStore and isinstance(byte_range, RangeByteRequest):
                self.armed = False
                self.is_begun.set()
                while not self.is_done.is_set():
                    await asyncio.sleep(0.01)
            return await get(store, key, prototype, byte_range)

        monkeypatch.setattr(FileStore, "get", late)

    @contextmanager
    def happens(self, action: Callable[[], object]) -> Iterator[None]:
        def act() -> None:
            assert self.is_begun.wait(60)
            try:
                action()
            finally:
                self.is_done.set()

        thread = threading.Thread(target=act)
        thread.start()
        self.armed = True
        yield
        thread.join(60)
        assert not self.armed


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Project]:
    """Two images of which one mask stands before the other in their shard, and has a history."""
    with made(tmp_path / "pair", 2, SMALL) as project:
        for image_id in (2, 1):
            project.write_mask(noisy(image_id, 0), SOURCE)
        dot(project, 0)
        undone(project)
        project.fold_journal(1)
        yield project


def noisy(image_id: int, seed: int) -> PredictedMask:
    """Return a mask that takes more or less room the other way round with each seed."""
    random = np.random.default_rng(seed)
    shape = (SMALL, SMALL)
    mask = random.integers(1, 4, shape, dtype=np.uint8) if seed % 2 == 0 else np.ones(shape)
    mask[0, :4] = 1
    return PredictedMask(image_id, mask.astype(np.uint8), np.full(shape, 0.5, np.float16))


@pytest.mark.parametrize("work", ["read", "open", "fold", "predict"])
def test_a_mask_is_not_taken_for_damaged_while_another_of_its_shard_is_written(
    pair: Project, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    between = Between(monkeypatch)
    if work == "fold":
        dot(pair, 1)
    known = pair.read_mask(1)
    assert known is not None
    with between.happens(lambda: [pair.write_mask(noisy(2, seed), SOURCE) for seed in (1, 3)]):
        match work:
            case "read":
                found = pair.read_mask(1)
                assert found is not None
                assert np.array_equal(found.mask, known.mask)
            case "open":
                assert pair.open_journal(1).stored is not None
            case "fold":
                assert pair.fold_journal(1) == 1
            case "predict":
                pair.write_mask(noisy(1, 5), SOURCE)
    assert len(pair.open_journal(1).steps) >= 2, "what can be undone is still there"
    assert pair.read_mask(1) is not None


def test_a_project_that_is_moved_away_meanwhile_is_not_made_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.write_mask(whole(1), SOURCE)
    away, of_model = tmp_path / "away", NewMask.of_model.__func__

    def late(cls: type[NewMask], *given: Any, **named: Any) -> NewMask:
        new = of_model(cls, *given, **named)
        project.folder.rename(away)
        return new

    with monkeypatch.context() as patch:
        patch.setattr(NewMask, "of_model", classmethod(late))
        with pytest.raises(StorageError, match="no longer here"):
            project.write_mask(whole(2), SOURCE)
    assert not project.folder.exists()
    away.rename(project.folder)
    assert stored(project).mask[0, 0] == 1


def test_of_many_masks_those_alone_are_made_again_that_others_have_changed(
    pair: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    of_model = NewMask.of_model.__func__

    def counted(cls: type[NewMask], found: Any, *given: Any, **named: Any) -> NewMask:
        made.append(found.image_id)
        if len(made) == 2:
            dot(pair, 1)
        return of_model(cls, found, *given, **named)

    monkeypatch.setattr(NewMask, "of_model", classmethod(counted))
    pair.write_masks([noisy(1, 5), noisy(2, 5)], SOURCE)
    assert made == [1, 2, 1]
    assert stored(pair).mask[0, :3].tolist() == [1, 2, 1]


def test_staged_masks_are_put_in_place_beside_one_that_has_changed_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(tmp_path / "many", 3, SIZE) as project:
        of_model, times, placed = NewMask.of_model.__func__, iter(range(2)), []

        def counted(cls: type[NewMask], found: Any, *given: Any, **named: Any) -> NewMask:
            new = of_model(cls, found, *given, **named)
            if found.image_id == 1 and (column := next(times, None)) is not None:
                dot(project, column)
            return new

        place = arrays_module.take_place
        monkeypatch.setattr(NewMask, "of_model", classmethod(counted))
        monkeypatch.setattr(
            arrays_module, "take_place", lambda *files: (placed.append(files), place(*files))
        )
        masks = [replace(whole(1), image_id=image_id) for image_id in (1, 2, 3)]
        project.write_masks(masks, SOURCE)
        assert len(placed) == 6, "of two masks, each with three parts"
        for image_id in (2, 3):
            found = project.read_mask(image_id)
            assert found is not None
            assert found.mask.min() == 1
        assert stored(project).mask[0, :3].tolist() == [2, 2, 1]


def test_no_write_comes_after_one_that_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written, is_over = array_store.write_atomically, [], threading.Event()

    def failing(path: Path, content: bytes) -> None:
        written.append(is_over.is_set())
        time.sleep(0.05)
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "no space", str(path))
        write(path, content)

    entry = MaskArrays(whole(1).mask, whole(1).confidence, whole(1).mask)
    arrays = ArrayFolder(tmp_path / "arrays.zarr")
    rows = range(16)  # more than zarr begins at once
    arrays.write(rows, [entry] * len(rows))
    monkeypatch.setattr(array_store, "write_atomically", failing)
    with pytest.raises(StorageError, match="no space"):
        arrays.write(rows, [entry] * len(rows))
    is_over.set()
    time.sleep(0.5)
    assert written
    assert not any(written), "something came after the error"
