"""Review without a window: what is seen of an image, what a person sets, and what is kept of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from desk import STROMA, Desk
from inline_runner import InlineRunner, StepRunner
from numpy.typing import NDArray
from tiny_project import record_images

from napari_protoseg.errors import ProjectError
from napari_protoseg.masks.recipe import Background, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Origin, PredictedMask, ReviewStatus
from napari_protoseg.training.config import Preset
from napari_protoseg.workbench.review_list import ReviewFilter


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk(InlineRunner())
    yield desk
    assert desk.problems == []
    desk.bench.close()


def unset(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a class for a corner that has another there."""
    return np.uint8(1 if mask[0, 0] != 1 else 2)


def test_before_the_first_bank_a_mask_can_be_drawn_and_is_kept(desk: Desk, made: Path):
    desk.open(made)
    desk.step()
    first = desk.image_id
    assert desk.bench.maps.class_maps == {}
    assert not desk.mask.any()
    desk.painter.paint()
    desk.step()
    assert desk.image_id != first
    stored = desk.stored(first)
    assert stored is not None
    assert np.all(stored.mask[:8, :8] == STROMA)
    assert np.count_nonzero(stored.is_protected) == 64
    assert stored.source.round_id is None
    desk.step(-1)
    assert np.all(desk.mask[:8, :8] == STROMA)
    item = desk.bench.review.current
    assert item is not None
    assert item.state() == "corrected by Ada"


def test_a_bank_alone_shows_class_maps_and_proposes_a_mask(desk: Desk, banked: Path):
    desk.open(banked)
    desk.step()
    assert desk.bench.maps.source == "bank 1, not trained yet"
    assert sorted(desk.bench.maps.class_maps) == [1, 2, 3, 4]
    assert desk.mask.any()
    desk.step()
    desk.step(-1)
    assert desk.stored() is None, "looking at an image stores nothing"


