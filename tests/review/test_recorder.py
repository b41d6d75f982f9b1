"""Steps are recorded off the thread that makes them; trouble is told, and nothing is dropped."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hung_disk import HungDisk

from napari_protoseg.errors import DamagedError, ProjectError, ProjectLockedError, StorageError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project, arrays
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal, Recovery, recover
from napari_protoseg.review.recorder import Recorder
from napari_protoseg.review.recorder_events import (
    Folded,
    FoldFailed,
    MaskMoved,
    RecorderEvent,
    RecordingFailed,
    RecordingResumed,
    StoringFailed,
    StoringResumed,
)
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)


class Heard:
    """Keeps the events, and waits for one of a kind."""

    def __init__(self) -> None:
        self.events: list[RecorderEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: RecorderEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: type) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(isinstance(event, kind) for event in self.events), 60
            )


def made(folder: Path, size: int = 300) -> Project:
    project = Project.create(folder, SCHEMA, created=NOW)
    project.add_images(
        ImageRecord(
            path=folder / f"{k}.png", content_hash=str(k), width=size, height=size, label=(1, 1)
        )
        for k in range(2)
    )
    project.introduce("Ada")
    return project


def noise(seed: int, size: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (size, size), dtype=np.uint8)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with made(tmp_path / "project") as project:
        yield project


def opened(project: Project) -> EditedMask:
    edited, _ = Journal(project, 1).open()
    return edited


def test_recording_does_not_wait_for_a_busy_project_and_flush_does(project: Project) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)
    other = sqlite3.connect(project.folder / "project.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for seed in range(3):
        step = edited.stroke(noise(seed), author="Ada", now=NOW)
        assert step is not None
        recorder.record(1, step)
    assert len(recorder.unsynced) == 3
    with pytest.raises(TimeoutError, match="3 steps"):
        recorder.flush(timeout_seconds=0.2)
    other.execute("COMMIT")
    other.close()
    recorder.flush()
    assert recorder.unsynced == ()
    recorder.close()
    recorder.close()
    assert np.array_equal(opened(project).mask, noise(2))
    with pytest.raises(RuntimeError, match="ended"):
        recorder.record(1, step)


def test_a_full_disk_is_told_keeps_the_edits_and_recording_goes_on(tiny_tmpfs: Path) -> None:
    heard = Heard()
    project = made(tiny_tmpfs / "project")
    recorder, edited = Recorder(project, heard, retry_seconds=0.05), opened(project)
    first = edited.stroke(noise(0), author="Ada", now=NOW)
    assert first is not None
    recorder.record(1, first)
    recorder.flush()
    ballast = tiny_tmpfs / "ballast"
    space = os.statvfs(tiny_tmpfs)
    ballast.write_bytes(bytes(space.f_bavail * space.f_frsize))
    for seed in range(1, 5):
        step = edited.stroke(noise(seed), author="Ada", now=NOW)
        assert step is not None
        recorder.record(1, step)
    recorder.fold(1)
    heard.wait_for(RecordingFailed)
    failed = heard.events[0]
    assert isinstance(failed, RecordingFailed)
    assert "space" in str(failed.error)
    with pytest.raises(StorageError, match="space"):
        recorder.flush()
    with pytest.raises(StorageError, match="space"):
        recorder.close()
    assert recorder.failure is not None
    assert recorder.unsynced
    assert np.array_equal(edited.mask, noise(4)), "what was drawn is in memory"
    known = opened(project)
    assert len(recorder.unsynced) + len(project.open_journal(1).steps) == 5
    assert any(np.array_equal(known.mask, noise(seed)) for seed in range(4))
    ballast.unlink()
    heard.wait_for(RecordingResumed)
    recorder.close()
    assert recorder.unsynced == ()
    project.close()
    with Project.open(tiny_tmpfs / "project") as again:
        assert recover(again) == Recovery((), ()), "the mask was stored, too"
        edited = opened(again)
        for seed in reversed(range(4)):
            edited.undo(now=NOW)
            assert np.array_equal(edited.mask, noise(seed))


def test_a_project_that_is_gone_is_told_and_recording_goes_on_when_it_is_back(
    project: Project,
) -> None:
    if os.name == "nt":
        pytest.skip("an open file cannot be moved away on Windows")
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=60), opened(project)
    away = project.folder.with_name("away")
    project.folder.rename(away)
    step = edited.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)
    heard.wait_for(RecordingFailed)
    assert recorder.unsynced == (step,)
    with pytest.raises(StorageError, match="no longer here"):
        recorder.flush()
    away.rename(project.folder)
    recorder.retry()
    heard.wait_for(RecordingResumed)
    recorder.close()
    assert np.array_equal(opened(project).mask, noise(0))


def test_ending_without_waiting_tells_what_is_lost(project: Project) -> None:
    if os.name == "nt":
        pytest.skip("an open file cannot be moved away on Windows")
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=60), opened(project)
    away = project.folder.with_name("away")
    project.folder.rename(away)
    step = edited.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)
    heard.wait_for(RecordingFailed)
    assert recorder.abandon() == (step,)
    away.rename(project.folder)


def test_who_goes_on_in_another_opening_does_not_wait_for_one_whose_disk_hangs(
    project: Project,
) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)
    disk = HungDisk(project, "BEGIN IMMEDIATE")
    step = edited.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)
    disk.wait_until_it_hangs()
    with Project.open(project.folder) as again:
        recorder.go_on_in(again)
        with pytest.raises(TimeoutError, match="1 step"):
            recorder.flush(0.1)
        assert disk.hangs
        disk.answer()
        recorder.close()
        assert np.array_equal(opened(again).mask, noise(0))
        assert len(again.open_journal(1).steps) == 1


def test_what_fails_in_an_opening_that_was_left_meanwhile_is_recorded_in_the_other(
    project: Project,
) -> None:
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=60), opened(project)
    disk = HungDisk(project, "BEGIN IMMEDIATE")
    step = edited.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)
    disk.wait_until_it_hangs()
    (project.folder / "project.lock").write_text("of somebody else")
    with Project.open(project.folder, take_over=True) as again:
        recorder.go_on_in(again)
        disk.answer()
        recorder.close()
        assert heard.events == []
        assert recorder.handed_over == {Outcome.AS_MADE: 1}
        assert np.array_equal(opened(again).mask, noise(0))


def test_who_ends_while_the_disk_hangs_is_told_what_may_be_lost_and_nothing_follows(
    project: Project,
) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)
    disk = HungDisk(project, "COMMIT")
    steps = []
    for seed in range(3):
        step = edited.stroke(noise(seed), author="Ada", now=NOW)
        assert step is not None
        steps.append(step)
        recorder.record(1, step)
        disk.wait_until_it_hangs()
    with pytest.raises(TimeoutError, match="3 steps"):
        recorder.close(0.1)
    assert recorder.abandon(0.1) == tuple(steps)
    assert disk.hangs
    disk.answer()
    assert recorder.abandon() == tuple(steps[1:])
    assert np.array_equal(opened(project).mask, noise(0))


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "damaged"])
def test_a_mask_that_is_lost_is_told_and_keeps_no_stroke_from_being_recorded(
    project: Project, is_gone: bool
) -> None:
    heard = Heard()
    recorder, edited = Recorder(project, heard), opened(project)
    predicted = PredictedMask(1, noise(0), np.full((300, 300), 0.5, np.float16))
    step = edited.enter_prediction(predicted, SOURCE, now=NOW)
    assert step is not None
    recorder.record(1, step)
    recorder.fold(1)
    recorder.flush()
    (shard,) = (project.folder / "arrays.zarr" / "masks").rglob("c/0/0/0")
    content = shard.read_bytes()
    arrays, away = project.folder / "arrays.zarr", project.folder.with_name("away")
    if is_gone:
        arrays.rename(away)
    else:
        shard.write_bytes(content[:-10] + bytes(10))
    for seed in (1, 2):
        step = edited.stroke(noise(seed), author="Ada", now=NOW)
        assert step is not None
        recorder.record(1, step)
        recorder.fold(1)
    heard.wait_for(FoldFailed)
    recorder.close()
    if is_gone:
        away.rename(arrays)
    else:
        shard.write_bytes(content)
    assert np.array_equal(opened(project).mask, noise(2))


def test_strokes_that_cannot_be_recorded_without_a_damaged_mask_hold_up_no_other_image(
    project: Project,
) -> None:
    steps: dict[int, list[NewStep]] = {1: [], 2: []}
    for image_id in steps:
        predicted = PredictedMask(image_id, noise(0), np.full((300, 300), 0.5, np.float16))
        project.write_mask(predicted, SOURCE)
        edited, _ = Journal(project, image_id).open()
        for seed in (1, 2):
            step = edited.stroke(noise(seed), author="Ada", now=NOW)
            assert step is not None
            steps[image_id].append(step)
    project.remove_class(SCHEMA.ids[1], created=NOW)  # while they wait: what is seen is looked at
    database = sqlite3.connect(project.folder / "project.db", isolation_level=None)
    database.execute("UPDATE masks SET digest = 'not ' || digest WHERE image_id = 1")
    heard = Heard()
    recorder = Recorder(project, heard, retry_seconds=60)
    for n, end in enumerate((recorder.flush, recorder.close)):
        for image_id in steps:
            recorder.record(image_id, steps[image_id][n])
        with pytest.raises(DamagedError, match="image 1: the mask is damaged"):
            end()
        assert recorder.unsynced == tuple(steps[1][: n + 1])
        assert isinstance(recorder.failure, DamagedError)
        assert len(project.open_journal(2).steps) == n + 1
    database.execute("UPDATE masks SET digest = substr(digest, 5) WHERE image_id = 1")
    database.close()
    recorder.close()
    assert len(project.open_journal(1).steps) == 2
    heard.wait_for(RecordingResumed)


def test_while_strokes_of_one_image_cannot_be_recorded_those_of_others_are_at_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = project.record_steps

    def of_others_alone(image_id: int, steps: Sequence[NewStep]) -> list[Outcome]:
        if image_id == 1:
            raise StorageError("no permission", where="a shard", remedy="Ask its owner.")
        return record(image_id, steps)

    monkeypatch.setattr(project, "record_steps", of_others_alone)
    heard = Heard()
    recorder = Recorder(project, heard, retry_seconds=600)
    dot(recorder, opened(project), 0)
    heard.wait_for(RecordingFailed)
    other, _ = Journal(project, 2).open()
    step = other.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(2, step)
    recorder.fold(2)
    heard.wait_for(Folded)
    assert len(recorder.unsynced) == 1
    assert isinstance(recorder.failure, StorageError)
    assert [type(event) for event in heard.events] == [RecordingFailed, Folded]
    assert len(recorder.abandon()) == 1


def test_the_confidence_of_a_prediction_is_stored_with_the_mask_as_long_as_it_holds(
    project: Project,
) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)

    def stored() -> list[float]:
        recorder.fold(1)
        recorder.flush()
        mask = project.read_mask(1)
        assert mask is not None
        return mask.confidence[0, :2].tolist()

    for value, confidence in ((1, 0.25), (2, 0.5)):
        predicted = PredictedMask(
            1, np.full((300, 300), value, np.uint8), np.full((300, 300), confidence, np.float16)
        )
        step = edited.enter_prediction(predicted, SOURCE, now=NOW)
        assert step is not None
        recorder.record(1, step)
    drawn = edited.mask.copy()
    drawn[0, 0] = 1
    step = edited.stroke(drawn, author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)
    assert stored() == [1, 0.5]
    for _ in range(2):
        back = edited.undo(now=NOW)
        assert back is not None
        recorder.record(1, back)
    assert stored() == [0, 0]
    recorder.close()


class SlowMaskWriter:
    """Lets nobody write a mask that is ready until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_ready, self.go_on = threading.Event(), threading.Event()
        self.times = 0
        staging = ArrayFolder.staging

        @contextmanager
        def slowly(arrays: ArrayFolder, entry: MaskArrays) -> Iterator[MaskArrays]:
            with staging(arrays, entry) as ready:
                self.times += 1
                self.is_ready.set()
                assert self.go_on.wait(60)
                yield ready

        monkeypatch.setattr(ArrayFolder, "staging", slowly)


