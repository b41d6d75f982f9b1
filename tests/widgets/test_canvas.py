"""The open image in a real viewer: its layers, strokes, undo, keys of a real keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image, Labels, Layer
from napari.layers.utils.stack_utils import split_rgb
from qtpy.QtWidgets import QDockWidget, QPushButton, QShortcut, QSlider

from napari_protoseg.masks.recipe import Background
from napari_protoseg.plugin.commands import open_workbench, show_page
from napari_protoseg.plugin.keys import KEYS, UNDO_KEYS
from napari_protoseg.plugin.layers import Role, class_of, own_layers, role_of
from napari_protoseg.project.records import Origin, ReviewStatus
from napari_protoseg.widgets.docks import Dock
from napari_protoseg.workbench.session import Settings


def layers_of(user: Any, role: Role) -> list[Any]:
    return [layer for layer in own_layers(user.viewer.layers) if role_of(layer) is role]


def mask_of(user: Any) -> Labels:
    (layer,) = layers_of(user, Role.MASK)
    return layer


def open_first(user: Any, bench: Any, workspace: Path) -> None:
    bench.session.open(workspace / "project")
    user.click("next-image")
    user.wait(lambda: bench.maps.sight is not None)
    user.wait(lambda: np.array_equal(mask_of(user).data, bench.opened.mask))


def go_on(user: Any, bench: Any, act: Any) -> None:
    """Do what opens another image, and wait until a model has seen it."""
    before = bench.session.current
    act()
    user.wait(lambda: bench.session.current is not before)
    user.wait(
        lambda: (
            bench.maps.sight is not None and bench.maps.sight.image.id == bench.session.current.id
        )
    )


def paint(layer: Labels, value: int) -> None:
    """Draw a stroke as the brush does."""
    layer.selected_label = value
    layer.mode = "paint"
    layer.brush_size = 7
    layer.paint((20, 20), value)


def test_the_open_image_has_its_layers(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    names = [layer.name for layer in user.viewer.layers]
    schema = bench.session.project.schema
    assert names == [
        bench.session.current.path.name,
        *(f"Map of {name}" for name in schema.names),
        "Mask",
    ]
    mask = mask_of(user)
    assert mask.editable
    assert np.array_equal(mask.data, bench.opened.mask)
    for known in schema.classes:
        red, green, blue = (round(255 * float(part)) for part in mask.get_color(known.id)[:3])
        assert f"#{red:02X}{green:02X}{blue:02X}" == known.color
    assert mask.get_color(99)[3] == 1, "a value that is no class does not go unseen"
    present = int(mask.data[5, 5])
    status = mask.get_status((5, 5), view_direction=None)
    assert schema.names[schema.ids.index(present)] in str(status)


def test_a_stroke_is_there_when_the_image_is_opened_again(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    first = bench.session.current
    mask = mask_of(user)
    value = 1 if mask.data[20, 20] != 1 else 2
    paint(mask, value)
    assert bench.opened.is_protected.any()
    go_on(user, bench, lambda: user.click("next-image"))
    go_on(user, bench, lambda: user.click("previous-image"))
    assert bench.session.current.id == first.id
    assert mask_of(user).data[20, 20] == value
    stored = bench.session.project.read_mask(first.id)
    assert stored.is_protected[20, 20]
    assert not stored.is_protected[60, 60]


def test_undo_takes_a_stroke_back_and_never_reaches_another_image(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    paint(mask_of(user), 1 if mask_of(user).data[20, 20] != 1 else 2)
    go_on(user, bench, lambda: user.click("next-image"))
    shown = mask_of(user).data.copy()
    paint(mask_of(user), 1 if shown[20, 20] != 1 else 2)
    mask_of(user).undo()
    assert np.array_equal(mask_of(user).data, shown)
    for _ in range(5):
        mask_of(user).undo()
    # What the model proposed was one step, before which the mask was empty.
    assert not mask_of(user).data.any()


def test_a_new_rule_is_entered_as_one_step_that_can_be_undone(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    before = mask_of(user).data.copy()
    layer = mask_of(user)
    bench.review.set_background(Background.MARGIN)
    bench.review.set_margin(1.0)
    user.wait(lambda: not np.array_equal(layer.data, before))
    assert mask_of(user) is layer
    assert layer.data is not bench.opened.mask
    while not np.array_equal(layer.data, before):
        layer.undo()
    assert not bench.opened.is_protected.any(), "nobody has drawn"


def test_deleted_and_renamed_layers_are_survived(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    mask = mask_of(user)
    value = 1 if mask.data[20, 20] != 1 else 2
    paint(mask, value)
    first = bench.session.current.id
    mask.name = "my own name"
    for layer in list(user.viewer.layers):
        if isinstance(layer, Image):
            user.viewer.layers.remove(layer)
    user.viewer.layers.remove(mask)
    bench.bank.set_muted(0, True)
    user.wait(lambda: 0 in bench.maps.sight.predictor.recipe.muted)
    assert bench.session.project.read_mask(first).mask[20, 20] == value
    user.click("restore-layers")
    assert mask_of(user) is mask
    assert mask.name == "my own name"
    assert mask.data[20, 20] == value
    go_on(user, bench, lambda: user.click("next-image"))
    assert mask_of(user).name == "my own name"
    assert len(layers_of(user, Role.IMAGE)) == 1
    assert len(layers_of(user, Role.CLASS_MAP)) == 4


def test_a_layer_of_the_persons_own_is_left_alone(user: Any, bench: Any, trained: Path):
    own = user.viewer.add_points(np.array([[1.0, 2.0]]), name="Mask")
    open_first(user, bench, trained)
    bench.session.close_project()
    assert list(user.viewer.layers) == [own]


def test_a_floating_page_is_docked_again_after_the_project_was_closed(
    user: Any, bench: Any, trained: Path
):
    """Drawing once crashed then, so that this test ends without a word where it fails."""
    bench.session.open(trained / "project")
    docks = [
        user.viewer.window.add_plugin_dock_widget("napari-protoseg", name)[0]
        for name in ("Review", "Labels")
    ]
    docks[0].setFloating(True)
    user.settle()
    go_on(user, bench, lambda: bench.review.step(1))
    user.settle()
    paint(mask_of(user), 2)
    bench.session.close_project()
    user.settle()
    docks[0].setFloating(False)
    user.settle()
    assert not docks[0].isFloating()
    assert list(user.viewer.layers) == []


def test_muted_prototypes_leave_the_class_maps_and_one_can_be_shown(
    user: Any, bench: Any, trained: Path
):
    bench.session.open(trained / "project")
    user.page("Prototype bank")
    user.click("crop-0-0")
    user.wait(lambda: bench.maps.sight is not None)
    assert bench.session.current.content_hash == bench.bank.cards[0].crops[0].content_hash
    class_id = bench.bank.cards[0].tissue_class.id
    (layer,) = [layer for layer in layers_of(user, Role.CLASS_MAP) if class_of(layer) == class_id]
    assert layer.data.any()
    user.click("map-0")
    (shown,) = layers_of(user, Role.PROTOTYPE_MAP)
    assert shown.name == f"Prototype {bench.bank.cards[0].title}"
    assert role_of(user.viewer.layers.selection.active) is Role.MASK
    user.click("mute-0")
    user.wait(lambda: not layer.data.any())
    user.click("mute-0")
    user.wait(lambda: bool(layer.data.any()))
    user.click("map-0")
    assert layers_of(user, Role.PROTOTYPE_MAP) == []


def test_colours_of_classes_are_followed(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    bench.labels.set_color(1, "#123456")
    assert tuple(round(255 * float(part)) for part in mask_of(user).get_color(1)[:3]) == (
        0x12,
        0x34,
        0x56,
    )


def test_maps_follow_the_names_of_classes_unless_a_person_has_named_them(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    first, second, *_ = layers_of(user, Role.CLASS_MAP)
    second.name = "mine"
    copied = duplicate(user, first)
    bench.labels.rename_class(class_of(first), "carcinoma")
    bench.labels.rename_class(class_of(second), "fibrous")
    assert (first.name, second.name) == ("Map of carcinoma", "mine")
    assert copied.name.startswith("Map of ")
    assert copied.name.endswith(" copy")


def test_keys_of_a_real_keyboard_reach_the_canvas(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    first = bench.session.current.id
    user.focus_canvas()
    user.screen_key("alt+3")
    assert mask_of(user).selected_label == 3
    paint(mask_of(user), 3)
    user.screen_key("alt+m")
    user.wait(lambda: bench.session.project.read_mask(first) is not None)
    go_on(user, bench, lambda: user.screen_key("Page_Down"))
    go_on(user, bench, lambda: user.screen_key("Page_Up"))
    assert bench.session.current.id == first
    go_on(user, bench, lambda: user.screen_key("alt+a"))
    go_on(user, bench, lambda: user.screen_key("alt+k"))
    go_on(user, bench, lambda: user.screen_key("alt+g"))
    said = bench.session.project.review_states()
    assert list(said.values()) == [
        ReviewStatus.ACCEPTED,
        ReviewStatus.SKIPPED,
        ReviewStatus.FLAGGED,
    ]


def test_keys_work_on_the_page_too(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    page, images = user.dock.pages["Review"], bench.session.project.images()
    assert bench.session.current == images[0]
    # A list has its own idea of Page Down: as far as it can be seen.
    page.findChild(object, "review-list").setFocus()
    go_on(user, bench, lambda: user.screen_key("Page_Down"))
    assert bench.session.current == images[1]
    go_on(user, bench, lambda: user.screen_key("Page_Up"))
    assert bench.session.current == images[0]
    chords = [shortcut.key().toString() for shortcut in page.findChildren(QShortcut)]
    assert len(chords) == len(KEYS) + len(UNDO_KEYS)
    assert all(chords), "Qt knows the name of each key"


def chords_in(action: Any) -> Iterator[Any]:
    """Return the key sequences of an action, and of the menu that it opens."""
    yield from action.shortcuts()
    for inner in action.menu().actions() if action.menu() is not None else ():
        yield from chords_in(inner)


def test_no_key_is_one_that_napari_has(user: Any):
    from napari.utils.shortcuts import default_shortcuts
    from qtpy.QtWidgets import QMenuBar

    taken = {str(chord).casefold() for chords in default_shortcuts.values() for chord in chords}
    bars = user.window.findChildren(QMenuBar)
    for action in [action for bar in bars for action in bar.actions()]:
        _, mark, word = action.text().partition("&")
        taken |= {f"alt+{word[0].casefold()}"} if mark else set()
        taken |= {chord.toString().casefold() for chord in chords_in(action)}
    assert {"alt+s", "alt+f", "ctrl+r"} <= taken
    assert not {key.chord.replace("-", "+").casefold() for key in KEYS} & taken


def test_what_is_drawn_is_saved_when_the_window_is_closed(user: Any, bench: Any, trained: Path):
    from napari_protoseg.project.folder import Project

    open_first(user, bench, trained)
    first = bench.session.current.id
    value = 1 if mask_of(user).data[20, 20] != 1 else 2
    paint(mask_of(user), value)
    user.viewer.close()
    with Project.open(trained / "project") as project:
        assert project.read_mask(first).mask[20, 20] == value


def test_nothing_is_drawn_on_an_image_that_is_being_left(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    mask = mask_of(user)
    mask.mode = "paint"

    def leave() -> None:
        bench.review.step(1)
        assert not mask.editable  # the next image is still being read
        assert mask.mode == "pan_zoom"

    go_on(user, bench, leave)
    assert mask_of(user).editable
    assert mask_of(user).mode == "paint"


def test_a_device_that_is_not_there_is_named_and_the_image_shown(
    user: Any, bench: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench.session, "settings", lambda: Settings(device="xpu"))
    bench.session.open(trained / "project")
    user.click("next-image")
    user.wait(lambda: bool(layers_of(user, Role.MASK)))
    assert "xpu" in user.text("message")
    assert bench.maps.sight is None


def test_a_hidden_workbench_is_shown_by_the_commands_that_need_it(user: Any, bench: Any):
    user.wait(user.dock.isVisible)
    dock = user.dock.parentWidget()
    while not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    dock.hide()
    assert open_workbench(user.viewer) is bench
    assert user.dock.isVisible()
    dock.hide()
    show_page(user.viewer, "Export")
    assert user.dock.pages["Export"].isVisible()


def test_a_page_alone_is_brought_to_the_front_too(viewer: Any):
    viewer.window.add_plugin_dock_widget("napari-protoseg", "Export")
    show_page(viewer, "Export")
    (alone,) = [w for w in viewer.window.dock_widgets.values() if isinstance(w, Dock)]
    assert alone.pages["Export"].isVisible()
    show_page(viewer, "Training")
    docks = [w for w in viewer.window.dock_widgets.values() if isinstance(w, Dock)]
    assert any("Training" in dock.pages and dock.isVisible() for dock in docks)


def duplicate(user: Any, layer: Any) -> Any:
    """Copy a layer as napari's menu does."""
    copied = Layer.create(*deepcopy(layer.as_layer_data_tuple()))
    copied.name = f"{layer.name} copy"
    user.viewer.add_layer(copied)
    return copied


