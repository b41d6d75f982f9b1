"""Masks that are gone: they are made again as a check says, and what people have drawn is named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from drawing import draw
from driven_jobs import finish
from tiny_project import CPU, NOW

from napari_protoseg.errors import MissingError, ProjectError, ProtosegError
from napari_protoseg.events import Event, Notice, Progress, Request, Severity
from napari_protoseg.exports.folder import Exported
from napari_protoseg.jobs import batches
from napari_protoseg.jobs.apply import AppliedModel, ApplyModel, apply_model
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import ExportFormat
from napari_protoseg.jobs.lost_masks import give_up_mask
from napari_protoseg.jobs.make_masks import MadeMasks, make_masks
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.edit_codec import JournalError
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.review.journal import Journal

RECIPE = Recipe(flip=False)
DRAWN, UNDONE, ACCEPTED, *PLAIN = range(1, 17)


@pytest.fixture
def project(trained: Path) -> Iterator[Project]:
    """A project with masks of a model, on two of which Ada has drawn, and whose arrays are gone."""
    with Project.open(trained / "project") as project:
        made(project)
        for image_id in (DRAWN, UNDONE):
            stored = project.read_mask(image_id)
            assert stored is not None
            draw(project, image_id, 1 + stored.mask % 4, now=NOW)
        journal = Journal(project, UNDONE)
        step = journal.open()[0].undo(now=NOW)
        assert step is not None
        journal.append([step])
        journal.fold()
        project.set_review_status(ACCEPTED, ReviewStatus.ACCEPTED)
        shutil.move(project.folder / "arrays.zarr", trained / "away")
        yield project


def made(project: Project) -> tuple[MadeMasks | None, list[str]]:
    result, events = finish(make_masks(project, RECIPE, device=CPU, now=NOW))
    return result, warnings(events)


def warnings(events: list[Event]) -> list[str]:
    notices = [event for event in events if isinstance(event, Notice)]
    return [notice.text for notice in notices if notice.severity is Severity.WARNING]


def stop_at(stage: str) -> Callable[[Event], Request | None]:
    def answer(event: Event) -> Request | None:
        is_there = isinstance(event, Progress) and event.stage == stage
        return Request.STOP if is_there else None

    return answer


def problems(project: Project) -> dict[str, str]:
    """Return what a check says to do about each image with a problem."""
    report, _ = finish(check_project(project, images=False))
    return {problem.where.split(" (")[0]: problem.remedy for problem in report.problems}


def test_all_that_can_be_made_again_is_and_the_others_are_named(project: Project, trained: Path):
    result, said = made(project)
    assert result == MadeMasks(15, 0)
    accepted, left, undone = said
    assert accepted.startswith("1 accepted masks are damaged or gone")
    assert left.startswith("Not made again: image 1: the mask is missing. Bring back")
    assert undone.startswith("Made again: image 2: its mask was lost, and what was undone there")
    assert project.review_states() == {}
    with pytest.raises(MissingError):
        project.read_mask(DRAWN)
    (problem,) = problems(project).values()
    assert "Keep the present arrays.zarr, too" in problem
    arrays = project.folder / "arrays.zarr"
    shutil.move(arrays, trained / "meanwhile")
    shutil.move(trained / "away", arrays)
    assert problems(project).keys() == {f"image {i}" for i in (UNDONE, ACCEPTED, *PLAIN)}
    assert made(project) == (MadeMasks(16, 0), [])
    assert problems(project) == {}
    stored = project.read_mask(DRAWN)
    assert stored is not None
    assert stored.is_protected.any()


def test_what_a_check_says_of_masks_that_are_gone_works(project: Project):
    for _ in range(2):
        found = problems(project)
        again = {image for image, remedy in found.items() if "make the masks again" in remedy}
        assert found.keys() - again == {"image 1"}
        made(project)
    assert again == set()


def test_what_is_left_is_named_also_where_the_job_is_stopped(project: Project):
    job = make_masks(project, RECIPE, device=CPU, now=NOW)
    result, events = finish(job, stop_at("Making masks"))
    assert result is None
    left, undone = warnings(events)[-2:]
    assert left.startswith("Not made again: image 1: ")
    assert undone.startswith("Made again: image 2: ")


def test_what_is_left_is_named_also_where_a_later_batch_fails(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "masks_per_shard", lambda *size: 4)
    project.image(PLAIN[-1]).path.unlink()
    events: list[Event] = []
    with pytest.raises(ProtosegError, match=r"no such file"):
        events.extend(make_masks(project, RECIPE, device=CPU, now=NOW))
    assert [event for event in events if event == Progress("Making masks", 12, 16)]
    left, undone = warnings(events)[-2:]
    assert left.startswith("Not made again: image 1: ")
    assert undone.startswith("Made again: image 2: ")


def test_looking_at_accepted_masks_can_be_stopped(project: Project):
    job = make_masks(project, RECIPE, device=CPU, now=NOW)
    result, events = finish(job, stop_at("Looking at accepted masks"))
    assert result is None
    assert events[-1] == Progress("Looking at accepted masks", 0, 1)


def test_an_accepted_mask_that_cannot_be_read_just_then_is_left_and_named(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    project.set_review_status(PLAIN[0], ReviewStatus.ACCEPTED)
    before = project.read_mask(ACCEPTED)
    (shard,) = (project.folder / "arrays.zarr" / "masks").rglob("c/0/0/0")
    aside = trained / "shard"

    def answer(event: Event) -> None:
        if event == Progress("Looking at accepted masks", 0, 2):
            shard.rename(aside)
            shard.symlink_to(shard)
        elif aside.exists():
            shard.unlink()
            aside.rename(shard)

    result, events = finish(make_masks(project, RECIPE, device=CPU, now=NOW), answer)
    assert result == MadeMasks(14, 2)
    (said,) = warnings(events)
    assert said.startswith(f"Accepted, and not looked at: image {ACCEPTED}: ")
    assert str(shard) in said
    after = project.read_mask(ACCEPTED)
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.mask, before.mask)
    assert project.review_states().keys() == {ACCEPTED, PLAIN[0]}


@pytest.mark.parametrize("form", ExportFormat)
def test_an_export_ends_at_a_lost_mask_and_leaves_the_earlier_one(
    project: Project, trained: Path, form: ExportFormat
):
    arrays, out = project.folder / "arrays.zarr", trained / "out"
    shutil.move(trained / "away", arrays)
    exported, _ = finish(export_project(project, form, out, RECIPE, device=CPU, now=NOW))
    assert exported == Exported(out, 16)
    before = sorted(out.rglob("*"))
    shutil.move(arrays, trained / "away")
    made(project)
    job = export_project(project, form, out, RECIPE, device=CPU, now=NOW, overwrite=True)
    with pytest.raises(MissingError, match=r"^image 1: the mask is missing"):
        finish(job)
    assert sorted(out.rglob("*")) == before, "of image 1 nothing else is left"


def drawn_on(project: Project, image_id: int) -> np.ndarray:
    """Return a mask in which Ada has drawn a few rows over that of an image, in two strokes.

    The second is in the journal alone.
    """
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    for rows in (slice(0, 3), slice(10, 13)):
        drawn = edited.mask.copy()
        drawn[rows] = 1 + drawn[rows] % 4
        edited.introduce("Ada", project.introduce("Ada"))
        step = edited.stroke(drawn, author="Ada", now=NOW)
        assert step is not None
        journal.append([step])
        if rows.start == 0:
            journal.fold()
    return edited.mask


def damage_journal(project: Project, image_id: int, change: str) -> None:
    with sqlite3.connect(project.folder / "project.db") as database:
        database.execute(
            f"UPDATE edits SET {change} WHERE image_id = :id AND number = (SELECT max(number)"
            " FROM edits WHERE image_id = :id)",
            {"id": image_id},
        )
    database.close()


def test_of_a_lost_mask_that_is_given_up_what_its_journal_has_stays(project: Project):
    made(project)
    image = project.image(DRAWN)
    drawn = np.full((image.height, image.width), 3, np.uint8)
    (problem,) = problems(project).values()
    assert problem.endswith(
        "what is lost of it: a check on a terminal says how."
        " On a terminal: protoseg check PROJECT --give-up NUMBER"
    )
    project.set_review_status(DRAWN, ReviewStatus.FLAGGED)
    finding = give_up_mask(project, DRAWN, now=NOW)
    assert finding.where.startswith("image 1 (")
    stored = project.read_mask(DRAWN)
    assert stored is not None
    assert stored.is_protected.all()
    assert finding.remedy.endswith(f"are there: {drawn.size:,}.")
    assert project.mask_summaries()[DRAWN].corrected_by == "Ada"
    assert DRAWN not in project.review_states()
    assert problems(project) == {}
    assert made(project) == (MadeMasks(16, 0), [])
    after = project.read_mask(DRAWN)
    assert after is not None
    np.testing.assert_array_equal(after.mask, stored.mask)
    np.testing.assert_array_equal(after.setters, stored.setters)
    assert draw(project, DRAWN, drawn, now=NOW).mask.all()
    with pytest.raises(ProjectError, match=r"^image 1: nothing of its mask and its journal is"):
        project.give_up_mask(DRAWN, now=NOW)


def test_a_mask_that_is_given_up_is_made_anew_where_nobody_has_drawn(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    before = drawn_on(project, PLAIN[0])
    stored = project.read_mask(PLAIN[0])
    assert stored is not None
    shutil.rmtree(project.folder / "arrays.zarr")
    assert project.give_up_mask(PLAIN[0], now=NOW) == stored.is_protected.sum() > 0
    left = project.read_mask(PLAIN[0])
    assert left is not None
    np.testing.assert_array_equal(left.mask, np.where(stored.is_protected, before, 0))
    np.testing.assert_array_equal(left.setters, np.where(stored.is_protected, stored.setters, 0))
    assert not left.source.is_of_model, "it is to be made again around them"
    made(project)
    again = project.read_mask(PLAIN[0])
    assert again is not None
    np.testing.assert_array_equal(again.mask, before)
    np.testing.assert_array_equal(again.setters != 0, np.ones_like(before, bool))


def test_a_lost_mask_with_a_damaged_journal_can_be_given_up(project: Project):
    damage_journal(project, DRAWN, "pixels = x'00'")
    assert project.give_up_mask(DRAWN, now=NOW) == 0
    assert project.read_mask(DRAWN) is None
    assert DRAWN not in problems(project)
    made(project)
    assert project.read_mask(DRAWN) is not None


@pytest.mark.parametrize("change", ["pixels = x'00'", "time = 'x'"])
def test_a_damaged_journal_is_given_up_without_the_mask_on_disk(
    project: Project, trained: Path, change: str
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    drawn_on(project, PLAIN[0])
    damage_journal(project, PLAIN[0], change)
    with pytest.raises(JournalError, match=r"what is lost of it"):
        project.read_mask(PLAIN[0])
    (problem,) = problems(project).values()
    assert problem.endswith("protoseg check PROJECT --give-up NUMBER")
    kept = project.give_up_mask(PLAIN[0], now=NOW)
    stored = project.read_mask(PLAIN[0])
    assert stored is not None
    assert kept == stored.is_protected.sum() == 3 * stored.mask.shape[1]
    assert stored.is_protected[:3].all()
    assert stored.source.is_of_model
    assert problems(project) == {}


def test_a_damaged_edit_that_a_mask_holds_is_given_up_and_later_ones_stay(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    drawn = drawn_on(project, PLAIN[0])
    with sqlite3.connect(project.folder / "project.db") as database:
        database.execute(
            "UPDATE edits SET pixels = x'00' WHERE image_id = ? AND number = 1", (PLAIN[0],)
        )
    database.close()
    (problem,) = problems(project).values()
    assert problem.endswith("protoseg check PROJECT --give-up NUMBER")
    assert project.give_up_mask(PLAIN[0], now=NOW) == 6 * drawn.shape[1]
    stored = project.read_mask(PLAIN[0])
    assert stored is not None
    np.testing.assert_array_equal(stored.mask, drawn)
    assert Journal(project, PLAIN[0]).open()[0].undo(now=NOW) is None
    assert problems(project) == {}


def test_strokes_that_wait_while_a_mask_is_given_up_go_over_what_is_there(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    journal = Journal(project, PLAIN[0])
    edited, _ = journal.open()
    waiting = []
    for row in (0, 10, 20):
        drawn = edited.mask.copy()
        drawn[row] = 1 + drawn[row] % 4
        step = edited.stroke(drawn, author="Ada", now=NOW)
        assert step is not None
        waiting.append(step)
    imported = np.eye(*edited.mask.shape, dtype=np.uint8)
    project.store_imports({PLAIN[0]: imported}, person="Bea", now=NOW)
    shutil.rmtree(project.folder / "arrays.zarr")
    project.give_up_mask(PLAIN[0], now=NOW)
    assert journal.append(waiting) == [Outcome.OVER_OTHERS] * 3
    edited, _ = journal.open()
    for _ in waiting:
        undo = edited.undo(now=NOW)
        assert undo is not None
        assert journal.append([undo]) == [Outcome.AS_MADE]
    left = project.read_mask(PLAIN[0])
    assert left is not None
    np.testing.assert_array_equal(left.mask, imported, "nothing of the lost mask comes back")


def test_a_stroke_behind_an_undo_that_is_refused_brings_nothing_of_a_lost_mask_back(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    journal = Journal(project, PLAIN[0])
    edited, _ = journal.open()

    def stroke(rows: slice) -> NewStep:
        drawn = edited.mask.copy()
        drawn[rows] = 1 + drawn[rows] % 4
        step = edited.stroke(drawn, author="Ada", now=NOW)
        assert step is not None
        return step

    journal.append([stroke(slice(0, 3))])
    undo = edited.undo(now=NOW)
    assert undo is not None
    waiting = [undo, stroke(slice(10, 13))]
    shutil.rmtree(project.folder / "arrays.zarr")
    kept = project.give_up_mask(PLAIN[0], now=NOW)
    assert journal.append(waiting) == [Outcome.REFUSED, Outcome.OVER_OTHERS]
    edited, _ = journal.open()
    undone = edited.undo(now=NOW)
    assert undone is not None
    journal.append([undone])
    left = project.read_mask(PLAIN[0])
    assert left is not None
    assert kept == np.count_nonzero(left.setters) == 3 * left.mask.shape[1]


def test_what_was_propagated_or_imported_stays_too(project: Project, trained: Path):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    image_id = PLAIN[0]
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    imported, propagated = np.zeros_like(edited.mask), np.zeros_like(edited.mask)
    imported[:4] = 2
    propagated[10:13] = 1 + edited.mask[10:13] % 4
    step = edited.propagate(propagated, author="Ada", now=NOW)
    assert step is not None
    journal.append([step])
    project.store_imports({image_id: imported}, person="Bea", now=NOW)
    edited, _ = journal.open()
    for step in (edited.release(imported == 2, author="Bea", now=NOW), edited.undo(now=NOW)):
        assert step is not None
        journal.append([step])
    shutil.rmtree(project.folder / "arrays.zarr")
    assert project.give_up_mask(image_id, now=NOW) == 7 * imported.shape[1]
    left = project.read_mask(image_id)
    assert left is not None
    np.testing.assert_array_equal(left.mask[:4], imported[:4])
    np.testing.assert_array_equal(left.mask[10:13], propagated[10:13])
    np.testing.assert_array_equal(left.confidence, imported == 2)


def test_masks_of_a_damaged_shard_are_given_up_and_made_beside_it(project: Project, trained: Path):
    arrays = project.folder / "arrays.zarr"
    shutil.move(trained / "away", arrays)
    drawn = drawn_on(project, PLAIN[0])
    shards = [path for path in arrays.rglob("c/*/*/*") if path.is_file()]
    before = {path: path.read_bytes()[:100] for path in shards}
    for path, content in before.items():
        path.write_bytes(content)
    assert project.give_up_mask(PLAIN[0], now=NOW) == 6 * drawn.shape[1]
    left = project.read_mask(PLAIN[0])
    assert left is not None
    np.testing.assert_array_equal(left.mask[10:13], drawn[10:13])
    result, said = made(project)
    assert result == MadeMasks(15, 0)
    assert [text for text in said if text.startswith("Not made again: image 1: ")]
    assert {path: path.read_bytes() for path in shards} == before, "they may be mended elsewhere"
    folded = [drawn_on(project, PLAIN[0]) for _ in range(4)][-1]
    assert len([path for path in arrays.rglob("c/*/*/*") if path.is_file()]) == 2 * len(shards)
    project.give_up_mask(DRAWN, now=NOW)
    assert made(project) == (MadeMasks(16, 0), [])
    assert problems(project) == {}
    stored = project.read_mask(PLAIN[0])
    assert stored is not None
    np.testing.assert_array_equal(stored.mask, folded)


def test_masks_are_made_beside_a_damaged_shard_that_no_mask_uses(project: Project, trained: Path):
    arrays = project.folder / "arrays.zarr"
    shutil.move(trained / "away", arrays)
    for path in [path for path in arrays.rglob("c/*/*/*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[:100])
    for image in project.images():
        project.give_up_mask(image.known_id, now=NOW)
    assert made(project) == (MadeMasks(16, 0), [])
    assert problems(project) == {}


def test_an_undone_release_keeps_the_imported_pixels_before_it(project: Project, trained: Path):
    arrays, image_id = project.folder / "arrays.zarr", PLAIN[0]
    shutil.move(trained / "away", arrays)
    image = project.images()[image_id - 1]
    imported = np.full((image.height, image.width), 2, np.uint8)
    project.store_imports({image_id: imported}, person="Bea", now=NOW)
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    released = edited.release(np.ones(imported.shape, bool), author="Bea", now=NOW)
    assert released is not None
    journal.append([released])
    journal.fold()
    assert project.mask_summaries()[image_id].corrected_by is None
    edited, _ = journal.open()
    undone = edited.undo(now=NOW)
    assert undone is not None
    journal.append([undone])
    shutil.move(arrays, trained / "away")
    _, said = made(project)
    left = [text for text in said if text.startswith("Not made again")]
    assert any(f"image {image_id}: " in text for text in left)


def test_a_model_that_is_applied_leaves_them_too(project: Project, trained: Path):
    request = ApplyModel(images=trained / "tiles")
    applied, events = finish(apply_model(project, request, None, device=CPU, now=NOW))
    assert applied == AppliedModel(added=0, predicted=15)
    (said,) = (text for text in warnings(events) if text.startswith("Not made again"))
    assert said.startswith("Not made again: image 1: ")