@pytest.mark.parametrize("size", [300, 600])
def test_steps_are_recorded_while_a_mask_is_made_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    writer = SlowMaskWriter(monkeypatch)
    with made(tmp_path / "project", size) as project:
        recorder, edited = Recorder(project, Heard()), opened(project)
        dot(recorder, edited, 0)
        recorder.fold(1)
        assert writer.is_ready.wait(60)
        dot(recorder, edited, 1)
        other, _ = Journal(project, 2).open()
        step = other.stroke(noise(0, size), author="Bea", now=NOW)
        assert step is not None
        recorder.record(2, step)
        recorder.flush(60, with_masks=False)
        assert recorder.unsynced == ()
        assert project.unfolded_images() == [1, 2]
        writer.go_on.set()
        recorder.flush()
        # The mask on disk holds the first, and is seen with the second.
        assert project.unfolded_images() == [1, 2]
        assert project.mask_summaries()[1].corrected_by == "Ada"
        seen = project.read_mask(1)
        assert seen is not None
        assert np.array_equal(seen.mask, edited.mask)
        recorder.fold(1)
        recorder.close()
        assert writer.times == 2
        assert project.unfolded_images() == [2]
    with Project.open(tmp_path / "project") as project:
        stored = project.read_mask(1)
        assert stored is not None
        assert np.array_equal(stored.mask, edited.mask)
        assert np.array_equal(stored.setters, edited.setters)


