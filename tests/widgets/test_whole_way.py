"""The whole way in one window: from the sample's labels to a corrected mask that is exported.

Pictures of the pages are written to the folder that ``PROTOSEG_SCREENSHOTS`` names, if it does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("napari")

from qtpy.QtWidgets import QAbstractSpinBox, QComboBox

from napari_protoseg.jobs.names import mask_names
from napari_protoseg.labels.records import Presence
from napari_protoseg.plugin.layers import Role, own_layers, role_of
from napari_protoseg.project.records import Origin, RoundStatus
from napari_protoseg.workbench.tasks import TaskState


@pytest.fixture
def picture(user: Any, tmp_path: Path) -> Any:
    folder = Path(os.environ.get("PROTOSEG_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    user.window.resize(1500, 1000)

    def take(name: str) -> None:
        user.settle()
        path = folder / f"{name}.png"
        user.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        assert np.asarray(Image.open(path)).std() > 10

    return take


def mask_layer(user: Any) -> Any:
    (layer,) = [la for la in own_layers(user.viewer.layers) if role_of(la) is Role.MASK]
    return layer


def width_of(drawn: NDArray[np.bool_]) -> int:
    """Return over how many columns something was drawn."""
    columns = np.flatnonzero(drawn.any(axis=0))
    return int(np.ptp(columns)) + 1 if columns.size else 0


@pytest.mark.timeout(900)
def test_from_the_labels_of_the_sample_to_a_corrected_mask(user: Any, bench: Any, picture: Any):
    session = bench.session

    # Sample data
    user.click("open-sample")
    user.wait(lambda: session.project is not None and not session.is_busy, 300)
    project = session.project

    # Labels, by keys
    labels = user.page("Labels")
    user.wait(lambda: len(bench.labels.images) > 0)
    labels.thumbnails.setFocus()
    first = bench.labels.images[0].id
    before = bench.labels.images.of(first).label
    user.screen_key("3")
    assert project.image(first).label[2] != before[2]
    user.screen_key("ctrl+z")
    assert project.image(first).label == before
    assert Presence.PRESENT in before
    picture("labels")

    # Prototype bank
    user.page("Prototype bank")
    user.click("build-bank")
    user.wait(lambda: not session.is_busy, 300)
    assert bench.bank.cards
    user.click("crop-0-0")
    user.wait(lambda: bench.maps.sight is not None)
    class_id = bench.bank.cards[0].tissue_class.id
    seen = bench.maps.class_maps[class_id]
    user.click("mute-0")
    user.wait(lambda: not np.array_equal(bench.maps.class_maps[class_id], seen))
    picture("prototype-bank")
    user.click("mute-0")
    user.wait(lambda: np.array_equal(bench.maps.class_maps[class_id], seen))

    # Training: paused, stopped, resumed
    user.page("Training")
    preset = user.find(QComboBox, "preset")
    preset.setFocus()
    while preset.currentData() != "standard":
        user.screen_key("Down")
    user.click("show-options")
    epochs = user.find(QAbstractSpinBox, "option-epochs")
    epochs.setFocus()
    user.screen_key("ctrl+a", "1", "Tab")
    assert bench.training.request.config.epochs == 1
    user.click("train")
    user.wait(lambda: len(bench.training.steps) >= 1, 120)
    user.click("pause-task")
    assert session.task.state is TaskState.PAUSED
    picture("training")
    user.click("pause-task")
    user.click("stop-task")
    user.wait(lambda: not session.is_busy, 120)
    assert project.latest_round().status is RoundStatus.STOPPED
    user.click("resume")
    user.wait(lambda: not session.is_busy, 300)
    assert project.latest_round().status is RoundStatus.FINISHED

    # Review: step, paint, go on and come back
    user.page("Review")
    user.focus_canvas()
    user.screen_key("Page_Down")
    user.wait(lambda: bench.maps.source == "round 1" and bench.opened.image is not None)
    painted = session.current
    value = next(
        known.id for known in project.schema.classes if known.id not in mask_layer(user).data
    )
    before = mask_layer(user).data.copy()
    user.focus_canvas()
    user.screen_key(f"alt+{value}", "p")
    assert mask_layer(user).mode == "paint"
    user.drag((0.4, 0.4), (0.5, 0.5), (0.6, 0.55))
    # A stroke: a click alone would paint no more than one dab of the brush.
    dab = mask_layer(user).brush_size
    user.wait(lambda: width_of(mask_layer(user).data == value) > 2 * dab)
    drawn = mask_layer(user).data.copy()
    picture("review")
    user.focus_canvas()
    user.screen_key("Page_Down")
    user.wait(lambda: session.current.id != painted.id)
    user.screen_key("Page_Up")
    user.wait(lambda: session.current.id == painted.id and bench.opened.image is not None)
    assert np.array_equal(mask_layer(user).data, drawn)
    stored = project.read_mask(painted.id)
    assert np.array_equal(stored.origins == Origin.PERSON, drawn != before)

    # Export
    user.page("Export")
    user.click("export")
    user.wait(lambda: not session.is_busy, 300)
    picture("export")
    folder = bench.export.exported.folder
    names = dict(zip((i.id for i in project.images()), mask_names(project.images()), strict=True))
    exported = np.asarray(Image.open(folder / f"{names[painted.id]}.png"))
    assert np.array_equal(exported[drawn != before], drawn[drawn != before])
    assert len(list(folder.glob("*.png"))) == len(project.images())
