"""A journal outlives its program: what is found again, told, stored, shortened and refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    Project,
)
from napari_protoseg.project.edits import EditKind, NewStep
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.project.lock import LOCK, LockOwner
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal, Recovered, Recovery, recover
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SHAPE = (4, 6)
SURE = np.full(SHAPE, 0.5, np.float16)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{k}.png", content_hash=str(k), width=6, height=4, label=(1, 1)
            )
            for k in range(2)
        )
        project.introduce("Ada")
        yield project


def source(recipe: str = "{}") -> MaskSource:
    return MaskSource(round_id=None, label_condition="given", recipe_json=recipe, created=NOW)


def rows(*values: int) -> np.ndarray:
    """Return a mask with one class in each row."""
    return np.repeat(np.array(values, np.uint8)[:, None], SHAPE[1], axis=1)


def predicted(value: int) -> PredictedMask:
    return PredictedMask(1, np.full(SHAPE, value, np.uint8), SURE)


def stroke(edited: EditedMask, row: int, value: int, now: datetime = NOW) -> NewStep:
    drawn = edited.mask.copy()
    drawn[row] = value
    step = edited.stroke(drawn, author="Ada", now=now)
    assert step is not None
    return step


def undone(edited: EditedMask) -> list[list[list[int]]]:
    """Return every mask on the way back, the newest first."""
    seen = [edited.mask.tolist()]
    while edited.undo(now=NOW) is not None:
        seen.append(edited.mask.tolist())
    return seen


def test_what_was_not_stored_is_told_and_then_stored(project: Project) -> None:
    journal = Journal(project, 1)
    edited, recovered = journal.open()
    assert recovered is None
    later = NOW + timedelta(minutes=3)
    journal.append([stroke(edited, 0, 1), stroke(edited, 1, 2, later)])
    assert project.mask_summaries() == {}
    _, recovered = journal.open()
    assert recovered == Recovered(1, 2, ("Ada",), later)
    assert recover(project) == Recovery((recovered,), ())
    assert recover(project) == Recovery((), ())
    summary = project.mask_summaries()[1]
    assert (summary.corrected_by, summary.corrected) == ("Ada", later)
    assert not summary.is_of_model


def test_steps_that_were_drawn_and_undone_leave_an_image_without_a_mask(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    step = stroke(edited, 0, 1)
    back = edited.undo(now=NOW)
    assert back is not None
    journal.append([step, back])
    assert journal.fold() == 2
    assert project.mask_summaries() == {}
    assert project.read_mask(1) is None
    edited, _ = journal.open()
    assert (edited.next_undo is None, edited.next_redo is None) == (True, False)


def test_everyone_who_reads_the_mask_sees_the_strokes_before_it_is_stored(
    project: Project,
) -> None:
    project.write_mask(predicted(1), source())
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 0, 2)])
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.mask[:, 0].tolist() == [2, 1, 1, 1]
    assert stored.confidence[:, 0].tolist() == [1, 0.5, 0.5, 0.5]
    project.write_mask(predicted(2), source())
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.origins[:, 0].tolist() == [Origin.PERSON, *[Origin.MODEL] * 3]
    assert project.mask_summaries()[1].corrected_by == "Ada"


def test_a_step_that_comes_twice_counts_once(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    step = stroke(edited, 0, 1)
    journal.append([step])
    back = edited.undo(now=NOW)
    assert back is not None
    journal.append([step, back])
    journal.append([back])
    assert len(project.open_journal(1).steps) == 2
    assert project.read_mask(1) is None


def test_a_prediction_that_others_store_is_a_step_of_an_image_that_was_opened(
    project: Project,
) -> None:
    for image_id in (1, 2):
        project.write_mask(
            PredictedMask(image_id, np.full(SHAPE, 1, np.uint8), np.zeros(SHAPE, np.float16)),
            source("1"),
        )
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 0, 2)])
    project.write_mask(predicted(2), source("2"))
    edited, _ = journal.open()
    assert edited.source == source("2")
    step = edited.undo(now=NOW)
    assert step is not None
    assert step.edit.kind is EditKind.MODEL
    assert edited.source == source("1")
    journal.append([step])
    journal.fold()
    assert project.mask_summaries()[1].recipe_json == "1"
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.mask[:, 0].tolist() == [2, 1, 1, 1]
    assert stored.confidence[:, 0].tolist() == [1, 0, 0, 0], "of what was undone it is unknown"
    assert project.open_journal(2).steps == (), "nobody has looked at the other one"


def test_an_import_leaves_the_pixels_of_a_person_and_is_a_step(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 0, 1)])
    mask = np.full(SHAPE, 2, np.uint8)
    project.store_imports({1: mask}, person="Bob", now=NOW)
    edited, _ = journal.open()
    assert edited.mask[:, 0].tolist() == [1, 2, 2, 2]
    assert edited.origin_of(0, 0).person == "Ada"
    assert (edited.origin_of(1, 0).origin, edited.origin_of(1, 0).person) == (
        Origin.IMPORTED,
        "Bob",
    )
    assert [mask[1][0] for mask in undone(edited)] == [2, 0, 0]


def test_an_import_that_says_nothing_leaves_what_steps_have_made(project: Project) -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    journal = Journal(project, 1)
    edited, _ = journal.open()
    spread = edited.propagate(np.ones(SHAPE, np.uint8), author="Ada", now=NOW)
    assert spread is not None
    journal.append([spread])
    project.store_imports({1: nothing}, person="Bob", now=NOW)
    stored = project.read_mask(1)
    assert stored is not None
    assert (stored.origins == Origin.PROPAGATED).all()
    back = edited.undo(now=NOW)
    assert back is not None
    journal.append([back])
    project.store_imports({1: nothing}, person="Bob", now=NOW)
    assert project.mask_summaries() == {}
    again = edited.redo(now=NOW)
    assert again is not None
    journal.append([again])
    stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask == 1).all()


def test_an_import_brings_nothing_back_that_was_undone_while_it_read_its_files(
    project: Project,
) -> None:
    project.write_mask(predicted(1), source())
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 0, 2)])
    mask = np.zeros(SHAPE, np.uint8)
    mask[3] = 2
    back = edited.undo(now=NOW)
    assert back is not None
    journal.append([back])
    project.store_imports({1: mask}, person="Bob", now=NOW)
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.mask[:, 0].tolist() == [1, 1, 1, 2]
    assert stored.origins[:, 0].tolist() == [
        Origin.MODEL,
        Origin.MODEL,
        Origin.MODEL,
        Origin.IMPORTED,
    ]


def test_a_stroke_over_what_others_have_stored_goes_back_to_that(project: Project) -> None:
    project.write_mask(predicted(1), source())
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 3, 2)])
    project.write_mask(predicted(2), source())  # the person still sees 1
    back = edited.undo(now=NOW)
    assert back is not None
    drawn = edited.mask.copy()
    drawn[0] = 0
    new = edited.stroke(drawn, author="Ada", now=NOW)
    assert new is not None
    assert journal.append([back, new]) == [Outcome.REFUSED, Outcome.OVER_OTHERS]
    edited, _ = journal.open()
    assert [[row[0] for row in mask] for mask in undone(edited)] == [
        [0, 2, 2, 2],
        [2, 2, 2, 2],
        [1, 1, 1, 2],
        [1, 1, 1, 1],
    ]


def test_a_stroke_whose_forerunner_was_not_recorded_goes_back_to_what_stands_there(
    project: Project,
) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    stroke(edited, 0, 1)
    assert journal.append([stroke(edited, 0, 2)]) == [Outcome.OVER_OTHERS]
    edited, _ = journal.open()
    assert [mask[0][0] for mask in undone(edited)] == [2, 0]


def opened_without_a_journal(project: Project) -> EditedMask:
    """Open an image while another program has the project, then close it."""
    project.close()
    lock = project.folder / LOCK
    lock.write_text(LockOwner.here().model_copy(update={"host": "elsewhere"}).model_dump_json())
    with Project.open(project.folder) as read_only:
        edited, _ = Journal(read_only, 1).open()
    lock.unlink()
    return edited


@pytest.mark.parametrize(("later", "outcome"), [(1, Outcome.AS_MADE), (2, Outcome.OVER_OTHERS)])
def test_strokes_on_a_mask_that_is_predicted_anew_before_it_has_a_journal_go_back_to_that(
    project: Project, later: int, outcome: Outcome
) -> None:
    project.write_mask(predicted(1), source())
    edited = opened_without_a_journal(project)
    steps = [stroke(edited, row, 2) for row in (0, 1)]
    with Project.open(project.folder) as again:
        again.write_mask(PredictedMask(1, rows(1, later, later, later), SURE), source())
        assert Journal(again, 1).append(steps) == [Outcome.AS_MADE, outcome]
        edited, _ = Journal(again, 1).open()
        ways = [[row[0] for row in mask] for mask in undone(edited)]
        left = [later, later]
        assert ways == [[2, 2, *left], [2, later, *left], [1, later, *left]]


def test_a_proposal_on_a_mask_without_a_journal_leaves_what_others_have_imported(
    project: Project,
) -> None:
    project.write_mask(predicted(1), source())
    edited = opened_without_a_journal(project)
    steps = [stroke(edited, 0, 2)]
    proposal = edited.enter_prediction(predicted(2), source("other"), now=NOW)
    assert proposal is not None
    with Project.open(project.folder) as again:
        again.store_imports({1: rows(1, 1, 1, 0)}, person="Bea", now=NOW)
        journal = Journal(again, 1)
        assert journal.append([*steps, proposal]) == [Outcome.OVER_OTHERS] * 2
        stored = again.read_mask(1)
        assert stored is not None
        assert stored.mask[:, 0].tolist() == [2, 1, 1, 2]
        assert stored.origins[1:, 0].tolist() == [Origin.IMPORTED, Origin.IMPORTED, Origin.MODEL]
        edited, _ = journal.open()
        assert [[row[0] for row in mask] for mask in undone(edited)] == [
            [2, 1, 1, 2], [2, 1, 1, 1], [1, 1, 1, 1]
        ]  # fmt: skip
        assert (edited.origins[:3] == Origin.IMPORTED).all()


def test_what_others_of_the_same_name_have_drawn_since_is_not_given_back(project: Project) -> None:
    journal = Journal(project, 1)
    first, _ = journal.open()
    journal.append([stroke(first, 0, 1)])
    (edited, _), (other, _) = journal.open(), journal.open()
    journal.append([stroke(other, 0, 2)])
    step = edited.release(np.ones(edited.shape, np.bool_), author="Ada", now=NOW)
    assert step is not None
    assert journal.append([step]) == [Outcome.REFUSED]
    edited, _ = journal.open()
    assert edited.mask[0, 0] == 2
    assert edited.is_protected[0, 0]


def test_what_others_have_drawn_alike_is_there_already(project: Project) -> None:
    journal = Journal(project, 1)
    (edited, _), (other, _) = journal.open(), journal.open()
    drawn = stroke(edited, 0, 1)
    journal.append([stroke(other, 0, 1)])
    assert journal.append([drawn]) == [Outcome.THERE]
    edited, _ = journal.open()
    assert [mask[0][0] for mask in undone(edited)] == [1, 0]


def test_names_outlive_the_history(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, row, 1) for row in range(3)])
    recover(project, most_edits=1)
    edited, _ = journal.open()
    assert [edited.origin_of(row, 0).person for row in range(4)] == ["Ada", "Ada", "Ada", None]
    assert edited.origin_of(0, 0).time is None
    assert edited.origin_of(2, 0).time == NOW


@pytest.mark.parametrize("seed", range(20))
def test_a_history_that_was_shortened_leads_through_the_same_masks(
    project: Project, seed: int
) -> None:
    random = np.random.default_rng(seed)
    journal = Journal(project, 1)
    edited, _ = journal.open()
    for _ in range(12):
        match random.integers(4):
            case 0:
                step = edited.undo(now=NOW)
            case 1:
                step = edited.redo(now=NOW)
            case _:
                drawn = random.integers(0, 3, SHAPE, dtype=np.uint8)
                step = edited.stroke(drawn, author="Ada", now=NOW)
        if step is not None:
            journal.append([step])
    before, _ = journal.open()
    redone, _ = journal.open()
    forth = [redone.mask.tolist() for _ in range(12) if redone.redo(now=NOW) is not None]
    project.shorten_journals(most_edits=0, most_bytes=0)
    assert undone(journal.open()[0]) == undone(before), "what is not stored yet is kept whole"
    way = undone(journal.open()[0])
    recover(project, most_edits=4)
    edited, _ = journal.open()
    kept = undone(edited)
    assert kept == way[: len(kept)]
    assert len(kept) - 1 + len(forth) <= max(4, len(forth))
    edited, _ = journal.open()
    assert [edited.mask.tolist() for _ in range(12) if edited.redo(now=NOW) is not None] == forth
    edited, _ = journal.open()
    step = edited.stroke(np.full(SHAPE, 1, np.uint8), author="Ada", now=NOW)
    if step is not None:
        assert journal.append([step]) == [Outcome.AS_MADE]
    assert np.array_equal(journal.open()[0].mask, edited.mask)


def test_a_history_is_shortened_by_its_bytes_and_keeps_the_last_edit(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, row, 1) for row in range(4)])
    recover(project, most_bytes=1)
    edited, _ = journal.open()
    assert len(undone(edited)) == 2


def test_one_damaged_journal_keeps_no_other_image_from_being_stored(project: Project) -> None:
    for image_id in (1, 2):
        journal = Journal(project, image_id)
        edited, _ = journal.open()
        journal.append([stroke(edited, 0, 1)])
    with closing(sqlite3.connect(project.folder / "project.db")) as connection, connection:
        connection.execute("UPDATE edits SET pixels = x'00' WHERE image_id = 1")
    recovery = recover(project)
    assert [found.image_id for found in recovery.recovered] == [2]
    assert ["damaged" in str(error) for error in recovery.failed] == [True]
    assert list(project.mask_summaries()) == [2]


def test_masks_that_are_gone_keep_no_other_image_from_being_stored(project: Project) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    journal.append([stroke(edited, 0, 1)])
    journal.fold()
    journal.append([stroke(edited, 1, 1)])
    (project.folder / "arrays.zarr").rename(project.folder / "elsewhere")
    other = Journal(project, 2)
    drawn, _ = other.open()
    other.append([stroke(drawn, 0, 1)])
    recovery = recover(project)
    assert [found.image_id for found in recovery.recovered] == [2]
    assert ["arrays.zarr" in str(error) for error in recovery.failed] == [True]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE edits SET pixels = x'00' WHERE number = 1",
        "UPDATE edits SET pixels = CAST(substr(pixels, 1, 30) || x'ff' AS BLOB) WHERE number = 1",
        "DELETE FROM edits WHERE number = 1",
        "UPDATE edits SET edit = 1 WHERE number = 3",
        "PRAGMA ignore_check_constraints = ON; UPDATE edits SET kind = 'x' WHERE number = 1",
        "UPDATE edits SET time = 'yesterday'",
        "UPDATE edits SET source_after = '{}' WHERE number = 1",
    ],
)
def test_a_damaged_journal_is_refused(project: Project, damage: str) -> None:
    journal = Journal(project, 1)
    edited, _ = journal.open()
    steps = [stroke(edited, 0, 1), stroke(edited, 1, 1)]
    for _ in range(2):
        back = edited.undo(now=NOW)
        assert back is not None
        steps.append(back)
    journal.append(steps)
    with closing(sqlite3.connect(project.folder / "project.db")) as connection, connection:
        connection.executescript(damage)
    with pytest.raises(ProjectError, match="damaged"):
        journal.open()


def test_a_damaged_mask_that_nobody_has_corrected_is_predicted_again_with_a_new_history(
    project: Project,
) -> None:
    journal = Journal(project, 1)
    journal.open()
    project.write_mask(predicted(1), source())
    (shard,) = (project.folder / "arrays.zarr" / "masks").rglob("c/0/0/0")
    shard.unlink()
    with pytest.raises(ProjectError, match="damaged"):
        journal.open()
    project.write_mask(predicted(2), source())
    edited, _ = journal.open()
    assert (edited.mask == 2).all()
    step = stroke(edited, 0, 1)
    assert journal.append([step]) == [Outcome.AS_MADE]
    assert np.array_equal(journal.open()[0].mask, edited.mask)


def test_a_project_that_was_gone_for_a_while_can_still_be_written(project: Project) -> None:
    away = project.folder.with_name("away")
    project.folder.rename(away)
    with pytest.raises(StorageError):
        project.require_writable()
    away.rename(project.folder)
    project.require_writable()
    assert not project.is_read_only