def test_the_confidence_of_a_prediction_is_stored_though_its_pixels_are_already(
    project: Project,
) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)
    step = edited.enter_prediction(whole(1, 0.25), SOURCE, now=NOW)
    assert step is not None
    recorder.record(1, step)
    recorder.flush()
    assert project.fold_journal(1) == 1  # an earlier fold may find the step before its confidence
    dot(recorder, edited, 0)
    recorder.flush()
    assert project.fold_journal(1) == 1
    recorder.fold(1)
    recorder.close()
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.confidence[0, :2].tolist() == [1, 0.25]
    assert stored.mask[0, :2].tolist() == [2, 1]
    assert project.unfolded_images() == []


def test_pixels_that_a_prediction_leaves_alone_have_no_confidence_of_another(
    project: Project,
) -> None:
    project.write_mask(whole(1, 0.5), SOURCE)
    recorder, edited = Recorder(project, Heard()), opened(project)
    other = whole(1, 0.875)
    other.mask[0, 0] = 2
    step = edited.enter_prediction(other, replace(SOURCE, recipe_json='{"o": 1}'), now=NOW)
    assert step is not None
    recorder.record(1, replace(step, confidence=None))  # as of a program that ended before
    recorder.fold(1)
    recorder.flush()

    def known() -> list[float]:
        stored = project.read_mask(1)
        assert stored is not None
        return stored.confidence[0, :2].tolist()

    assert known() == [0, 0]
    back = edited.undo(now=NOW)
    assert back is not None
    recorder.record(1, back)
    recorder.fold(1)
    recorder.close()
    assert known() == [0, 0]


