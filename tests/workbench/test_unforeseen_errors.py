"""Recording raises what nobody has foreseen: it is said, tried again, and all can be closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from desk import Desk
from hearing import Told
from inline_runner import InlineRunner
from psygnal import EmitLoopError

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project.folder import Project
from napari_protoseg.project.lock import LOCK, LockOwner
from napari_protoseg.project.records import StoredMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.workbench.recording import Recording


def stored_in(folder: Path, image_id: int) -> StoredMask:
    """Return the mask of an image that has one, as whoever opens the project next reads it."""
    with Project.open(folder) as project:
        stored = project.read_mask(image_id)
    assert stored is not None
    return stored


def have_no_memory(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for the steps")

    monkeypatch.setattr(desk.session.require_project(), "record_steps", fail)


def test_it_is_said_with_its_details_and_recording_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    told = Told(desk.session)
    have_no_memory(desk, monkeypatch)
    desk.painter.paint(2, side=3)
    desk.painter.paint(3, side=2)
    for _ in range(2):
        with pytest.raises(StorageError, match="MemoryError: no room for the steps"):
            desk.session.save()
        desk.runner.turn()
    assert sum("Unexpected: MemoryError: no room" in text for text in told) == 1
    assert "What you do is not saved" in desk.session.messages.shown
    assert "Traceback" in desk.session.messages.details
    assert "in fail" in desk.session.messages.details
    monkeypatch.undo()
    desk.session.save()
    desk.runner.turn()
    assert "Saving goes on: all that you have drawn is on disk." in told
    stored = desk.stored()
    assert stored is not None
    assert np.all(stored.mask[:2, :2] == 3)


def test_who_closes_is_told_how_much_is_lost_and_the_project_is_closed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    told, folder = Told(desk.session), desk.session.require_project().folder
    have_no_memory(desk, monkeypatch)
    desk.painter.paint(2, side=3)
    desk.painter.paint(3, side=2)
    desk.bench.close()
    assert any("2 steps could not be saved" in text and "MemoryError" in text for text in told)
    assert "in fail" in desk.session.messages.details
    assert desk.session.project is None
    assert not (folder / LOCK).exists()
    with Project.open(folder) as project:
        assert not project.is_read_only


@pytest.mark.parametrize(
    "verb", ["unfolded_images", "open_journal", "fold_journal", "shorten_journals"]
)
def test_a_project_that_raises_it_as_it_is_opened_is_recorded_in_nonetheless(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, verb: str
):
    folder, image_id = desk.session.require_project().folder, desk.image_id
    desk.bench.close()
    with Project.open(folder) as project:
        journal = Journal(project, image_id)
        edited, _ = journal.open()
        drawn = edited.mask.copy()
        drawn[-1] = 3
        step = edited.stroke(drawn, author="Ada", now=desk.session.now())
        assert step is not None
        journal.append([step])  # and its program ends

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no more threads")

    again = Desk(InlineRunner())
    told = Told(again.session)
    with monkeypatch.context() as patch:
        patch.setattr(Project, verb, fail)
        again.session.open(folder)
    assert [text for text in told if "no more threads" in text] != []
    assert "in fail" in again.session.messages.details
    again.step()
    again.painter.paint(2, side=2)
    again.bench.close()
    stored = stored_in(folder, image_id)
    assert np.all(stored.mask[:2, :2] == 2)
    assert np.all(stored.mask[-1] == 3)


def test_pages_hear_of_a_project_in_which_nothing_can_be_recorded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    folder = desk.session.require_project().folder
    desk.bench.close()
    again = Desk(InlineRunner())
    heard: list[object] = []
    again.session.opened.connect(lambda: heard.append(again.session.project))

    def fail(*_: object) -> None:
        raise RuntimeError("no more threads")

    with monkeypatch.context() as patch:
        patch.setattr("napari_protoseg.workbench.recording.Recorder", fail)
        with pytest.raises(RuntimeError, match="no more threads"):
            again.session.open(folder)
    assert heard == [again.session.project]
    again.step()
    again.painter.paint(2, side=2)
    assert ["what was drawn is not recorded" in found.sentence for found in again.problems] == [
        True
    ]
    again.session.open(folder)
    again.step()
    again.painter.paint(3, side=2)
    again.bench.close()
    stored = stored_in(folder, 1)
    assert np.all(stored.mask[:2, :2] == 3)


def test_a_page_that_raises_it_as_a_project_is_opened_keeps_no_stroke_from_being_recorded(
    desk: Desk,
):
    folder, image_id = desk.session.require_project().folder, desk.image_id
    desk.bench.close()
    again = Desk(InlineRunner())

    def fail() -> None:
        raise RuntimeError("unheard of")

    again.session.opened.connect(fail)
    with pytest.raises(EmitLoopError, match="unheard of"):
        again.session.open(folder)
    again.session.opened.disconnect(fail)
    again.step()
    again.painter.paint(2, side=2)
    again.bench.close()
    stored = stored_in(folder, image_id)
    assert np.all(stored.mask[:2, :2] == 2)


@pytest.mark.parametrize("where", ["when_opened", "opened"])
def test_whoever_raises_it_as_a_project_is_opened_keeps_nobody_from_being_told_who_has_it(
    desk: Desk, where: str
):
    folder = desk.session.require_project().folder
    desk.bench.close()
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ben"})
    (folder / LOCK).write_text(owner.model_dump_json())
    again = Desk(InlineRunner())
    told = Told(again.session)

    def fail() -> None:
        raise RuntimeError("unheard of")

    if where == "opened":
        again.session.opened.connect(fail)
    else:
        again.session.when_opened.insert(0, fail)
    with pytest.raises((RuntimeError, EmitLoopError), match="unheard of"):
        again.session.open(folder)
    assert "ben on elsewhere" in told[-1]
    assert "read-only" in again.session.messages.shown
    again.session.opened.disconnect(fail, missing_ok=True)
    again.bench.close()


def test_a_stroke_that_nobody_records_is_refused_aloud(desk: Desk):
    recording = Recording(desk.session)  # has not heard that a project was opened
    with pytest.raises(ProjectError, match="what was drawn is not recorded"):
        recording.record(desk.image_id, desk.bench.recording)  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["before_saving", "before_closing"])
def test_a_project_is_closed_whatever_is_raised_meanwhile(desk: Desk, when: str):
    folder = desk.session.require_project().folder

    def fail() -> None:
        raise RuntimeError("unheard of")

    steps = getattr(desk.session, when)
    steps.insert(0, fail)
    with pytest.raises(RuntimeError, match="unheard of"):
        desk.bench.close()
    assert desk.session.project is None
    assert not (folder / LOCK).exists()
    steps.remove(fail)
