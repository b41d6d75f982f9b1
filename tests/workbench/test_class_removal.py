"""A class that goes and comes back in the workbench, among other edits and with an image open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from inline_runner import InlineRunner, StepRunner
from tiny_project import CPU, NAMES, NOW, finish

from napari_protoseg.errors import SchemaError
from napari_protoseg.jobs.class_impact import ClassImpact
from napari_protoseg.jobs.make_masks import make_masks
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.workbench import Workbench

FIRST, SECOND, *_ = range(1, len(NAMES) + 1)


@pytest.fixture
def bench(trained: Path) -> Iterator[Workbench]:
    with Project.open(trained / "project") as project:
        finish(make_masks(project, Recipe(flip=False), device=CPU, now=NOW))
    session = Session(InlineRunner(), lambda: Settings(device="cpu", person="Ada"))
    bench = Workbench(session)
    session.open(trained / "project")
    yield bench
    bench.close()


def labels(bench: Workbench) -> list[tuple[int, ...]]:
    return [image.label for image in bench.session.require_project().images()]


def masks(bench: Workbench) -> list[list[list[int]]]:
    project = bench.session.require_project()
    found = (project.read_mask(image.known_id) for image in project.images())
    return [stored.mask.tolist() for stored in found if stored is not None]


def test_it_is_weighed_before_and_nothing_changes_by_that(bench: Workbench):
    found: list[ClassImpact] = []
    bench.labels.removals.weigh(FIRST, SECOND, found.append)
    assert [impact.question for impact in found] == [f"Merge {NAMES[0]} into {NAMES[1]}?"]
    assert bench.session.require_project().schema.names == NAMES


@pytest.mark.parametrize("heir", [None, SECOND])
def test_undo_brings_it_back_between_the_edits_of_labels_before_and_after(
    bench: Workbench, heir: int | None
):
    state, image = bench.labels, bench.labels.images.all[0].known_id
    steps = [(labels(bench), masks(bench))]
    state.toggle(image, FIRST)
    steps.append((labels(bench), masks(bench)))
    state.remove_class(FIRST, heir)
    steps.append((labels(bench), masks(bench)))
    state.toggle(image, SECOND)
    for before in reversed(steps):
        state.undo()
        assert (labels(bench), masks(bench)) == before
    assert not state.can_undo
    for after in steps[1:]:
        state.redo()
        assert (labels(bench), masks(bench)) == after


def test_it_can_be_brought_back_after_the_project_was_closed(bench: Workbench):
    before, folder = (labels(bench), masks(bench)), bench.session.require_project().folder
    bench.labels.remove_class(FIRST)
    bench.session.close_project()
    assert bench.labels.removals.last is None
    bench.session.open(folder)
    assert not bench.labels.can_undo
    gone = bench.labels.removals.last
    assert gone is not None
    assert gone.known.name == NAMES[0]
    bench.labels.restore_class()
    assert (labels(bench), masks(bench)) == before
    assert bench.labels.removals.last is None


def test_one_that_was_brought_back_is_no_step_to_undo_any_more(bench: Workbench):
    image = bench.labels.images.all[0].known_id
    before = labels(bench)
    bench.labels.toggle(image, SECOND)
    bench.labels.remove_class(FIRST)
    bench.labels.restore_class()
    bench.labels.undo()
    assert labels(bench) == before
    assert not bench.labels.can_undo


def test_pages_say_that_bank_and_round_cannot_be_used_until_it_is_back(bench: Workbench):
    assert bench.bank.cards
    assert (bench.bank.standing(), bench.training.standing()) == ("", "")
    assert bench.training.needs() is None
    bench.labels.remove_class(FIRST)
    assert bench.bank.cards == ()
    assert f"Bank 1 cannot be used: it was made with {NAMES[0]}" in bench.bank.standing()
    assert f"Round 1 cannot be used: it was made with {NAMES[0]}" in bench.training.standing()
    needs = bench.training.needs()
    assert needs is not None
    assert f"bank anew: the newest is of {NAMES[0]}" in needs
    assert bench.bank.needs() is None, "one can be built without it"
    bench.labels.undo()
    assert bench.bank.cards
    assert (bench.bank.standing(), bench.training.standing()) == ("", "")
    assert bench.training.needs() is None


def test_pages_say_that_labels_have_changed_since(bench: Workbench):
    bench.labels.toggle(bench.labels.images.all[0].known_id, SECOND)
    assert "the labels of 1 image have changed" in bench.bank.standing()
    assert "the labels of 1 image have changed" in bench.training.standing()
    bench.labels.undo()
    assert (bench.bank.standing(), bench.training.standing()) == ("", "")


def test_what_is_drawn_in_the_open_image_is_saved_first_and_the_image_shown_anew(
    bench: Workbench,
):
    session, image = bench.session, bench.labels.images.all[0]
    session.show(image)
    assert bench.opened.mask is not None
    drawn = bench.opened.mask.copy()
    drawn[:4] = FIRST
    bench.opened.drawn = lambda: drawn
    bench.opened.take_stroke()
    bench.labels.remove_class(FIRST)
    assert session.current is not None
    assert session.current.known_id == image.known_id
    assert bench.opened.mask is not None
    assert FIRST not in bench.opened.mask
    bench.labels.undo()
    stored = session.require_project().read_mask(image.known_id)
    assert stored is not None
    np.testing.assert_array_equal(stored.mask, drawn)


def test_it_cannot_go_while_a_task_runs(trained: Path):
    session = Session(StepRunner(), lambda: Settings(device="cpu"))
    bench = Workbench(session)
    session.open(trained / "project")
    bench.bank.build()
    with pytest.raises(SchemaError, match="Build bank is under way"):
        bench.labels.remove_class(FIRST)
    with pytest.raises(SchemaError, match="Build bank is under way"):
        bench.labels.removals.weigh(FIRST, None, lambda impact: None)
    assert session.require_project().schema.names == NAMES
    bench.close()
