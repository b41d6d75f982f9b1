"""What is drawn in a real window is on disk at once, and can be undone whatever came between."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from PIL import Image as Picture
from test_canvas import go_on, mask_of, open_first, paint
from test_strokes import narrow, other
from tiny_project import NOW

from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Origin
from napari_protoseg.schema import ClassSchema

AT_WORK = """
import sys
from pathlib import Path
import napari
from qtpy.QtWidgets import QApplication
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.plugin.layers import Role, own_layers, role_of

viewer = napari.Viewer()
bench = open_workbench(viewer)
bench.session.open(Path(sys.argv[1]))
bench.review.step(1)
while bench.maps.sight is None:
    QApplication.processEvents()
(mask,) = [layer for layer in own_layers(viewer.layers) if role_of(layer) is Role.MASK]
mask.brush_size = 7
value = 1 if mask.data[20, 20] != 1 else 2
mask.paint((20, 20), value)
bench.recording.flush()
if sys.argv[2] == "holding":
    held = mask.block_history()
    held.__enter__()  # as napari does while the mouse is held down
    mask.paint((40, 40), 1 if mask.data[40, 40] != 1 else 2)
print("drawn", value, mask.data[40, 40], flush=True)
napari.run()
"""


def at_work(workspace: Path, doing: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a napari of its own that draws; return it, and the classes that it has drawn."""
    process = subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(workspace / "project"), doing],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    for line in process.stdout:  # napari writes there, too
        if line.startswith("drawn "):
            return process, [int(word) for word in line.split()[1:]]
    raise AssertionError(f"it has ended with {process.wait()} before it has drawn")


def test_a_stroke_is_there_after_a_kill_and_the_person_is_told(
    user: Any, bench: Any, trained: Path
):
    process, (value, _) = at_work(trained, "idle")
    process.kill()
    process.communicate()
    open_first(user, bench, trained)
    name = bench.session.current.path.name
    warning = user.text("warnings")
    assert "Recovered: 2 steps of person on" in warning, "what the model proposed, and the stroke"
    assert name in warning
    mask = mask_of(user)
    assert mask.data[20, 20] == value
    mask.undo()
    assert mask.data[20, 20] != value
    mask.redo()
    page = user.page("Review")
    assert page.state.origin_at(20, 20).startswith("set by person, 20")


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without a word")
def test_a_program_that_is_asked_to_end_keeps_the_stroke_under_way(
    user: Any, bench: Any, trained: Path
):
    process, (first, second) = at_work(trained, "holding")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert not (trained / "project" / "project.lock").exists(), "it was closed in order"
    open_first(user, bench, trained)
    assert user.text("warnings") == ""
    mask = mask_of(user)
    assert (mask.data[20, 20], mask.data[40, 40]) == (first, second)
    stored = bench.session.project.read_mask(bench.session.current.id)
    assert stored.is_protected[40, 40]


def test_undo_leads_through_models_and_other_images_and_past_a_reopening(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    states = [layer.data.copy()]
    paint(layer, other(layer, 20, 20))
    states.append(layer.data.copy())
    narrow(user, bench)
    user.wait(lambda: np.array_equal(layer.data, bench.opened.mask))
    states.append(layer.data.copy())
    layer.paint((50, 50), 1)
    states.append(layer.data.copy())
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(states))

    go_on(user, bench, lambda: user.click("next-image"))
    paint(mask_of(user), other(mask_of(user), 20, 20))
    go_on(user, bench, lambda: user.click("previous-image"))
    user.viewer.layers.selection.active = user.viewer.layers[0]
    user.focus_canvas()
    user.screen_key("ctrl+z")
    assert np.array_equal(mask_of(user).data, states[2]), "with another layer selected, too"
    user.screen_key("ctrl+shift+z")
    assert np.array_equal(mask_of(user).data, states[3])

    bench.session.close_project()
    open_first(user, bench, trained)
    layer = mask_of(user)
    assert np.array_equal(layer.data, states[3])
    passed = [layer.data.copy()]
    for _ in range(8):
        layer.undo()
        assert np.array_equal(layer.data, bench.opened.mask)
        if not np.array_equal(passed[-1], layer.data):
            passed.append(layer.data.copy())
    assert not layer.data.any()
    places = [[np.array_equal(state, seen) for seen in passed].index(True) for state in states]
    assert places == sorted(places, reverse=True)
    while not np.array_equal(layer.data, states[3]):
        layer.redo()


