"""What is drawn and cannot be saved is not lost unasked, whatever is closed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Labels
from napari.utils.notifications import notification_manager
from test_canvas import mask_of, open_first, paint

from napari_protoseg.plugin.layers import own_layers
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import Preset


@pytest.fixture
def drawn(user: Any, bench: Any, trained: Path) -> Labels:
    """A mask with a stroke, in a project whose folder was gone when it was drawn."""
    open_first(user, bench, trained)
    user.settle()
    layer = mask_of(user)
    take_away(trained)
    paint(layer, 1 if layer.data[20, 20] != 1 else 2)
    user.wait(lambda: "not saved" in user.text("warnings"))
    return layer


def take_away(workspace: Path) -> None:
    if os.name == "nt":
        pytest.skip("an open file cannot be moved away on Windows")
    (workspace / "project").rename(workspace / "away")


def mend(workspace: Path) -> None:
    (workspace / "away").rename(workspace / "project")


def test_closing_the_dock_leaves_the_mask_in_the_viewer_and_says_why(
    user: Any, bench: Any, drawn: Labels
):
    name, value = bench.session.current.path.name, drawn.data[20, 20]
    user.viewer.window.remove_dock_widget(user.dock)
    (left,) = user.viewer.layers
    assert left is drawn
    assert left.name == f"unsaved mask of {name}"
    assert left.data[20, 20] == value
    assert list(own_layers(user.viewer.layers)) == []
    assert "could not be saved" in notification_manager.records[-1].message


def test_a_mask_layer_that_was_deleted_is_brought_back_to_be_left(
    user: Any, bench: Any, drawn: Labels
):
    user.viewer.layers.remove(drawn)
    user.viewer.window.remove_dock_widget(user.dock)
    assert list(user.viewer.layers) == [drawn]


def test_closing_the_window_asks_first(
    user: Any, bench: Any, drawn: Labels, trained: Path, answers: Any
):
    window, first = user.lasting_window(), bench.session.current.id
    answers.give("No")
    window.close()
    assert window.isVisible()
    assert "could not be saved" in answers.questions[0]
    assert "no longer here" in answers.questions[0]
    mend(trained)
    window.close()
    assert len(answers.questions) == 1, "now it can be saved"
    with Project.open(trained / "project") as project:
        stored = project.read_mask(first)
    assert stored is not None
    assert np.array_equal(stored.mask, drawn.data)


def test_closing_all_the_same_is_agreed_to_once(
    user: Any, bench: Any, drawn: Labels, trained: Path, answers: Any
):
    window, first = user.lasting_window(), bench.session.current.id
    answers.give("Yes")
    window.close()
    assert not window.isVisible()
    assert len(answers.questions) == 1
    mend(trained)
    with Project.open(trained / "project") as project:
        assert project.read_mask(first) is None


def test_closing_the_dock_beside_a_task_says_it_at_once_and_the_mask_is_still_there(
    user: Any, bench: Any, drawn: Labels, trained: Path
):
    mend(trained)
    bench.review.save()
    user.wait(lambda: user.text("warnings") == "")
    bench.training.choose(Preset.QUICK)
    bench.training.train()
    take_away(trained)
    paint(drawn, 1 if drawn.data[20, 20] != 1 else 2)
    user.viewer.window.remove_dock_widget(user.dock)
    assert "open the workbench again" in notification_manager.records[-1].message
    user.wait(lambda: not bench.session.is_busy)
    assert list(user.viewer.layers) == [drawn]
    assert drawn.name.startswith("unsaved mask of ")
