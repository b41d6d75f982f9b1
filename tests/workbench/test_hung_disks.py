"""A disk neither writes nor fails: nobody waits for it without end, and nothing is lost unsaid."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk import Desk
from hearing import Told
from hung_disk import HungDisk

from napari_protoseg.errors import ProjectLockedError, StorageError
from napari_protoseg.project.folder import Project
from napari_protoseg.project.lock import LOCK, LockOwner
from napari_protoseg.review.journal import Journal
from napari_protoseg.workbench import patience
from napari_protoseg.workbench.patience import Patience


@contextmanager
def impatience() -> Iterator[None]:
    """Wait but a moment; and afterwards as long as it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience, "MOST_SECONDS", 0.3)
        patch.setattr(patience, "AGAIN_SECONDS", 0.1)
        yield


@pytest.fixture(autouse=True)
def _never_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AGAIN_SECONDS", 60.0)


def wait_for_threads() -> None:
    """Wait until what hung has ended."""
    for thread in threading.enumerate():
        if thread.name in ("recorder", "mask writer", "closing"):
            thread.join(60)
            assert not thread.is_alive()


def test_who_saves_is_told_and_what_was_drawn_is_saved_once_the_disk_answers(
    desk: Desk,
):
    disk = HungDisk(desk.session.require_project(), "COMMIT")
    desk.painter.paint(2, side=3)
    with (
        impatience(),
        pytest.raises(StorageError, match=r"not recorded yet\. The disk does not answer: wait"),
    ):
        desk.session.save()
    assert disk.hangs
    disk.answer()
    desk.settle()
    stored = desk.stored()
    assert stored is not None
    assert np.all(stored.mask[:3, :3] == 2)


def test_it_is_not_said_any_more_that_a_mask_cannot_be_stored_once_it_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    project, answers = desk.session.require_project(), threading.Event()
    fold = project.fold_journal

    def late(*given: Any) -> int:
        assert answers.wait(60)
        return fold(*given)

    monkeypatch.setattr(project, "fold_journal", late)
    desk.painter.paint(2, side=3)
    with impatience():
        desk.session.save()
    assert "Masks cannot be stored" in desk.session.messages.shown
    answers.set()
    desk.session.save()
    assert "Masks cannot be stored" not in desk.session.messages.shown


def test_who_closes_all_is_told_what_is_not_saved_and_the_project_is_whole_afterwards(desk: Desk):
    folder, image_id = desk.session.require_project().folder, desk.image_id
    disk = HungDisk(desk.session.require_project(), "COMMIT")
    told = Told(desk.session)
    desk.painter.paint(2, side=3)
    disk.wait_until_it_hangs()
    desk.painter.paint(3, side=2)
    with impatience():
        desk.bench.close()
    assert disk.hangs
    assert any("2 steps could not be saved" in text for text in told)
    assert any("the project is not closed yet" in text for text in told)
    assert desk.session.project is None
    disk.answer()
    wait_for_threads()
    assert not (folder / LOCK).exists()
    with Project.open(folder) as project:
        assert not project.is_read_only
        stored = project.read_mask(image_id)
    assert stored is not None
    assert stored.mask[2, 2] == 2, "it was being written, and is there wholly"
    assert stored.mask[0, 0] == 2, "nothing is written after it was said to be lost"


def test_who_takes_a_project_back_while_the_disk_hangs_keeps_all_for_the_next_time(
    desk: Desk,
):
    folder, image_id = desk.session.require_project().folder, desk.image_id
    disk = HungDisk(desk.session.require_project(), "BEGIN IMMEDIATE")
    desk.painter.paint(2, side=3)
    disk.wait_until_it_hangs()
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (folder / LOCK).write_text(owner.model_dump_json())
    with impatience(), pytest.raises(StorageError, match="The disk does not answer"):
        desk.session.take_over()
    assert disk.hangs
    assert "elsewhere" in (folder / LOCK).read_text(), "it was taken from nobody"
    assert np.all(desk.mask[:3, :3] == 2)
    disk.answer()
    with pytest.raises(ProjectLockedError, match="ada on elsewhere"):
        desk.session.save()
    desk.session.take_over()
    stored = desk.stored(image_id)
    assert stored is not None
    assert np.all(stored.mask[:3, :3] == 2)


def test_what_waits_of_an_image_that_was_left_is_saved_before_a_project_is_let_go_of(
    desk: Desk, tmp_path: Path
):
    project, image_id = desk.session.require_project(), desk.image_id
    desk.session.show(None)
    desk.settle()  # its mask is stored
    edited, _ = Journal(project, image_id).open()
    step = edited.stroke(np.full_like(edited.mask, 3), author="Ada", now=desk.session.now())
    assert step is not None
    project.folder.rename(tmp_path / "away")
    desk.bench.recording.record(image_id, step)
    for leave in (desk.session.close_project, desk.session.save):
        with pytest.raises(StorageError, match="no longer here"):
            leave()
    assert desk.session.project is project
    (tmp_path / "away").rename(project.folder)
    desk.session.close_project()
    with Project.open(project.folder) as again:
        stored = again.read_mask(image_id)
    assert stored is not None
    assert np.all(stored.mask == 3)


def test_who_has_waited_in_vain_waits_but_a_moment_until_the_disk_has_answered(tmp_path: Path):
    waiting, allowed = Patience(), list[float]()

    def fail(seconds: float) -> None:
        allowed.append(seconds)
        raise TimeoutError("not yet")

    for _ in range(2):
        with pytest.raises(StorageError, match=r"not yet\. The disk does not answer"):
            waiting.wait(fail, tmp_path)
    for _ in range(2):
        waiting.wait(allowed.append, tmp_path)
    most, again = patience.MOST_SECONDS, patience.AGAIN_SECONDS
    assert allowed == [most, again, again, most]