def test_a_mask_that_cannot_be_stored_keeps_no_other_from_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = project.fold_journal

    def of_one_alone(image_id: int, confidence) -> int:
        if image_id == 1:
            raise StorageError("no permission", where="a shard", remedy="Ask its owner.")
        return fold(image_id, confidence)

    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=0.05), opened(project)
    dot(recorder, edited, 0)
    other, _ = Journal(project, 2).open()
    step = other.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(2, step)
    with monkeypatch.context() as patch:
        patch.setattr(project, "fold_journal", of_one_alone)
        recorder.fold(1)
        recorder.fold(2)
        heard.wait_for(Folded)
        assert project.unfolded_images() == [1]
        assert not any(isinstance(event, RecordingFailed) for event in heard.events)
        assert recorder.failure is None
    heard.wait_for(StoringResumed)
    recorder.close()
    assert project.unfolded_images() == []


def test_a_mask_that_others_have_stored_meanwhile_is_made_ready_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, edited = Recorder(project, Heard()), opened(project)
    dot(recorder, edited, 0)
    recorder.flush()
    with monkeypatch.context() as patch:
        writer = SlowMaskWriter(patch)
        recorder.fold(1)
        assert writer.is_ready.wait(60)
    later = replace(SOURCE, recipe_json='{"later": 1}')
    project.write_mask(whole(1, 0.5), later)
    dot(recorder, opened(project), 1)
    recorder.flush(with_masks=False)
    writer.go_on.set()
    recorder.close()
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.source == later
    assert stored.mask[0, :3].tolist() == [2, 2, 1]
    assert stored.confidence[0, :3].tolist() == [1, 1, 0.5]
    assert project.unfolded_images() == []


def whole(value: int, confidence: float) -> PredictedMask:
    mask = np.full((300, 300), value, np.uint8)
    return PredictedMask(1, mask, np.full((300, 300), confidence, np.float16))


def dot(recorder: Recorder, edited: EditedMask, column: int) -> None:
    drawn = edited.mask.copy()
    drawn[0, column] = 2 if drawn[0, column] != 2 else 1
    step = edited.stroke(drawn, author="Ada", now=NOW)
    assert step is not None
    recorder.record(1, step)


