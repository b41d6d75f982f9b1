"""Labelling by hand: what a key or click changes, what is written, and what undo brings back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hearing import Heard
from inline_runner import InlineRunner, StepRunner
from tiny_project import record_images

from napari_protoseg.errors import SchemaError
from napari_protoseg.events import Job, Progress
from napari_protoseg.project.folder import Project
from napari_protoseg.workbench.image_list import LabelFilter
from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.session import Session, Settings

NAMES = ("tumour", "stroma", "necrosis")
TUMOUR, STROMA, NECROSIS = 1, 2, 3


def made(folder: Path, count: int = 4) -> Path:
    """Make a project of images that nobody looks into."""
    paths = (folder.parent / f"{number:05d}.png" for number in range(count))
    return record_images(folder, paths, NAMES)


@pytest.fixture
def state(tmp_path: Path) -> LabelsState:
    session = Session(InlineRunner())
    state = LabelsState(session)
    session.open(made(tmp_path / "project"))
    return state


def stored(state: LabelsState) -> list[tuple[int, ...]]:
    """Return the labels as another program would read them."""
    with Project.open(state.session.require_project().folder) as project:
        return [image.label for image in project.images()]


def first(state: LabelsState) -> int:
    image_id = state.images[0].id
    assert image_id is not None
    return image_id


def test_a_switch_goes_from_unknown_to_present_to_absent(state: LabelsState):
    for expected in ((1, -1, -1), (0, -1, -1), (1, -1, -1)):
        state.toggle(first(state), TUMOUR)
        assert stored(state)[0] == state.images[0].label == expected
    assert stored(state)[1:] == [(-1, -1, -1)] * 3


def test_the_rest_of_an_image_becomes_absent_and_a_class_unknown_again(state: LabelsState):
    state.toggle(first(state), STROMA)
    state.complete(first(state))
    assert stored(state)[0] == (0, 1, 0)
    state.forget(first(state), STROMA)
    assert stored(state)[0] == (0, -1, 0)


def test_every_change_is_undone_and_done_again_in_order(state: LabelsState):
    second = state.images[1].id
    assert second is not None
    state.toggle(first(state), TUMOUR)
    state.complete(first(state))
    state.forget(second, TUMOUR)  # is unknown already: no edit
    state.toggle(second, NECROSIS)
    assert state.undo() == second
    assert state.undo() == first(state)
    assert stored(state)[:2] == [(1, -1, -1), (-1, -1, -1)]
    assert state.undo() == first(state)
    assert not state.can_undo
    assert state.undo() is None
    assert stored(state) == [(-1, -1, -1)] * 4
    assert state.redo() == first(state)
    assert state.redo() == first(state)
    assert stored(state)[0] == (1, 0, 0)
    state.toggle(second, TUMOUR)
    assert not state.can_redo


def test_an_edit_before_a_new_class_is_still_undone(state: LabelsState):
    state.toggle(first(state), STROMA)
    state.add_class("mucus")
    assert stored(state)[0] == state.images[0].label == (-1, 1, -1, -1)
    state.undo()
    assert stored(state)[0] == (-1, -1, -1, -1)


def test_a_change_tells_its_row_and_reads_no_image_anew(state: LabelsState):
    relabelled, listed = Heard(state.relabelled), Heard(state.listed)
    others = Heard(state.session.images_changed)
    untouched = state.images[1]
    state.toggle(first(state), TUMOUR)
    assert (relabelled, listed, others) == ([(0,)], [], [()])
    assert state.images[1] is untouched


def test_the_open_image_gets_its_new_label(state: LabelsState):
    state.open_image(first(state))
    state.toggle(first(state), TUMOUR)
    assert state.session.current == state.images[0]


def test_a_list_of_one_kind_keeps_an_image_until_it_is_asked_for_again(state: LabelsState):
    state.toggle(first(state), TUMOUR)
    state.show_listing(LabelFilter.UNLABELLED)
    assert len(state.images) == 3
    labelled = first(state)
    state.toggle(labelled, TUMOUR)
    assert first(state) == labelled
    state.show_listing(LabelFilter.UNLABELLED)
    assert len(state.images) == 2
    state.show_listing(TUMOUR)
    assert [image.label[0] for image in (state.images[0], state.images[1])] == [1, 1]
    state.complete(labelled)
    state.show_listing(LabelFilter.INCOMPLETE)
    assert len(state.images) == 3


def test_counts_and_the_next_step_follow(state: LabelsState):
    assert state.counts() == ("0 of 4 images labelled. Present in: tumour 0, stroma 0, necrosis 0.")
    for class_id in (TUMOUR, STROMA, NECROSIS):
        state.toggle(first(state), class_id)
    assert state.counts() == ("1 of 4 images labelled. Present in: tumour 1, stroma 1, necrosis 1.")
    assert state.next_step() == "Next: label the other 3 images, or build a prototype bank."
    state.toggle(first(state), STROMA)
    assert state.next_step() == "Next: find images that hold stroma; none is labelled so yet."


def test_two_projects_after_each_other_share_nothing(state: LabelsState, tmp_path: Path):
    state.toggle(first(state), TUMOUR)
    state.show_listing(TUMOUR)
    state.session.open(made(tmp_path / "other", count=2))
    assert (len(state.images), state.can_undo, state.images.listing) == (2, False, LabelFilter.ALL)
    state.session.close_project()
    assert len(state.images) == 0
    assert state.needs() is not None
    assert "Open or make a project first" in state.needs()


def test_who_has_labelled_is_recorded(tmp_path: Path):
    session = Session(InlineRunner(), lambda: Settings(person=" Ada "))
    state = LabelsState(session)
    session.open(made(tmp_path / "project"))
    state.toggle(first(state), TUMOUR)
    connection = sqlite3.connect(tmp_path / "project" / "project.db")
    assert connection.execute("SELECT source FROM labels").fetchall() == [("person: Ada",)]
    connection.close()


def test_classes_get_colours_and_keys_and_new_ones_an_id_of_their_own(state: LabelsState):
    changed = Heard(state.session.schema_changed)
    state.set_color(TUMOUR, "#123456")
    state.set_shortcut(STROMA, "s")
    state.add_class(" mucus ")
    assert state.schema is not None
    assert [(c.id, c.name, c.color, c.shortcut) for c in state.schema.classes] == [
        (1, "tumour", "#123456", "1"),
        (2, "stroma", "#0072B2", "s"),
        (3, "necrosis", "#F0E442", "3"),
        (4, "mucus", "#D55E00", "2"),
    ]
    assert len(changed) == 3
    with pytest.raises(SchemaError, match="key '1' stands twice"):
        state.set_shortcut(STROMA, "1")
    with pytest.raises(SchemaError, match="key 's' stands twice"):
        state.set_shortcut(TUMOUR, "S")
    with pytest.raises(SchemaError, match="stands twice"):
        state.add_class("Tumour")
    with pytest.raises(SchemaError, match="is empty"):
        state.add_class(" ")
    assert len(changed) == 3


def test_classes_stay_while_a_job_works_with_them(tmp_path: Path):
    def working() -> Job[None]:
        yield Progress("Working", 0, 1)

    session = Session(StepRunner())
    state = LabelsState(session)
    session.open(made(tmp_path / "project"))
    session.run("Train", working(), lambda _: None)
    with pytest.raises(SchemaError, match="Train is under way"):
        state.add_class("mucus")
    session.close()


def test_labels_that_cannot_be_written_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_protoseg.project.database._BUSY_SECONDS", 0.1)
    state = LabelsState(Session(InlineRunner()))
    state.session.open(made(tmp_path / "project"))
    state.toggle(first(state), TUMOUR)
    problems = Heard(state.session.went_wrong)
    other = sqlite3.connect(tmp_path / "project" / "project.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not state.session.attempt(lambda: state.toggle(first(state), TUMOUR))
    assert not state.session.attempt(lambda: not_kept(state.undo()))
    assert len(problems) == 2
    assert state.images[0].label == (1, -1, -1)
    other.close()
    state.undo()
    assert stored(state)[0] == (-1, -1, -1)


def not_kept(result: object) -> None:
    """Take what a verb returns, where only whether it works is asked."""