def test_a_full_disk_is_told_until_there_is_room_and_nothing_is_lost(
    user: Any, bench: Any, tmp_path: Path, tiny_tmpfs: Path
):
    picture, folder = tmp_path / "a.png", tiny_tmpfs / "project"
    Picture.new("RGB", (64, 64), (200, 120, 180)).save(picture)
    content = hashlib.sha256(picture.read_bytes()).hexdigest()
    with Project.create(folder, ClassSchema.from_names(["x", "y"]), created=NOW) as project:
        project.add_images(
            [ImageRecord(path=picture, content_hash=content, width=64, height=64, label=(1, 1))]
        )
    bench.session.open(tiny_tmpfs / "project")
    user.click("next-image")
    user.wait(lambda: bench.opened.image is not None)
    layer = mask_of(user)
    layer.brush_size = 7
    layer.paint((10, 10), 1)
    bench.recording.flush()
    ballast = tiny_tmpfs / "ballast"
    space = os.statvfs(tiny_tmpfs)
    ballast.write_bytes(bytes(space.f_bavail * space.f_frsize))
    random = np.random.default_rng(0)
    while not user.text("warnings"):
        noise = random.integers(0, 3, layer.data.shape, dtype=np.uint8)
        layer.data_setitem(tuple(np.indices(noise.shape)), noise)
        user.settle()
    assert "not saved" in user.text("warnings")
    drawn = layer.data.copy()
    user.click("previous-image")
    assert bench.opened.image is not None
    assert "not saved" in user.text("warnings")
    ballast.unlink()
    user.wait(lambda: user.text("warnings") == "")
    assert "Saving goes on" in user.text("message")
    bench.session.close_project()
    with Project.open(tiny_tmpfs / "project") as project:
        stored = project.read_mask(project.images()[0].known_id)
    assert stored is not None
    assert np.array_equal(stored.mask, drawn)


def test_pixels_are_given_back_to_the_model_and_that_can_be_undone(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)
    proposed = layer.data.copy()
    paint(layer, other(layer, 20, 20))
    drawn = layer.data.copy()
    user.click("release")
    assert "the model's again; Ctrl+Z, twice, takes it back" in user.text("message")
    assert np.array_equal(layer.data, proposed)
    assert not bench.opened.is_protected.any()
    layer.undo()
    layer.undo()
    assert np.array_equal(layer.data, drawn)
    assert np.array_equal(bench.opened.is_protected, drawn != proposed)
    layer.redo()
    layer.redo()
    image = bench.session.current
    go_on(user, bench, lambda: user.click("next-image"))
    stored = bench.session.project.read_mask(image.id)
    assert np.array_equal(stored.mask, proposed)
    assert not np.any(stored.origins == Origin.PERSON)
    user.click("previous-image")
    user.wait(lambda: bench.opened.image is not None)
    user.click("release")
    assert "nothing was given back" in user.text("message")


def test_who_has_set_the_pixel_under_the_mouse_follows_what_is_done_there(
    user: Any, bench: Any, trained: Path
):
    open_first(user, bench, trained)
    layer = mask_of(user)

    def wait_for(words: str) -> None:
        user.wait(lambda: user.text("review-pixel").startswith(words), 10)

    narrow = user.dock.minimumSizeHint().width()
    user.viewer.cursor.position = (20.0, 20.0)
    wait_for("Under the mouse: set by the model of round 1, ")
    assert user.dock.minimumSizeHint().width() == narrow, "a sentence does not widen the dock"
    paint(layer, other(layer, 20, 20))
    user.viewer.cursor.position = (20.0, 21.0)
    wait_for("Under the mouse: set by person, ")
    layer.undo()
    wait_for("Under the mouse: set by the model of round 1, ")
    bench.session.close_project()
    user.wait(lambda: user.text("review-pixel") == "", 10)