def test_undoing_what_a_model_has_changed_makes_no_pixel_a_persons(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    first, layer = bench.session.current.id, mask_of(user)
    before = layer.data.copy()
    bench.review.set_background(Background.MARGIN)
    bench.review.set_margin(1.0)
    user.wait(lambda: bench.maps.sight.predictor.recipe.margin == 1.0)
    assert not np.array_equal(layer.data, before)
    user.focus_canvas()
    while not np.array_equal(layer.data, before):
        user.screen_key("ctrl+z")
    assert not bench.opened.is_protected.any()
    layer.redo()
    layer.undo()
    value = 1 if layer.data[20, 20] != 1 else 2
    paint(layer, value)
    drawn = layer.data != before
    go_on(user, bench, lambda: user.click("next-image"))
    stored = bench.session.project.read_mask(first)
    assert np.array_equal(stored.origins == Origin.PERSON, drawn)


def test_a_mask_that_is_erased_by_hand_is_not_taken_for_an_undone_one(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    proposed = layer.data.copy()
    layer.contiguous = False
    for value in np.unique(proposed):
        layer.fill(tuple(np.argwhere(proposed == value)[0]), 0)
    assert not layer.data.any()
    assert bench.opened.is_protected.any()
    user.focus_canvas()
    while layer.data.any() or bench.opened.is_protected.any():
        user.screen_key("ctrl+z")
    layer.redo()
    assert np.array_equal(layer.data, proposed)
    assert not bench.opened.is_protected.any()
    layer.visible = False
    layer.redo()
    assert bench.opened.is_protected.any()
    layer.undo()
    assert not bench.opened.is_protected.any()


def test_a_class_is_picked_with_its_brush_and_marked(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    mask = mask_of(user)
    assert mask.mode == "pan_zoom"
    user.click("pick-3")
    assert (mask.selected_label, mask.mode) == (3, "paint")
    button = user.find(QPushButton, "pick-3")
    assert button.isChecked()
    assert not user.find(QPushButton, "pick-2").isChecked()
    known = bench.session.project.schema.classes[2]
    assert button.text() == f"{known.name}  (Alt+{known.shortcut})"
    user.click("pick-3")
    assert button.isChecked()
    mask.mode = "fill"
    user.focus_canvas()
    user.screen_key("alt+2")
    assert (mask.selected_label, mask.mode) == (2, "fill")
    assert user.find(QPushButton, "pick-2").isChecked()
    assert not button.isChecked()
    bench.labels.set_shortcut(4, "0")
    user.wait(lambda: len(user.dock.findChildren(QPushButton, "pick-4")) == 1)  # made anew
    assert user.find(QPushButton, "pick-4").text().endswith("(Alt+0)")
    user.screen_key("alt+0")
    user.wait(lambda: mask.selected_label == 4)
    mask.selected_label = 1  # in napari's own controls
    assert user.find(QPushButton, "pick-1").isChecked()
    bench.session.close_project()
    assert not any(b.isChecked() for b in user.dock.findChildren(QPushButton, "pick-1"))


def test_a_class_that_is_picked_brings_the_mask_back(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    mask, image = mask_of(user), layers_of(user, Role.IMAGE)[0]
    paint(mask, 2)
    for layer in (mask, image):
        user.viewer.layers.remove(layer)
    user.click("pick-3")
    assert mask_of(user) is mask
    assert user.viewer.layers.selection.active == mask
    assert (mask.selected_label, mask.mode) == (3, "paint")
    assert mask.data[20, 20] == 2
    assert layers_of(user, Role.IMAGE) == [], "nobody has asked for it"


def test_what_napari_makes_of_a_layer_in_another_kind_is_a_persons_own(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    mask, of_map, image = (
        layers_of(user, role)[0] for role in (Role.MASK, Role.CLASS_MAP, Role.IMAGE)
    )
    own = [
        *split_rgb(image),
        Labels(of_map.data.astype(int), metadata=of_map.metadata),
        Image(mask.data, metadata=mask.metadata),
    ]
    kept = [layer.data.copy() for layer in own]
    user.viewer.layers.extend(own)
    for layer in (mask, of_map, image):  # napari puts what it makes in their place
        user.viewer.layers.remove(layer)
    go_on(user, bench, lambda: user.click("next-image"))
    user.settle()
    assert len(layers_of(user, Role.IMAGE)) == 1
    assert len(layers_of(user, Role.CLASS_MAP)) == 4
    assert mask_of(user).editable
    assert all(np.array_equal(a.data, b) for a, b in zip(own, kept, strict=True))
    bench.session.close_project()
    assert list(user.viewer.layers) == own


def test_copies_of_maps_and_images_follow_the_open_image(user: Any, bench: Any, trained: Path):
    open_first(user, bench, trained)
    of_map = duplicate(user, layers_of(user, Role.CLASS_MAP)[0])
    of_image = duplicate(user, layers_of(user, Role.IMAGE)[0])
    go_on(user, bench, lambda: user.click("next-image"))
    user.settle()
    assert np.array_equal(of_map.data, bench.maps.class_maps[class_of(of_map)])
    assert np.array_equal(of_image.data, bench.opened.pixels)
    assert of_image.name.endswith(" copy")
    assert len(layers_of(user, Role.CLASS_MAP)) == 5


def test_a_copy_of_the_mask_takes_its_place_where_that_is_deleted(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    first, mask = bench.session.current.id, mask_of(user)
    copied = duplicate(user, mask)
    user.viewer.layers.remove(mask)
    value = 1 if copied.data[20, 20] != 1 else 2
    paint(copied, value)
    another = duplicate(user, copied)
    go_on(user, bench, lambda: user.click("next-image"))
    assert bench.session.project.read_mask(first).mask[20, 20] == value
    assert mask_of(user) is copied
    assert role_of(another) is None, "of an image before: a person's own"
    bench.session.close_project()
    assert list(user.viewer.layers) == [another]


def test_the_opacity_that_was_chosen_is_that_of_each_new_mask_layer(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    slider = user.find(QSlider, "mask-opacity")
    assert slider.value() == round(100 * mask_of(user).opacity)
    mask_of(user).opacity = 0.3  # in napari's own controls
    assert slider.value() == 30
    slider.setValue(90)
    user.viewer.layers.remove(mask_of(user))
    go_on(user, bench, lambda: user.click("next-image"))
    assert mask_of(user).opacity == 0.9
    bench.session.close_project()
    open_first(user, bench, trained)
    assert mask_of(user).opacity == 0.9


def test_a_prototype_layer_keeps_the_name_that_a_person_gave_it(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    bench.bank.show_map(0)
    (layer,) = layers_of(user, Role.PROTOTYPE_MAP)
    bench.bank.show_map(1)
    assert layer.name == f"Prototype {bench.bank.title_of(1)}"
    layer.name = "mine"
    bench.bank.show_map(0)
    assert layers_of(user, Role.PROTOTYPE_MAP) == [layer]
    assert layer.name == "mine"
    go_on(user, bench, lambda: user.click("next-image"))
    assert layers_of(user, Role.PROTOTYPE_MAP) == [layer]
    assert layer.name == "mine"
    assert np.array_equal(layer.data, bench.maps.prototype_map)


def test_a_prototype_layer_keeps_the_contrast_that_a_person_gave_it(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    bench.bank.show_map(0)
    (layer,) = layers_of(user, Role.PROTOTYPE_MAP)
    bench.bank.show_map(1)
    values = bench.maps.prototype_map
    assert np.allclose(layer.contrast_limits, (values.min(), values.max()))
    low, high = layer.contrast_limits
    chosen = [low + (high - low) / 4, high]
    layer.contrast_limits = chosen
    go_on(user, bench, lambda: user.click("next-image"))
    user.settle()
    assert np.array_equal(layer.data, bench.maps.prototype_map)
    assert layer.contrast_limits == chosen
    low, high = layer.contrast_limits_range
    assert low <= min(chosen[0], layer.data.min())
    assert max(chosen[1], layer.data.max()) <= high