def test_what_is_drawn_over_a_prediction_is_the_persons_and_the_rest_the_models(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    assert desk.bench.maps.source == "round 1"
    proposed = desk.mask.copy()
    value = unset(proposed)
    desk.painter.paint(value)
    changed = desk.mask != proposed
    desk.bench.review.save()
    stored = desk.stored()
    assert stored is not None
    assert np.array_equal(stored.mask, desk.mask)
    assert np.array_equal(stored.origins == Origin.PERSON, changed)
    assert np.all(stored.origins[~changed & (proposed > 0)] == Origin.MODEL)
    assert stored.source.round_id == 1


def test_muting_a_prototype_changes_the_class_maps_of_the_open_image(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    (label,) = [k for k, v in enumerate(desk.session.current.label) if v == 1][:1]  # type: ignore[union-attr]
    class_id = desk.session.require_project().schema.ids[label]
    before = desk.bench.maps.class_maps[class_id]
    own = [c.index for c in desk.bench.bank.cards if c.tissue_class.id == class_id]
    for index in own:
        desk.bench.bank.set_muted(index, True)
    assert before.any()
    assert not desk.bench.maps.class_maps[class_id].any()
    for index in own:
        desk.bench.bank.set_muted(index, False)
    assert np.array_equal(desk.bench.maps.class_maps[class_id], before)


def test_a_prototype_is_shown_where_it_is_in_the_image(desk: Desk, trained: Path):
    desk.open(trained)
    assert desk.bench.bank.maps_need() == "Open an image first: click a crop."
    desk.bench.bank.open_crop(desk.bench.bank.cards[0].crops[0])
    assert desk.bench.maps.prototype_map is None
    desk.bench.bank.show_map(0)
    shown = desk.bench.maps.prototype_map
    assert shown is not None
    assert shown.shape == (64, 64)
    assert np.ptp(shown) > 0
    desk.bench.bank.show_map(None)
    assert desk.bench.maps.prototype_map is None


def test_the_background_rule_is_live_and_leaves_what_a_person_has_set(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    desk.painter.paint(unset(desk.mask))
    corner = desk.mask[:8, :8].copy()
    assert desk.mask.all()
    desk.bench.review.set_background(Background.MARGIN)
    desk.bench.review.set_margin(1.0)
    assert np.array_equal(desk.mask[:8, :8], corner)
    assert np.count_nonzero(desk.mask[8:, 8:] == 0) > 100
    desk.bench.review.set_background(Background.OFF)
    assert desk.mask.all()
    assert np.array_equal(desk.mask[:8, :8], corner)


def test_a_mask_corrected_before_any_training_follows_the_recipe_and_the_first_round(
    desk: Desk, banked: Path
):
    desk.open(banked)
    desk.step()
    desk.painter.paint(unset(desk.mask))
    corner = desk.mask[:8, :8].copy()
    desk.bench.review.save()
    before = desk.stored()
    assert before is not None
    assert (before.source.round_id, before.source.bank_version) == (None, 1)

    desk.bench.review.set_background(Background.MARGIN)
    desk.bench.review.set_margin(1.0)
    assert np.count_nonzero(desk.mask[8:, 8:] == 0) > 100
    desk.bench.review.set_background(Background.OFF)
    assert np.array_equal(desk.mask, before.mask)

    # The quick preset may well agree with the bank: let the bank have made something else.
    otherwise = PredictedMask(desk.image_id, np.full_like(before.mask, 4), before.confidence)
    desk.session.require_project().write_mask(otherwise, before.source)
    desk.session.masks_changed.emit()
    assert np.all(desk.mask[8:, 8:] == 4)

    desk.bench.training.choose(Preset.QUICK)
    desk.bench.training.train()
    assert desk.bench.maps.source == "round 1"
    assert desk.bench.maps.sight is not None
    predicted = desk.bench.maps.sight.prediction.masks[0]
    is_free = ~before.is_protected
    assert np.array_equal(desk.mask[is_free], predicted[is_free])
    assert not np.any(desk.mask[8:, 8:] == 4)
    assert np.array_equal(desk.mask[:8, :8], corner)
    desk.bench.review.save()
    after = desk.stored()
    assert after is not None
    assert (after.source.round_id, after.source.bank_version) == (1, None)
    assert np.array_equal(after.is_protected, before.is_protected)
    assert np.array_equal(after.mask, desk.mask)


def test_a_mask_accepted_before_any_training_stays(desk: Desk, banked: Path):
    desk.open(banked)
    desk.step()
    accepted = desk.image_id
    desk.bench.review.mark(ReviewStatus.ACCEPTED)
    item = desk.bench.review.images.item(accepted)
    assert item is not None
    assert item.state() == "accepted, bank 1, not trained yet"
    kept = desk.stored(accepted)
    desk.bench.training.choose(Preset.QUICK)
    desk.bench.training.train()
    desk.step(-1)
    assert desk.image_id == accepted
    assert kept is not None
    assert np.array_equal(desk.mask, kept.mask)


def test_the_recipe_is_that_of_the_project(desk: Desk, trained: Path, banked: Path):
    desk.open(trained)
    desk.bench.review.set_background(Background.WHITE)
    desk.open(banked)
    assert desk.session.recipe == Recipe()
    desk.open(trained)
    assert desk.session.recipe.background is Background.WHITE


def test_making_all_masks_leaves_accepted_ones_and_what_a_person_has_set(desk: Desk, trained: Path):
    desk.open(trained)
    desk.bench.review.set_background(Background.WHITE)
    desk.step()
    accepted = desk.image_id
    desk.bench.review.mark(ReviewStatus.ACCEPTED)
    kept = desk.stored(accepted)
    painted = desk.image_id
    assert painted != accepted
    desk.painter.paint(unset(desk.mask))
    corner = desk.mask[:8, :8].copy()
    desk.bench.review.set_background(Background.OFF)
    desk.bench.review.make_masks()
    project = desk.session.require_project()
    assert len(project.mask_summaries()) == len(project.images())
    now = desk.stored(accepted)
    assert kept is not None
    assert now is not None
    assert now.source == kept.source
    corrected = desk.stored(painted)
    assert corrected is not None
    assert np.array_equal(corrected.mask[:8, :8], corner)
    assert np.array_equal(desk.mask, corrected.mask)


def test_what_is_drawn_while_masks_are_made_stays(trained: Path):
    runner = StepRunner()
    desk = Desk(runner)
    desk.open(trained)
    desk.step()
    runner.finish()
    desk.bench.review.make_masks()
    desk.painter.paint(unset(desk.mask))
    drawn = desk.mask.copy()
    runner.finish()
    stored = desk.stored()
    assert stored is not None
    assert np.array_equal(stored.mask[:8, :8], drawn[:8, :8])
    assert stored.is_protected[:8, :8].all()
    assert np.array_equal(desk.mask, stored.mask)
    assert desk.problems == []
    desk.bench.close()


def test_what_was_seen_in_an_image_that_is_not_open_any_more_is_not_shown(trained: Path):
    runner = StepRunner()
    desk = Desk(runner)
    desk.open(trained)
    desk.step()
    first = desk.image_id
    runner.finish()
    desk.step()
    runner.jobs[-1].finish()
    late = runner.jobs[-1]
    late.step()
    desk.step()
    third = desk.image_id
    assert first != third
    assert desk.bench.maps.class_maps == {}
    runner.finish()
    assert desk.bench.maps.sight is not None
    assert desk.bench.maps.sight.image.id == third
    desk.bench.close()


def test_an_image_that_has_vanished_is_said_and_the_next_one_opens(trained: Path):
    desk = Desk(InlineRunner())
    desk.open(trained)
    images = desk.session.require_project().images()
    images[0].path.unlink()
    desk.step()
    assert images[0].path.name in desk.problems[0].sentence
    assert desk.bench.opened.image is None
    assert desk.bench.review.needs() is None
    with pytest.raises(Exception, match="no image is open"):
        desk.bench.review.save()
    desk.step()
    assert desk.bench.opened.image == images[1]
    desk.bench.close()


def test_review_goes_through_the_listed_images(desk: Desk, made: Path):
    desk.open(made)
    review = desk.bench.review
    for status in (ReviewStatus.ACCEPTED, ReviewStatus.FLAGGED, ReviewStatus.SKIPPED):
        if desk.session.current is None:
            desk.step()
        if status is ReviewStatus.ACCEPTED:
            desk.painter.paint()
        review.mark(status)
    names = [item.image.path.name for item in review.images.all]
    for listing, expected in (
        (ReviewFilter.ACCEPTED, names[:1]),
        (ReviewFilter.FLAGGED, names[1:2]),
        (ReviewFilter.SKIPPED, names[2:3]),
        (ReviewFilter.OPEN, names[3:]),
        (ReviewFilter.CORRECTED, names[:1]),
    ):
        review.show_listing(listing)
        listed = [review.images[row].image.path.name for row in range(len(review.images))]
        assert listed == expected
    review.show_listing(ReviewFilter.OPEN)
    assert desk.session.current is not None
    assert desk.session.current.path.name == names[3]
    desk.step(-1)
    assert desk.session.current.path.name == names[3], "none before it is listed"
    review.show_listing(ReviewFilter.ALL)
    desk.step(-1)
    review.unmark()
    assert desk.session.require_project().review_states().get(desk.image_id) is None


def test_where_there_is_nothing_to_go_through_it_is_said(desk: Desk, tmp_path: Path):
    with pytest.raises(ProjectError, match="no project is open"):
        desk.bench.review.step(1)
    desk.session.open(record_images(tmp_path / "empty", [], ["tumour", "stroma"]))
    desk.bench.review.step(1)
    assert desk.session.messages.last == "The project has no images yet: add some on Labels."


def test_masks_need_a_trained_round(desk: Desk, banked: Path):
    assert desk.bench.review.masks_need() == "Open a project first."
    desk.open(banked)
    assert desk.bench.review.masks_need() == "Train first."
    with pytest.raises(Exception, match="Train first"):
        desk.bench.review.make_masks()


def test_a_model_is_applied_to_a_new_folder(desk: Desk, trained: Path):
    desk.open(trained)
    before = len(desk.session.require_project().images())
    assert desk.bench.review.apply_needs(None, None) == "Choose a folder of images."
    desk.bench.review.apply(trained / "validation" / "images")
    project = desk.session.require_project()
    assert len(project.images()) == before + 4
    assert len(project.mask_summaries()) == 4
    assert len(desk.bench.review.images.all) == before + 4


def test_a_stroke_is_saved_when_the_workbench_is_closed(trained: Path):
    desk = Desk(InlineRunner())
    desk.open(trained)
    desk.step()
    image_id = desk.image_id
    value = unset(desk.mask)
    desk.painter.paint(value)
    desk.bench.close()
    with Project.open(trained / "project") as project:
        stored = project.read_mask(image_id)
    assert stored is not None
    assert np.all(stored.mask[:8, :8] == value)


def test_an_image_stays_open_where_its_strokes_cannot_be_saved(trained: Path):
    desk = Desk(InlineRunner())
    desk.open(trained)
    desk.step()
    first = desk.image_id
    (trained / "project").rename(trained / "away")
    desk.painter.paint(unset(desk.mask))
    drawn = desk.mask.copy()
    assert not desk.session.attempt(desk.step)
    assert desk.image_id == first
    assert "no longer here" in desk.problems[0].sentence
    desk.runner.turn()
    assert "not saved" in desk.session.messages.standing
    desk.session.messages.dismiss()
    assert "not saved" in desk.session.messages.shown, "it stays until it is resolved"
    (trained / "away").rename(trained / "project")
    assert desk.session.attempt(desk.step)
    assert desk.session.messages.standing == ""
    stored = desk.stored(first)
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)
    desk.bench.close()


def test_strokes_are_safe_where_only_masks_cannot_be_stored(trained: Path):
    desk = Desk(InlineRunner())
    desk.open(trained)
    desk.step()
    first = desk.image_id
    desk.painter.paint(unset(desk.mask))
    drawn = desk.mask.copy()
    arrays = trained / "project" / "arrays.zarr"
    arrays.write_text("a file where the arrays should be")
    desk.step()
    assert desk.image_id != first
    assert "is recorded" in desk.session.messages.standing
    desk.bench.close()
    arrays.unlink()
    again = Desk(InlineRunner())
    again.open(trained)
    assert "Recovered: 2 steps of Ada on" in again.session.messages.shown
    stored = again.stored(first)
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)
    again.bench.close()


def narrow(desk: Desk) -> None:
    """Choose a rule by which few pixels have a class."""
    desk.bench.review.set_background(Background.MARGIN)
    desk.bench.review.set_margin(1.0)


def test_what_a_model_has_changed_is_undone_and_redone_without_being_anybodys(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    first, before = desk.image_id, desk.mask.copy()
    desk.bench.review.set_background(Background.WHITE)
    narrow(desk)
    after = desk.mask.copy()
    assert np.count_nonzero(after != before) > 100
    while not np.array_equal(desk.mask, before):
        desk.painter.undo()
    assert not desk.is_anybodys
    desk.step()
    assert desk.stored(first) is None, "nobody has set anything"
    desk.step(-1)
    assert np.array_equal(desk.mask, after)


def test_a_stroke_on_what_was_undone_is_kept_with_the_mask_under_it(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    first, before = desk.image_id, desk.mask.copy()
    rule = desk.session.recipe
    desk.bench.review.set_background(Background.MARGIN)
    assert not np.array_equal(desk.mask, before)
    desk.painter.undo()
    desk.painter.redo()
    desk.painter.undo()
    desk.painter.paint(unset(desk.mask))
    drawn = desk.mask.copy()
    desk.bench.review.mark(ReviewStatus.ACCEPTED)
    stored = desk.stored(first)
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)
    assert np.array_equal(stored.origins == Origin.PERSON, drawn != before)
    assert np.all(stored.origins[(drawn == before) & (drawn > 0)] == Origin.MODEL)
    assert Recipe.model_validate_json(stored.source.recipe_json) == rule, "by which it was made"


def test_what_a_person_draws_as_a_model_had_it_before_is_the_persons(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    before = desk.mask.copy()
    narrow(desk)
    lost = (desk.mask == 0) & (before > 0)
    lost[20:] = False
    assert lost.any()
    desk.painter.draw(np.where(lost, before, desk.mask))
    desk.bench.review.save()
    stored = desk.stored()
    assert stored is not None
    assert np.array_equal(stored.origins == Origin.PERSON, lost)


def test_what_a_person_has_set_stays_theirs_when_the_models_steps_are_undone(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    proposed = desk.mask.copy()
    desk.painter.paint(unset(proposed))
    drawn = desk.mask.copy()
    desk.bench.review.set_background(Background.MARGIN)
    desk.painter.undo()
    assert np.array_equal(desk.mask, drawn)
    desk.bench.review.save()
    stored = desk.stored()
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)
    assert np.array_equal(stored.origins == Origin.PERSON, drawn != proposed)


def test_however_often_a_model_has_changed_the_mask_all_of_it_can_be_undone(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    seen = [np.zeros_like(desk.mask), desk.mask.copy()]
    for number in range(40):
        desk.bench.review.set_background((Background.MARGIN, Background.OFF)[number % 2])
        if not np.array_equal(desk.mask, seen[-1]):
            seen.append(desk.mask.copy())
    assert len(seen) == 42
    for mask in reversed(seen):
        assert np.array_equal(desk.mask, mask)
        desk.painter.undo()
    assert not desk.is_anybodys


def test_what_an_export_will_do_follows_review(desk: Desk, trained: Path):
    desk.open(trained)

    def planned() -> tuple[int, int]:
        plan = desk.bench.export.plan
        assert plan is not None
        return plan.accepted, plan.corrected

    desk.step()
    assert planned() == (0, 0)
    desk.bench.review.mark(ReviewStatus.ACCEPTED)
    assert planned() == (1, 0)
    desk.painter.paint(unset(desk.mask))
    desk.step(-1)
    assert planned() == (1, 1), "saved as the image was left"
    desk.bench.review.unmark()
    assert planned() == (0, 1)


def test_a_proposed_mask_that_a_person_erases_stays_erased(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    first, proposed = desk.image_id, desk.mask.copy()
    assert proposed.all()
    desk.painter.draw(np.zeros_like(proposed))
    desk.bench.review.save()
    stored = desk.stored()
    assert stored is not None
    assert np.all(stored.origins == Origin.PERSON)
    item = desk.bench.review.images.item(first)
    assert item is not None
    assert item.state() == "corrected by Ada"
    desk.bench.review.make_masks()
    assert not desk.mask.any()
    desk.step()
    desk.step(-1)
    assert not desk.mask.any()


def test_a_step_back_or_forth_is_a_models_only_where_the_model_has_made_it(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    before = desk.mask.copy()
    desk.bench.review.set_background(Background.MARGIN)
    after = desk.mask.copy()
    assert not np.array_equal(after, before)
    desk.painter.draw(before)
    desk.painter.undo()
    assert not desk.is_anybodys
    desk.painter.redo()
    assert desk.is_anybodys, "the stroke was redone, no step of the model undone"
    desk.painter.paint(unset(before))
    desk.painter.undo()
    assert np.array_equal(desk.mask, before)
    assert desk.is_anybodys, "only the second stroke was undone"
    desk.painter.undo()
    desk.painter.undo()
    assert np.array_equal(desk.mask, before)
    assert not desk.is_anybodys, "now it was the model's step"
    desk.painter.draw(after)
    assert desk.is_anybodys, "drawn as the model had it, nothing was redone"


@pytest.fixture
def slow(trained: Path) -> Iterator[Desk]:
    """A desk at which the first image is seen, and no model has looked at it yet."""
    desk = Desk(StepRunner())
    desk.open(trained)
    desk.step()
    desk.runner.jobs[-1].finish()
    assert desk.bench.opened.image is not None
    assert desk.bench.maps.sight is None
    yield desk
    assert desk.problems == []
    desk.bench.close()


def test_a_mask_that_is_not_there_yet_cannot_be_accepted_or_saved(slow: Desk):
    first = slow.image_id
    for verb in (lambda: slow.bench.review.mark(ReviewStatus.ACCEPTED), slow.bench.review.save):
        with pytest.raises(ProjectError, match="there is no mask to"):
            verb()
        assert slow.image_id == first, "it stays open"
        item = slow.bench.review.images.item(first)
        assert item is not None
        assert item.state() == "proposed"
    slow.runner.finish()
    slow.bench.review.mark(ReviewStatus.ACCEPTED)
    stored = slow.stored(first)
    assert stored is not None
    assert stored.mask.all()


def test_a_proposed_mask_that_was_undone_is_not_accepted_or_saved_as_an_empty_one(slow: Desk):
    slow.runner.finish()
    review, proposed = slow.bench.review, slow.mask.copy()
    for _ in range(2):
        slow.painter.undo()
        assert not slow.mask.any()
        for verb in (lambda: review.mark(ReviewStatus.ACCEPTED), review.save):
            with pytest.raises(ProjectError, match="redo what was undone"):
                verb()
        slow.painter.redo()
        review.save()  # undone once more, it is still stored
        stored = slow.stored()
        assert stored is not None
        assert np.array_equal(stored.mask, proposed)


def test_a_stroke_over_a_proposed_mask_that_was_undone_is_all_there_is(slow: Desk):
    slow.runner.finish()
    slow.painter.undo()
    slow.painter.paint()
    drawn = slow.mask.copy()
    slow.bench.review.save()
    stored = slow.stored()
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)
    assert np.array_equal(stored.origins == Origin.PERSON, drawn > 0)
    assert slow.bench.review.state_of_current().startswith("Corrected by Ada")


def test_the_first_edit_is_said_at_once(desk: Desk, trained: Path):
    desk.open(trained)
    desk.step()
    review, said = desk.bench.review, []
    for signal in (review.changed, review.stands_otherwise):
        signal.connect(lambda: said.append(review.state_of_current()))
    desk.painter.paint()
    assert said[-1].startswith("Edited: each edit is saved at once, the mask as you go on. ")
    said.clear()
    desk.painter.paint(side=9)
    assert not said, "it is not said again at each stroke"
    review.save()
    assert said[-1].startswith("Corrected by Ada. ")
    desk.painter.undo()
    assert said[-1].startswith("Corrected by Ada, edited since: ")


def test_an_edit_of_a_flagged_image_leaves_the_verdict_and_an_undone_one_nothing(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    review, image = desk.bench.review, desk.session.current
    review.mark(ReviewStatus.FLAGGED)
    desk.session.show(image)
    before = review.state_of_current()
    assert before.startswith("Flagged, ")
    desk.painter.paint()
    assert review.state_of_current().startswith("Flagged, edited: each edit is saved at once")
    desk.painter.undo()
    desk.painter.undo()  # the stroke, and what the model proposed under it
    assert "saved at once" not in review.state_of_current()


def test_edits_that_cannot_be_saved_are_not_called_saved(desk: Desk, trained: Path):
    if os.name == "nt":
        pytest.skip("an open file cannot be moved away on Windows")
    desk.open(trained)
    desk.step()
    review, said = desk.bench.review, []
    for signal in (review.changed, review.stands_otherwise):
        signal.connect(lambda: said.append(review.state_of_current()))
    project = desk.session.require_project().folder
    away = project.with_name("away")
    project.rename(away)
    desk.painter.paint()
    turn_until(desk, lambda: "not saved yet" in said[-1])
    away.rename(project)
    turn_until(desk, lambda: "each edit is saved at once" in said[-1])


def turn_until(desk: Desk, condition: Callable[[], bool]) -> None:
    """Let the main thread take its turns until what other threads do has come true."""
    latest = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < latest
        desk.runner.turn()
        time.sleep(0.02)


def test_a_mask_that_no_model_has_made_is_not_called_one_of_another_model(
    desk: Desk, trained: Path
):
    desk.open(trained)
    desk.step()
    desk.bench.review.save()
    stored = desk.stored()
    assert stored is not None
    project = desk.session.require_project()
    for recipe, words in (("null", "Made by no model."), ("{}", "Mask of another model.")):
        source = replace(stored.source, round_id=None, recipe_json=recipe)
        project.write_mask(PredictedMask(desk.image_id, stored.mask, stored.confidence), source)
        desk.session.masks_changed.emit()
        assert desk.bench.review.state_of_current().startswith(words)
