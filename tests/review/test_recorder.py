"""Steps are recorded off the thread that makes them; trouble is told, and nothing is dropped."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hung_disk import HungDisk

from napari_protoseg.errors import StorageError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal, Recovery, recover
from napari_protoseg.review.recorder import (
    FoldFailed,
    Recorder,
    RecorderEvent,
    RecordingFailed,
    RecordingResumed,
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


def test_a_damaged_mask_is_told_and_keeps_no_stroke_from_being_recorded(project: Project) -> None:
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
    shard.write_bytes(content[:-10] + bytes(10))
    for seed in (1, 2):
        step = edited.stroke(noise(seed), author="Ada", now=NOW)
        assert step is not None
        recorder.record(1, step)
        recorder.fold(1)
    heard.wait_for(FoldFailed)
    recorder.close()
    shard.write_bytes(content)
    assert np.array_equal(opened(project).mask, noise(2))


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
