"""Strokes among the steps of models, on a real layer: how they enter, whose pixels are whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Labels
from PIL import Image as Picture
from qtpy.QtWidgets import QListView
from test_canvas import duplicate, go_on, mask_of, open_first, paint

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.jobs.import_masks import MaskPurpose
from napari_protoseg.masks.recipe import Background
from napari_protoseg.plugin.layers import role_of
from napari_protoseg.project.records import Origin
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.widgets.review_page import ReviewPage
from napari_protoseg.workbench.review_page import ReviewState


def narrow(user: Any, bench: Any) -> None:
    """Choose a rule by which few pixels have a class, and wait for the mask."""
    bench.review.set_background(Background.MARGIN)
    bench.review.set_margin(1.0)
    user.wait(lambda: bench.maps.sight.predictor.recipe.margin == 1.0)


def of_a_person(user: Any, bench: Any) -> Any:
    """Leave the open image, and return which of its pixels are stored as a person's."""
    image = bench.session.current
    go_on(user, bench, lambda: user.click("next-image"))
    stored = bench.session.project.read_mask(image.id)
    assert stored is not None
    return stored.origins == Origin.PERSON


def other(layer: Any, row: int, column: int) -> int:
    """Return a class that a pixel has not."""
    return 1 if layer.data[row, column] != 1 else 2


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The places that napari's own `data_setitem` is told to set: rows and columns of each call."""
    told: list[Any] = []
    verb = Labels.data_setitem

    def record(layer: Labels, indices: Any, value: Any, refresh: bool = True) -> None:
        told.append(indices)
        verb(layer, indices, value, refresh)

    monkeypatch.setattr(Labels, "data_setitem", record)
    return told


def among(shape: tuple[int, int], told: list[Any]) -> Any:
    """Return how often each pixel is among what `data_setitem` was told."""
    times = np.zeros(shape, int)
    for indices in told:
        np.add.at(times, indices, 1)
    return times


