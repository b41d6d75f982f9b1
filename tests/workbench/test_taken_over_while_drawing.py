"""Another program takes the open project over while somebody draws: no stroke is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from desk import Desk
from hearing import Told

from napari_protoseg.errors import ProjectError, ProjectLockedError, StorageError
from napari_protoseg.project.folder import Project
from napari_protoseg.project.lock import LOCK, LockOwner

OTHER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from napari_protoseg.project.folder import Project
from napari_protoseg.review.journal import Journal
project = Project.open(Path(sys.argv[1]), take_over=True)
journal = Journal(project, int(sys.argv[2]))
edited, _ = journal.open()
def draw(side):
    drawn = edited.mask.copy()
    drawn[-side:, -side:] = 3
    step = edited.stroke(drawn, author="Ben", now=datetime.now(UTC))
    journal.append([step])
    print("drawn", flush=True)
draw(6)
for line in sys.stdin:
    if line.startswith("draw "):
        draw(int(line.split()[1]))
    else:
        project.close()
        print("closed", flush=True)
"""


class Other:
    """Another program, that takes a project over and draws in a corner of an image."""

    def __init__(self, folder: Path, image_id: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder), str(image_id)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wait_for("drawn")

    @property
    def number(self) -> int:
        return self._process.pid

    def draw(self, side: int) -> None:
        self._ask(f"draw {side}")
        self._wait_for("drawn")

    def close_project(self) -> None:
        self._ask("close")
        self._wait_for("closed")

    def end(self) -> None:
        self._process.communicate("close\n", timeout=60)

    def _ask(self, wish: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{wish}\n")
        self._process.stdin.flush()

    def _wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word


@pytest.fixture
def other(desk: Desk) -> Iterator[Other]:
    other = Other(desk.session.require_project().folder, desk.image_id)
    yield other
    other.end()


def lock_of(desk: Desk) -> Path:
    return desk.session.require_project().folder / LOCK


def take_over_unseen(desk: Desk) -> None:
    """Let another machine have the lock."""
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    lock_of(desk).write_text(owner.model_dump_json())


def draw_what_cannot_be_saved(desk: Desk, other: Other) -> None:
    desk.painter.paint(2, side=3)
    desk.painter.paint(3, side=2)
    with pytest.raises(ProjectLockedError, match=f"process {other.number}"):
        desk.session.save()
    desk.runner.turn()


def assert_all_is_there(desk: Desk, image_id: int) -> None:
    """Both persons' strokes are on disk, in an opening that others may read."""
    with Project.open(desk.session.require_project().folder) as project:
        stored = project.read_mask(image_id)
    assert stored is not None
    expected = np.zeros_like(stored.mask)
    expected[-6:, -6:] = 3
    for value, side in ((1, 4), (2, 3), (3, 2)):
        expected[:side, :side] = value
    assert np.array_equal(stored.mask, expected)
    assert np.array_equal(stored.is_protected, expected > 0)


def test_it_is_said_at_once_and_what_is_drawn_is_kept(desk: Desk, other: Other):
    heard: list[str | None] = []
    desk.session.task_changed.connect(lambda: heard.append(desk.session.read_only()))
    draw_what_cannot_be_saved(desk, other)
    assert f"process {other.number}" in desk.session.messages.shown
    assert "kept in memory" in desk.session.messages.shown
    assert len(heard) == 1, "the header offers to take it over"
    assert f"process {other.number}" in str(heard[0])
    assert np.all(desk.mask[:2, :2] == 3)


def test_it_is_said_too_where_saving_had_failed_for_another_reason_before(
    desk: Desk, tmp_path: Path
):
    folder = desk.session.require_project().folder
    folder.rename(tmp_path / "away")
    desk.painter.paint(2, side=3)
    with pytest.raises(StorageError, match="no longer here"):
        desk.session.save()
    desk.runner.turn()
    (tmp_path / "away").rename(folder)
    take_over_unseen(desk)
    heard: list[str | None] = []
    desk.session.task_changed.connect(lambda: heard.append(desk.session.read_only()))
    for _ in range(2):
        with pytest.raises(ProjectLockedError, match="ada on elsewhere"):
            desk.session.save()
        desk.runner.turn()
    assert len(heard) == 1
    assert "ada on elsewhere" in str(heard[0])
    desk.session.take_over()
    desk.step()
    assert np.all(desk.mask[:3, :3] == 2)


def test_taking_it_back_saves_what_was_drawn_meanwhile_over_what_the_other_has_left(
    desk: Desk, other: Other
):
    draw_what_cannot_be_saved(desk, other)
    image_id = desk.image_id
    desk.session.take_over()
    assert desk.session.read_only() is None
    assert desk.session.current is None
    assert_all_is_there(desk, image_id)
    desk.step()
    assert desk.mask[-1, -1] == 3, "of the other"
    assert desk.mask[0, 0] == 3
    desk.painter.paint(1, side=1)
    desk.session.save()
    assert desk.problems == []


def test_opening_it_again_does_the_same_once_the_other_has_closed_it(desk: Desk, other: Other):
    draw_what_cannot_be_saved(desk, other)
    image_id = desk.image_id
    folder = desk.session.require_project().folder
    with pytest.raises(ProjectLockedError, match=f"process {other.number}"):
        desk.session.open(folder)
    other.close_project()
    desk.session.open(folder)
    assert desk.session.read_only() is None
    assert_all_is_there(desk, image_id)


def test_a_stroke_that_nobody_has_tried_to_save_is_saved_too(desk: Desk, other: Other):
    assert desk.painter.mask is not None
    desk.painter.mask[:3, :3] = 2
    desk.painter.mask[:2, :2] = 3
    image_id = desk.image_id
    desk.session.take_over()
    assert_all_is_there(desk, image_id)


def test_where_it_cannot_be_opened_again_all_is_kept_for_the_next_time(desk: Desk, other: Other):
    draw_what_cannot_be_saved(desk, other)
    image_id = desk.image_id

    def refuse() -> None:
        raise ProjectError("not now", where="here", remedy="Later.")

    desk.session.before_leaving.append(refuse)
    with pytest.raises(ProjectError, match="not now"):
        desk.session.take_over()
    assert desk.session.current is not None
    assert not lock_of(desk).exists(), "strokes were saved: whoever goes on reads them first"
    assert np.all(desk.mask[:2, :2] == 3)
    desk.session.before_leaving.remove(refuse)
    desk.session.open(desk.session.require_project().folder)
    assert_all_is_there(desk, image_id)


def test_where_it_was_taken_back_in_vain_the_other_goes_on_and_strokes_wait(
    desk: Desk, other: Other
):
    draw_what_cannot_be_saved(desk, other)

    def refuse() -> None:
        raise ProjectError("not now", where="here", remedy="Later.")

    desk.session.before_leaving.insert(0, refuse)
    with pytest.raises(ProjectError, match="not now"):
        desk.session.take_over()
    other.draw(7)
    assert f"process {other.number}" in str(desk.session.read_only())
    assert desk.bench.recording.is_held_up
    assert np.all(desk.mask[:2, :2] == 3)
    desk.session.before_leaving.remove(refuse)
    image_id = desk.image_id
    desk.session.take_over()
    stored = desk.stored(image_id)
    assert stored is not None
    assert stored.mask[-7, -7] == 3
    assert stored.mask[0, 0] == 3


def test_it_is_said_how_many_steps_went_over_what_the_other_has_left(desk: Desk, other: Other):
    draw_what_cannot_be_saved(desk, other)
    desk.session.take_over()
    assert "over what it has left: 2." in desk.session.messages.shown
    assert "not done" not in desk.session.messages.shown
    desk.session.open(desk.session.require_project().folder)
    assert desk.session.messages.shown == "", "once"


def test_an_undo_that_the_other_has_forestalled_is_told(desk: Desk, other: Other):
    image_id = desk.image_id
    desk.painter.undo()  # of what is on disk, before anyone knows of the other
    desk.painter.paint(2, side=3)
    with pytest.raises(ProjectLockedError):
        desk.session.save()
    desk.session.take_over()
    assert "over what it has left: 1." in desk.session.messages.shown
    assert "not done, since its own stand in their way: 1." in desk.session.messages.shown
    stored = desk.stored(image_id)
    assert stored is not None
    assert stored.mask[3, 3] == 1, "what was to be undone is there"


def test_what_the_other_has_drawn_over_is_not_given_back_to_the_model(desk: Desk, other: Other):
    whole, image_id = slice(None), desk.image_id
    side = len(desk.mask) - 2
    other.draw(side)
    desk.bench.review.release((whole, whole))  # before anyone knows of the other
    assert not desk.is_anybodys
    desk.session.take_over()
    assert "over what it has left: 1." in desk.session.messages.shown
    stored = desk.stored(image_id)
    assert stored is not None
    of_other = np.zeros_like(stored.is_protected)
    of_other[-side:, -side:] = True
    assert np.all(stored.mask[of_other] == 3)
    assert np.array_equal(stored.is_protected, of_other), "what was hers is the model's again"


def test_a_step_of_which_nothing_may_be_done_any_more_is_told(desk: Desk, other: Other):
    whole, image_id = slice(None), desk.image_id
    other.draw(len(desk.mask))
    desk.bench.review.release((whole, whole))
    desk.session.take_over()
    assert "not done, since its own stand in their way: 1." in desk.session.messages.shown
    stored = desk.stored(image_id)
    assert stored is not None
    assert np.all(stored.mask == 3)
    assert stored.is_protected.all()


def test_nothing_is_said_where_the_other_has_drawn_nothing_in_between(desk: Desk, made: Path):
    folder = desk.session.require_project().folder
    Project.open(folder, take_over=True).close()
    assert desk.painter.mask is not None
    desk.painter.mask[:3, :3] = 2
    desk.session.open(folder)
    assert desk.session.messages.shown == ""


def test_strokes_that_wait_can_be_undone_and_redone(desk: Desk, other: Other):
    draw_what_cannot_be_saved(desk, other)
    image_id = desk.image_id
    desk.painter.undo()
    desk.painter.undo()
    desk.painter.redo()
    assert np.all(desk.mask[:3, :3] == 2)
    assert desk.problems == []
    desk.session.take_over()
    stored = desk.stored(image_id)
    assert stored is not None
    assert np.all(stored.mask[:3, :3] == 2)
    assert "not done" not in desk.session.messages.shown
    desk.step()
    desk.painter.undo()
    assert np.all(desk.mask[:3, :3] == 1)


def test_why_what_is_saved_cannot_be_undone_meanwhile_is_said(desk: Desk, other: Other):
    draw_what_cannot_be_saved(desk, other)
    for _ in range(3):
        desk.painter.undo()
    assert np.all(desk.mask[:4, :4] == 1), "what was saved before stays"
    assert "cannot be undone" in desk.session.messages.shown
    assert "Take it over" in desk.session.messages.shown


def test_strokes_never_go_into_another_project_in_its_place(
    desk: Desk, other: Other, tmp_path: Path
):
    draw_what_cannot_be_saved(desk, other)
    other.close_project()
    folder = desk.session.require_project().folder
    folder.rename(tmp_path / "moved")
    with Project.create(folder, desk.session.require_project().schema, created=desk.session.now()):
        pass
    with pytest.raises(StorageError, match="no longer here"):
        desk.session.open(folder)
    assert desk.bench.recording.is_held_up
    assert np.all(desk.mask[:2, :2] == 3), "still kept"


def test_a_mask_that_cannot_be_stored_for_it_tells_of_it_and_nothing_else_is_said(desk: Desk):
    told = Told(desk.session)
    desk.painter.paint(2, side=3)
    desk.bench.recording.flush()
    take_over_unseen(desk)
    heard: list[str | None] = []
    desk.session.task_changed.connect(lambda: heard.append(desk.session.read_only()))
    image_id = desk.image_id
    desk.session.show(None)
    desk.settle()
    assert not any("What you draw is recorded" in text for text in told)
    assert "Masks cannot be stored" in desk.session.messages.shown
    assert "ada on elsewhere" in desk.session.messages.shown
    assert len(heard) == 1, "the header offers to take it over"
    assert "ada on elsewhere" in str(heard[0])
    desk.session.take_over()
    assert desk.session.require_project().unfolded_images() == []
    stored = desk.stored(image_id)
    assert stored is not None
    assert np.all(stored.mask[:3, :3] == 2)


def test_saving_is_said_to_go_on_only_when_no_step_waits(desk: Desk, tmp_path: Path):
    told = Told(desk.session)
    folder = desk.session.require_project().folder
    desk.painter.paint(2, side=3)
    desk.bench.recording.flush()
    folder.rename(tmp_path / "away")
    desk.bench.recording.fold(desk.image_id)
    desk.bench.recording.settle()
    assert "Masks cannot be stored" in desk.session.messages.shown
    (tmp_path / "away").rename(folder)
    take_over_unseen(desk)
    desk.painter.paint(3, side=2)
    for _ in range(2):
        with pytest.raises(ProjectLockedError):
            desk.bench.recording.flush()
        desk.runner.turn()
    assert not any("Saving goes on" in text for text in told)
    assert "kept in memory, and tried again every few seconds: 1." in desk.session.messages.shown
    desk.session.take_over()


def test_the_first_image_that_is_opened_afterwards_is_read_and_it_is_said(desk: Desk):
    take_over_unseen(desk)
    told = Told(desk.session)
    heard: list[str | None] = []
    desk.session.task_changed.connect(lambda: heard.append(desk.session.read_only()))
    desk.step()
    assert not desk.session.is_current_unread
    assert desk.bench.opened.image is not None
    assert desk.problems == []
    assert sum("ada on elsewhere" in text for text in told) == 1
    assert len(heard) == 1
    desk.painter.paint(2, side=3)
    desk.session.take_over()
    desk.step()
    assert len(heard) == 1