@pytest.mark.parametrize("is_read_anew", [False, True])
def test_the_confidence_of_a_prediction_is_not_stored_with_a_later_one_of_a_job(
    project: Project, is_read_anew: bool
) -> None:
    heard = Heard()
    recorder, edited = Recorder(project, heard), opened(project)
    step = edited.enter_prediction(whole(1, 0.25), SOURCE, now=NOW)
    assert step is not None
    recorder.record(1, step)
    dot(recorder, edited, 0)
    recorder.flush()
    later = replace(SOURCE, recipe_json='{"later": 1}')
    project.write_mask(whole(2, 0.875), later)
    dot(recorder, opened(project) if is_read_anew else edited, 1)
    recorder.fold(1)
    recorder.close()
    assert any(isinstance(event, MaskMoved) for event in heard.events) is not is_read_anew
    stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask[5, 5], stored.confidence[5, 5]) == (2, 0.875)
    assert stored.source == later


@pytest.mark.parametrize("is_drawn_on", [False, True])
def test_the_confidence_of_a_prediction_is_not_stored_with_one_of_who_took_the_project_over(
    project: Project, is_drawn_on: bool
) -> None:
    recorder, edited = Recorder(project, Heard(), retry_seconds=60), opened(project)
    step = edited.enter_prediction(whole(1, 0.25), SOURCE, now=NOW)
    assert step is not None
    recorder.record(1, step)
    recorder.flush()
    (project.folder / "project.lock").write_text("of somebody else")
    with Project.open(project.folder, take_over=True) as other:
        other.write_mask(whole(2, 0.875), replace(SOURCE, recipe_json='{"later": 1}'))
        theirs = Recorder(other, Heard())
        dot(theirs, opened(other), 1)  # and is killed before the mask is stored
        theirs.close()
        if is_drawn_on:
            dot(recorder, edited, 0)
        recorder.fold(1)
        recorder.go_on_in(other)
        recorder.close()
        stored = other.read_mask(1)
        assert other.unfolded_images() == []
    assert stored is not None
    assert (stored.mask[5, 5], stored.confidence[5, 5]) == (2, 0.875)


def test_what_nobody_has_foreseen_is_told_and_recording_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=0.05), opened(project)
    record, fold = project.record_steps, project.fold_journal
    troubles: list[Exception] = [MemoryError(), sqlite3.OperationalError("out of memory")]

    def or_fail(work, *given):
        if troubles:
            raise troubles.pop(0)
        return work(*given)

    monkeypatch.setattr(project, "record_steps", lambda *given: or_fail(record, *given))
    monkeypatch.setattr(project, "fold_journal", lambda *given: or_fail(fold, *given))
    dot(recorder, edited, 0)
    heard.wait_for(RecordingResumed)
    first, second, *_ = heard.events
    assert isinstance(first, RecordingFailed)
    assert isinstance(second, RecordingFailed)
    assert isinstance(first.error, StorageError)
    assert isinstance(first.error.__cause__, MemoryError)
    assert first.waiting == 1
    assert "OperationalError: out of memory" in str(second.error)
    assert str(project.folder) in str(second.error)
    troubles.append(RuntimeError("of a mask"))
    recorder.fold(1)
    heard.wait_for(Folded)
    assert "of a mask" in str(next(e.error for e in heard.events[3:] if hasattr(e, "error")))
    recorder.close()
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.mask[0, 0] == 2


def test_what_is_never_recorded_for_a_reason_that_nobody_has_foreseen_is_counted_as_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    recorder, edited = Recorder(project, Heard(), retry_seconds=60), opened(project)
    monkeypatch.setattr(project, "record_steps", fail)
    for column in range(3):
        dot(recorder, edited, column)
    for end in (recorder.flush, recorder.close):
        with pytest.raises(StorageError, match="MemoryError"):
            end()
    assert len(recorder.abandon()) == 3


def test_a_listener_that_fails_is_told_of_and_recording_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda found: seen.append(found.exc_value))

    def fail(event: RecorderEvent) -> None:
        raise ValueError("nobody listens")

    recorder, edited = Recorder(project, fail), opened(project)
    dot(recorder, edited, 0)
    recorder.fold(1)
    dot(recorder, edited, 1)
    recorder.close()
    assert [str(error) for error in seen] == ["nobody listens"]
    assert opened(project).mask[0, 1] == 2


