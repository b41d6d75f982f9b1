"""A project that another process writes to: it can be looked at, and nothing changes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_runner import InlineRunner
from tiny_project import tree

from napari_protoseg.project.lock import LockOwner
from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.workbench import Workbench


def lock_for_ada(project: Path) -> None:
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (project / "project.lock").write_text(owner.model_dump_json())


@pytest.fixture
def bench(trained: Path) -> Iterator[Workbench]:
    lock_for_ada(trained / "project")
    session = Session(InlineRunner(), lambda: Settings(device="cpu"))
    bench = Workbench(session)
    session.open(trained / "project")
    yield bench
    session.close()


def test_every_page_says_who_has_the_project_and_offers_nothing_that_writes(bench: Workbench):
    assert "read-only" in bench.session.messages.shown
    for reason in (
        bench.labels.needs(),
        bench.labels.classes_need(),
        bench.labels.masks_need(),
        bench.labels.intake.take_needs(),
        bench.bank.needs(),
        bench.training.needs(),
        bench.training.resume_needs(),
        bench.training.second.needs(),
        bench.training.second.resume_needs(),
        bench.review.needs(),
        bench.review.masks_need(),
        bench.review.apply_needs(Path("images"), None),
        bench.export.needs(),  # no mask was made yet
    ):
        assert reason is not None
        assert "ada on elsewhere" in reason


def test_what_is_tried_nevertheless_is_refused_and_changes_nothing(bench: Workbench, trained: Path):
    session = bench.session
    before = tree(trained / "project")
    bench.labels.open_image(1)
    for attempt in (
        lambda: bench.labels.toggle(1, 1),
        lambda: bench.bank.set_muted(0, True),
        lambda: bench.review.mark(ReviewStatus.FLAGGED),
        bench.review.save,
        lambda: session.set_recipe(session.recipe),
    ):
        assert not session.attempt(attempt)
        assert "ada on elsewhere" in session.messages.last
    assert bench.review.maps.class_maps  # what a model sees can be looked at
    session.close_project()
    assert tree(trained / "project") == before


def test_once_it_is_free_it_is_opened_anew_for_writing(bench: Workbench, trained: Path):
    (trained / "project" / "project.lock").unlink()
    bench.session.open(trained / "project")
    assert bench.session.read_only() is None
    assert bench.session.messages.shown == ""
    assert bench.session.attempt(lambda: bench.labels.toggle(1, 1))


def test_a_person_may_take_it_over(bench: Workbench):
    bench.session.take_over()
    assert bench.session.read_only() is None
    assert "taken over from ada on elsewhere" in bench.session.messages.shown
    assert bench.session.attempt(lambda: bench.labels.toggle(1, 1))