def test_a_prediction_enters_through_the_layers_own_verb_where_it_differs_and_may(
    entered: list[Any], user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    data, proposed = layer.data, layer.data.copy()
    user.wait(lambda: bool(entered), 20)  # what was proposed as the image was opened
    paint(layer, other(layer, 20, 20))
    before, mine = layer.data.copy(), layer.data != proposed
    pictures = [user.viewer.screenshot(flash=False)]
    entered.clear()
    narrow(user, bench)
    assert layer.data is data
    changed = data != before
    assert np.count_nonzero(changed) > 1000
    assert np.array_equal(among(data.shape, entered), changed), "each once, and no other"
    assert not changed[mine].any(), "what a person has set stays"
    after = data.copy()
    pictures.append(user.viewer.screenshot(flash=False))
    layer.refresh()
    pictures.append(user.viewer.screenshot(flash=False))
    assert not np.array_equal(pictures[0], pictures[1]), "it is seen"
    assert np.array_equal(pictures[1], pictures[2]), "all of it"
    user.focus_canvas()
    for seen in (before, proposed):
        user.screen_key("ctrl+z")
        assert np.array_equal(data, seen), "a step of the journal"
    for seen in (before, after):
        user.screen_key("ctrl+shift+z")
        assert np.array_equal(data, seen)
    assert layer.data is data
    assert np.array_equal(of_a_person(user, bench), mine)


def test_a_prediction_enters_a_hidden_mask_of_another_size_in_portions(
    entered: list[Any], user: Any, bench: Any, trained: Path
):
    side = 256
    (trained / "large").mkdir()
    picture = synthesize_tile(0, 0, 0, size=side).image
    Picture.fromarray(picture).save(trained / "large" / "large.png")
    open_first(user, bench, trained)
    layer = mask_of(user)
    layer.visible = False
    bench.review.apply(trained / "large")
    user.wait(lambda: not bench.session.is_busy)
    (large,) = [item.image for item in bench.review.images.all if item.image.path.stem == "large"]
    bench.session.show(large)
    user.wait(lambda: layer.data.shape == (side, side) and bench.maps.sight is not None)
    bench.review.set_background(Background.OFF)
    user.wait(lambda: bool(layer.data.all()))
    entered.clear()
    before = layer.data.copy()
    narrow(user, bench)
    changed = layer.data != before
    assert np.array_equal(among(layer.data.shape, entered), changed)
    assert np.count_nonzero(changed) > 40_000
    assert len(entered) > 1, "what napari remembers of each is not large"
    layer.undo()
    assert np.array_equal(layer.data, before)


def test_the_first_stroke_is_said_and_the_page_is_not_drawn_anew(
    user: Any, bench: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    user.page("Review")
    open_first(user, bench, trained)
    user.settle()
    drawn: list[Any] = []
    refresh = ReviewPage.refresh

    def record(page: ReviewPage) -> None:
        drawn.append(page)
        refresh(page)

    monkeypatch.setattr(ReviewPage, "refresh", record)
    rows = user.find(QListView, "review-list").model()
    retold: list[Any] = []
    rows.dataChanged.connect(lambda first, last: retold.append((first.row(), last.row())))
    before = rows.index(0, 0).data()
    assert before.endswith("proposed")
    layer = mask_of(user)
    with monkeypatch.context() as patched:
        patched.delattr(ReviewState, "_read")
        paint(layer, other(layer, 20, 20))
        assert rows.index(0, 0).data() == f"{before.removesuffix('proposed')}edited"
    assert retold == [(0, 0)], "no other row"
    assert user.text("review-current").startswith("Edited: each edit is saved at once")
    assert not drawn
    bench.review.save()
    user.page("Labels")
    drawn.clear()
    paint(layer, other(layer, 20, 20))
    user.page("Review")
    assert drawn
    assert rows.index(0, 0).data().endswith(", edited since")
    assert ", edited since: " in user.text("review-current"), "also what was done unseen"


def test_a_models_mask_that_arrives_during_a_stroke_is_a_step_of_its_own(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    proposed = layer.data.copy()
    layer.mode, layer.brush_size = "paint", 3
    with layer.block_history():  # as napari does while the mouse is held down
        layer.paint((20, 20), other(layer, 20, 20))
        first = layer.data != proposed
        narrow(user, bench)
        between = layer.data.copy()
        layer.paint((20, 40), other(layer, 20, 40))
    assert first.any()
    assert np.count_nonzero(between != proposed) > 1000
    layer.undo()
    assert np.array_equal(layer.data, between), "what was drawn since"
    layer.redo()
    layer.undo()
    layer.undo()
    assert np.array_equal(layer.data != proposed, first), "the model's step"
    layer.redo()
    assert np.array_equal(of_a_person(user, bench), first)


def test_a_number_that_is_no_class_is_never_taken_for_the_class_of_its_last_byte(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = layer.data.copy()
    layer.data = layer.data.astype(np.int64)  # as "Convert data type" of napari's menu does
    paint(layer, 256 + other(layer, 20, 20))
    assert "no class ids" in user.text("message")
    assert np.array_equal(layer.data, before), "it is taken back"
    paint(layer, other(layer, 20, 20))
    assert of_a_person(user, bench)[20, 20]


def test_a_models_mask_that_arrives_while_the_mouse_is_held_down(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = layer.data.copy()
    layer.mode, layer.brush_size = "paint", 3
    layer.selected_label = other(layer, 32, 32)
    user.hold((0.45, 0.5), (0.5, 0.5))
    user.wait(lambda: bool(np.any(layer.data != before)))
    narrow(user, bench)
    between = layer.data.copy()
    user.let_go((0.5, 0.55))
    user.wait(lambda: bool(np.any(layer.data != between)))
    user.focus_canvas()
    user.screen_key("ctrl+z")
    assert np.array_equal(layer.data, between)
    user.screen_key("ctrl+z")
    first = layer.data != before
    assert 0 < np.count_nonzero(first) < 500
    assert np.array_equal(of_a_person(user, bench), first)


def test_an_undo_during_a_stroke_takes_back_what_is_drawn_so_far(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = layer.data.copy()
    layer.mode, layer.brush_size = "paint", 3
    with layer.block_history():
        layer.paint((20, 20), other(layer, 20, 20))
        layer.undo()
        assert np.array_equal(layer.data, before)
        assert not bench.opened.is_protected.any()
        layer.paint((20, 40), other(layer, 20, 40))
    drawn = layer.data != before
    assert np.array_equal(of_a_person(user, bench), drawn)


@pytest.mark.parametrize("verb", ["paint", "fill", "paint_polygon", "data_setitem"])
def test_whatever_a_stroke_is_made_with_it_is_known_when_it_is_undone(
    user: Any, bench: Any, trained: Path, verb: str
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = layer.data.copy()
    value = other(layer, 20, 20)
    places = {
        "paint": (20, 20),
        "fill": (20, 20),
        "paint_polygon": [[15, 15], [15, 25], [25, 25], [25, 15]],
        "data_setitem": (np.array([20]), np.array([20])),
    }
    getattr(layer, verb)(places[verb], value)
    assert layer.data[20, 20] == value
    bench.review.save()
    layer.undo()
    assert np.array_equal(layer.data, before)
    assert not of_a_person(user, bench).any()


def test_a_number_that_is_too_large_for_a_class_is_refused_and_not_taken_for_one(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = layer.data.copy()
    value = other(layer, 20, 20)
    layer.data = before.astype(np.int32)  # as napari's menu converts a layer
    layer.paint((20, 20), 256 + value)
    assert "no class ids" in user.text("message")
    assert np.array_equal(layer.data, before)
    layer.paint((20, 20), value)
    drawn = layer.data != before
    assert drawn[20, 20]
    assert np.array_equal(of_a_person(user, bench), drawn)


def test_a_mask_layer_that_was_given_something_else_has_its_mask_back_and_it_is_said(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    before = bench.opened.mask.copy()
    layer.data = np.ones((10, 12), np.uint8)
    layer.data_setitem((np.array([2]), np.array([2])), 2)
    assert "was put back" in user.text("message")
    assert np.array_equal(layer.data, before)
    assert np.array_equal(bench.opened.mask, before), "what was put there is no stroke"
    value = other(layer, 20, 20)
    paint(layer, value)
    assert bench.opened.mask[20, 20] == value
    layer.undo()
    assert np.array_equal(layer.data, before)


def test_an_imported_correction_is_a_step_that_can_be_undone_and_makes_no_pixel_a_persons(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    image, layer = bench.session.current, mask_of(user)
    bench.review.save()
    before = layer.data.copy()
    folder = trained / "corrected"
    folder.mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[:20, :20] = other(layer, 0, 0)
    Picture.fromarray(mask).save(folder / f"{image.path.stem}.png")
    bench.labels.import_masks(folder, MaskCodes.PROJECT, MaskPurpose.CORRECTION)
    user.wait(lambda: not bench.session.is_busy)
    assert np.array_equal(layer.data[:20, :20], mask[:20, :20])
    shown = layer.data.copy()
    layer.undo()
    assert np.array_equal(layer.data, before)
    assert not bench.opened.is_protected.any()
    layer.redo()
    assert np.array_equal(layer.data, shown)
    paint(layer, other(layer, 20, 20))
    drawn = layer.data != shown
    assert np.array_equal(of_a_person(user, bench), drawn)
    stored = bench.session.project.read_mask(image.id)
    assert np.array_equal(stored.origins == Origin.IMPORTED, (mask > 0) & ~drawn)


def test_a_copy_of_the_mask_from_before_does_not_take_its_place(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    old = duplicate(user, layer)
    narrow(user, bench)
    assert not np.array_equal(old.data, layer.data)
    kept = old.data.copy()
    user.viewer.layers.remove(layer)
    assert role_of(old) is None, "a person's own"
    assert not bench.opened.is_protected.any()
    user.click("restore-layers")
    assert mask_of(user) is layer
    go_on(user, bench, lambda: user.click("next-image"))
    assert np.array_equal(old.data, kept)