def test_it_is_told_that_recording_goes_on_once_no_step_waits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=0.05), opened(project)
    record, is_full = project.record_steps, threading.Event()
    is_full.set()

    def on_full_disk(image_id: int, steps):
        if is_full.is_set() and (image_id == 2 or recorder.failure is None):
            raise StorageError("no space", where="disk", remedy="Make some.")
        return record(image_id, steps)

    monkeypatch.setattr(project, "record_steps", on_full_disk)
    dot(recorder, edited, 0)
    second, _ = Journal(project, 2).open()
    step = second.stroke(noise(0), author="Ada", now=NOW)
    assert step is not None
    recorder.record(2, step)
    heard.wait_for(RecordingFailed)
    while recorder.unsynced != (step,):
        heard.wait_for(RecordingFailed)
    with pytest.raises(StorageError):
        recorder.flush()
    assert not any(isinstance(event, RecordingResumed) for event in heard.events)
    is_full.clear()
    heard.wait_for(RecordingResumed)
    assert recorder.unsynced == ()
    recorder.close()


def test_steps_go_on_and_it_is_told_while_masks_cannot_be_stored(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, heard, edited = with_a_step_on_disk(project)

    def fail(*_: object) -> None:
        raise StorageError("no space", where="disk", remedy="Make some.")

    monkeypatch.setattr(project, "fold_journal", fail)
    recorder.fold(1)
    heard.wait_for(StoringFailed)
    with monkeypatch.context() as patch:
        patch.setattr(project, "record_steps", fail)
        dot(recorder, edited, 1)
        heard.wait_for(RecordingFailed)
        assert recorder.failure is not None
    recorder.retry()
    heard.wait_for(RecordingResumed)
    assert recorder.failure is None
    assert recorder.failure_of_masks is not None
    assert not any(isinstance(event, StoringResumed) for event in heard.events)
    monkeypatch.undo()
    recorder.close()
    heard.wait_for(StoringResumed)
    assert project.unfolded_images() == []


@pytest.mark.parametrize("size", [300, 600])  # within the transaction, and beside its place
def test_a_mask_for_which_there_is_no_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    with made(tmp_path / "project", size) as project:
        recorder, heard, _ = with_a_step_on_disk(project)
        with monkeypatch.context() as patch:
            patch.setattr(arrays, "_common", Mock(side_effect=MemoryError))
            recorder.fold(1)
            heard.wait_for(StoringFailed)
        assert "not enough memory" in str(recorder.failure_of_masks)
        recorder.close()
        assert project.unfolded_images() == []


def with_a_step_on_disk(project: Project) -> tuple[Recorder, Heard, EditedMask]:
    heard = Heard()
    recorder, edited = Recorder(project, heard, retry_seconds=60), opened(project)
    dot(recorder, edited, 0)
    recorder.flush()
    return recorder, heard, edited


def test_a_mask_of_a_project_that_was_taken_over_waits_and_is_not_called_damaged(
    project: Project,
) -> None:
    recorder, heard, edited = with_a_step_on_disk(project)
    (project.folder / "project.lock").write_text("of somebody else")
    recorder.fold(1)
    heard.wait_for(StoringFailed)
    (failed,) = heard.events
    assert isinstance(failed, StoringFailed)
    assert isinstance(failed.error, ProjectLockedError)
    assert isinstance(recorder.failure_of_masks, ProjectLockedError)
    assert recorder.failure is None
    dot(recorder, edited, 1)
    with pytest.raises(ProjectLockedError):
        recorder.flush()
    assert not any(isinstance(e, RecordingResumed | StoringResumed) for e in heard.events)
    with Project.open(project.folder, take_over=True) as again:
        recorder.go_on_in(again)
        recorder.flush()
        heard.wait_for(RecordingResumed)
        heard.wait_for(StoringResumed)
        heard.wait_for(Folded)
        recorder.fold(1)  # the step that came after the first
        recorder.close()
        assert again.unfolded_images() == []


def test_a_mask_of_a_project_that_is_closed_waits_and_is_not_called_damaged(
    project: Project,
) -> None:
    recorder, heard, _ = with_a_step_on_disk(project)
    busy = sqlite3.connect(project.folder / "project.db", isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")  # closing waits for it
    closing = threading.Thread(target=project.close)
    closing.start()
    with pytest.raises(ProjectError, match="closed"):
        while True:
            project.unfolded_images()
    recorder.fold(1)
    heard.wait_for(StoringFailed)
    busy.execute("COMMIT")
    busy.close()
    closing.join()
    assert not any(isinstance(event, FoldFailed) for event in heard.events)
    with Project.open(project.folder) as again:
        recorder.go_on_in(again)
        recorder.close()
        assert again.unfolded_images() == []
