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
from napari_protoseg.jobs.make_masks import MadeMasks, make_masks
from napari_protoseg.masks.recipe import Recipe
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


def test_a_lost_mask_that_is_given_up_is_made_and_drawn_anew(project: Project):
    made(project)
    (remedy,) = problems(project).values()
    assert "give it up for good, with the project closed" in remedy
    assert "protoseg check PROJECT --give-up NUMBER" in remedy
    project.set_review_status(DRAWN, ReviewStatus.FLAGGED)
    project.give_up_mask(DRAWN)
    assert project.read_mask(DRAWN) is None
    assert DRAWN not in project.review_states()
    assert problems(project) == {}
    assert made(project) == (MadeMasks(16, 0), [])
    image = project.images()[DRAWN - 1]
    drawn = np.full((image.height, image.width), 3, np.uint8)
    assert draw(project, DRAWN, drawn, now=NOW).is_protected.any()
    with pytest.raises(ProjectError, match=r"^image 1: its mask is not lost"):
        project.give_up_mask(DRAWN)


def test_a_sound_mask_with_a_damaged_journal_is_not_given_up(project: Project, trained: Path):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    journal = Journal(project, DRAWN)
    edited, _ = journal.open()
    step = edited.stroke(np.zeros_like(edited.mask), author="Ada", now=NOW)
    assert step is not None
    journal.append([step])
    with sqlite3.connect(project.folder / "project.db") as database:
        database.execute("UPDATE edits SET pixels = x'00' WHERE image_id = ?", (DRAWN,))
    database.close()
    with pytest.raises(ProjectError):
        project.give_up_mask(DRAWN)
    assert DRAWN in project.mask_summaries()


def test_a_stroke_that_waits_while_a_mask_is_given_up_goes_over_what_is_there(
    project: Project, trained: Path
):
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    journal = Journal(project, DRAWN)
    edited, _ = journal.open()
    drawn = edited.mask.copy()
    drawn[:3] = 1 + drawn[:3] % 4
    waiting = edited.stroke(drawn, author="Ada", now=NOW)
    assert waiting is not None
    shutil.rmtree(project.folder / "arrays.zarr")
    project.give_up_mask(DRAWN)
    assert journal.append([waiting]) == [Outcome.OVER_OTHERS]
    edited, _ = journal.open()
    undo = edited.undo(now=NOW)
    assert undo is not None
    journal.append([undo])
    assert not edited.mask.any()


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
    (left,) = (text for text in said if text.startswith("Not made again"))
    assert f"image {image_id}" in left


def test_a_model_that_is_applied_leaves_them_too(project: Project, trained: Path):
    request = ApplyModel(images=trained / "tiles")
    applied, events = finish(apply_model(project, request, None, device=CPU, now=NOW))
    assert applied == AppliedModel(added=0, predicted=15)
    (said,) = (text for text in warnings(events) if text.startswith("Not made again"))
    assert said.startswith("Not made again: image 1: ")
