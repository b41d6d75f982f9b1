"""Masks that are gone: they are made again as a check says, and what people have drawn is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import draw
from driven_jobs import finish, stop_after
from tiny_project import CPU, NOW

from napari_protoseg.errors import MissingError
from napari_protoseg.events import Event, Notice, Severity
from napari_protoseg.jobs.apply import AppliedModel, ApplyModel, apply_model
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.make_masks import MadeMasks, make_masks
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
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


def problems(project: Project) -> dict[str, str]:
    """Return what a check says to do about each image with a problem."""
    report, _ = finish(check_project(project, images=False))
    return {problem.where.split(" (")[0]: problem.remedy for problem in report.problems}


def test_all_that_can_be_made_again_is_and_the_others_are_named(project: Project, trained: Path):
    result, said = made(project)
    assert result == MadeMasks(14, 0)
    accepted, left = said
    assert accepted.startswith("1 accepted masks are damaged or gone")
    assert left.startswith("Not made again: image 1, image 2: the mask is missing. Bring back")
    assert project.review_states() == {}
    for image_id in (DRAWN, UNDONE):
        with pytest.raises(MissingError):
            project.read_mask(image_id)
    shutil.rmtree(project.folder / "arrays.zarr")
    shutil.move(trained / "away", project.folder / "arrays.zarr")
    assert problems(project).keys() == {f"image {i}" for i in (ACCEPTED, *PLAIN)}
    assert Journal(project, UNDONE).open()[0].next_redo is not None
    assert made(project) == (MadeMasks(16, 0), [])
    assert problems(project) == {}
    stored = project.read_mask(DRAWN)
    assert stored is not None
    assert stored.is_protected.any()


def test_what_a_check_says_of_masks_that_are_gone_works(project: Project):
    for _ in range(2):
        found = problems(project)
        again = {image for image, remedy in found.items() if "make the masks again" in remedy}
        assert found.keys() - again == {"image 1", "image 2"}
        made(project)
    assert again == set()


def test_what_is_left_is_named_also_where_the_job_is_stopped(project: Project):
    job = make_masks(project, RECIPE, device=CPU, now=NOW)
    result, events = finish(job, stop_after(2))
    assert result is None
    assert warnings(events)[-1].startswith("Not made again: image 1, image 2: ")


def test_a_model_that_is_applied_leaves_them_too(project: Project, trained: Path):
    request = ApplyModel(images=trained / "tiles")
    applied, events = finish(apply_model(project, request, None, device=CPU, now=NOW))
    assert applied == AppliedModel(added=0, predicted=14)
    (said,) = (text for text in warnings(events) if text.startswith("Not made again"))
    assert said.startswith("Not made again: image 1, image 2: ")
