"""Person, model and import share a mask: who may change what, and how it is undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.edits import EditKind
from napari_protoseg.project.journal_changes import OpenedJournal
from napari_protoseg.project.records import MaskSource, Origin, PredictedMask
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=4, label_condition="given", recipe_json="{}", created=NOW)
SHAPE = (4, 6)


@pytest.fixture
def edited() -> EditedMask:
    people = {"Ada": 17, "Bob": 18}
    return EditedMask(OpenedJournal(1, SHAPE, None, (), 0, 0, True, people, 1), SCHEMA)


def predicted(value: int) -> PredictedMask:
    return PredictedMask(1, np.full(SHAPE, value, np.uint8), np.full(SHAPE, 0.5, np.float16))


def painted(edited: EditedMask, row: int, value: int) -> np.ndarray:
    drawn = edited.mask.copy()
    drawn[row] = value
    return drawn


def test_a_stroke_makes_the_pixels_that_differ_a_persons_by_name(edited: EditedMask) -> None:
    edited.enter_prediction(predicted(1), SOURCE, now=NOW)
    later = NOW + timedelta(minutes=1)
    drawn = painted(edited, 0, 2)
    drawn[0, 0] = 1
    step = edited.stroke(drawn, author="Ada", now=later)
    assert step is not None
    assert step.change.positions.tolist() == [1, 2, 3, 4, 5]
    assert np.array_equal(edited.mask, drawn)
    assert np.array_equal(edited.origins == Origin.PERSON, drawn == 2)
    by_ada, by_model = edited.origin_of(0, 1), edited.origin_of(0, 0)
    assert (by_ada.origin, by_ada.person, by_ada.time) == (Origin.PERSON, "Ada", later)
    assert (by_model.origin, by_model.person) == (Origin.MODEL, None)
    assert (by_model.round_id, by_model.time) == (4, NOW)


def test_only_the_named_block_is_looked_at(edited: EditedMask) -> None:
    drawn = np.full(SHAPE, 2, np.uint8)
    edited.stroke(drawn, author="Ada", now=NOW, block=(slice(1, 3), slice(2, 99)))
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:3, 2:] = 2
    assert np.array_equal(edited.mask, expected)
    assert np.array_equal(edited.is_protected, expected == 2)


def test_machines_leave_what_is_protected_and_a_person_need_not(edited: EditedMask) -> None:
    edited.stroke(painted(edited, 0, 1), author="Ada", now=NOW)
    imported = np.full(SHAPE, 2, np.uint8)
    imported[2:] = 0
    edited.import_mask(imported, author="Bob", now=NOW)
    assert edited.mask[:, 0].tolist() == [1, 2, 0, 0]
    edited.propagate(np.full(SHAPE, 1, np.uint8), author="Ada", now=NOW)
    assert edited.mask[:, 0].tolist() == [1, 2, 1, 1]
    edited.enter_prediction(predicted(2), SOURCE, now=NOW)
    assert edited.mask[:, 0].tolist() == [1, 2, 2, 2]
    assert edited.origins[:, 0].tolist() == [
        Origin.PERSON,
        Origin.IMPORTED,
        Origin.MODEL,
        Origin.MODEL,
    ]
    edited.stroke(painted(edited, 0, 2), author="Bob", now=NOW)
    assert edited.origin_of(0, 0).person == "Bob"


def test_a_person_releases_their_own_pixels_visibly_and_nobody_elses(edited: EditedMask) -> None:
    edited.stroke(painted(edited, 0, 1), author="Ada", now=NOW)
    edited.stroke(painted(edited, 1, 1), author="Bob", now=NOW)
    step = edited.release(np.ones(SHAPE, np.bool_), author="Ada", now=NOW)
    assert step is not None
    assert step.edit.kind is EditKind.RELEASE
    assert edited.mask[:2].tolist() == [[1] * 6] * 2
    assert edited.origins[:, 0].tolist() == [Origin.MODEL, Origin.PERSON, Origin.NONE, Origin.NONE]
    assert edited.origin_of(0, 0).person is None
    edited.enter_prediction(predicted(2), SOURCE, now=NOW)
    assert edited.mask[:, 0].tolist() == [2, 1, 2, 2]


def test_a_model_that_changes_nothing_makes_no_step(edited: EditedMask) -> None:
    assert edited.enter_prediction(predicted(1), SOURCE, now=NOW) is not None
    assert edited.enter_prediction(predicted(1), SOURCE, now=NOW) is None
    assert edited.undo(now=NOW) is not None
    assert edited.undo(now=NOW) is None


def test_undo_reaches_back_through_everything_and_redo_forth(edited: EditedMask) -> None:
    states = [(edited.mask.copy(), edited.setters.copy(), edited.source)]

    def keep() -> None:
        states.append((edited.mask.copy(), edited.setters.copy(), edited.source))

    edited.stroke(painted(edited, 0, 1), author="Ada", now=NOW)
    keep()
    edited.enter_prediction(predicted(1), SOURCE, now=NOW)
    keep()
    edited.stroke(painted(edited, 1, 0), author="Ada", now=NOW)
    keep()
    edited.release(edited.is_protected, author="Ada", now=NOW)
    keep()
    edited.enter_prediction(predicted(2), SOURCE, now=NOW)
    keep()

    def shown(state: tuple[np.ndarray, np.ndarray, MaskSource | None]) -> bool:
        return (
            np.array_equal(edited.mask, state[0])
            and np.array_equal(edited.setters, state[1])
            and edited.source == state[2]
        )

    seen = edited.mask.copy()
    for state in reversed(states[:-1]):
        step = edited.undo(now=NOW)
        assert step is not None
        seen[step.places] = step.change.after[0]
        assert np.array_equal(seen, edited.mask), "a canvas that writes these pixels shows it"
        assert shown(state)
    assert edited.next_undo is None
    for state in states[1:]:
        assert edited.redo(now=NOW) is not None
        assert shown(state)
    assert edited.redo(now=NOW) is None


def test_a_new_edit_drops_what_was_undone(edited: EditedMask) -> None:
    edited.stroke(painted(edited, 0, 1), author="Ada", now=NOW)
    edited.undo(now=NOW)
    assert edited.next_redo is not None
    edited.stroke(painted(edited, 0, 2), author="Ada", now=NOW)
    assert edited.next_redo is None


@pytest.mark.parametrize(
    "drawn", [np.full(SHAPE, 9, np.uint8), np.zeros((6, 4), np.uint8), np.zeros(SHAPE, np.int64)]
)
def test_what_is_no_mask_of_the_image_changes_nothing(
    edited: EditedMask, drawn: np.ndarray
) -> None:
    with pytest.raises(ProjectError):
        edited.stroke(drawn, author="Ada", now=NOW)
    assert not edited.mask.any()
    assert edited.next_undo is None


def test_the_views_cannot_be_written(edited: EditedMask) -> None:
    for view in (edited.mask, edited.setters):
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1
