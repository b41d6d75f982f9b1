"""A window on a project that another process writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qtpy")
pytest.importorskip("pytestqt")

from napari.layers import Labels
from qtpy.QtWidgets import QLabel, QPushButton

from napari_protoseg.project.lock import LockOwner
from napari_protoseg.workbench.workbench import Workbench


def test_a_second_window_says_that_it_is_read_only_and_lets_nobody_draw(
    user: Any, bench: Workbench, trained: Path
):
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (trained / "project" / "project.lock").write_text(owner.model_dump_json())
    bench.session.open(trained / "project")
    assert user.text("project-name") == "project (read-only)"
    assert "ada on elsewhere" in user.text("warnings")
    page = user.page("Review")
    assert "ada on elsewhere" in page.findChild(QLabel, "needs").text()
    bench.labels.open_image(1)
    user.wait(lambda: bench.opened.image is not None)
    (mask,) = [layer for layer in user.viewer.layers if isinstance(layer, Labels)]
    assert not mask.editable
    for name in ("accept", "flag", "save-mask", "make-masks"):
        assert not user.find(QPushButton, name).isEnabled()


def test_it_is_taken_over_once_a_person_agrees(
    user: Any, bench: Workbench, trained: Path, answers: Any
):
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    bench.session.open(trained / "project")
    take_over = user.dock.findChild(QPushButton, "take-over")
    assert not take_over.isVisible()
    bench.session.close_project()
    (trained / "project" / "project.lock").write_text(owner.model_dump_json())
    bench.session.open(trained / "project")
    assert "protoseg" not in user.text("warnings"), "nothing that asks for a terminal"
    answers.give("No")
    user.click("take-over")
    assert "ada on elsewhere" in answers.questions[0]
    assert bench.session.read_only() is not None
    answers.give("Yes")
    user.click("take-over")
    assert bench.session.read_only() is None
    assert user.text("project-name") == "project"
    assert not take_over.isVisible()


def test_who_draws_while_another_takes_it_over_is_told_and_may_take_it_back_with_all_drawn(
    user: Any, bench: Workbench, trained: Path, answers: Any
):
    bench.session.open(trained / "project")
    bench.labels.open_image(1)
    user.wait(lambda: bench.opened.image is not None)
    (mask,) = [layer for layer in user.viewer.layers if isinstance(layer, Labels)]
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (trained / "project" / "project.lock").write_text(owner.model_dump_json())
    before = int(mask.data[20, 20])
    value = 1 if before != 1 else 2
    mask.brush_size = 5
    mask.paint((20, 20), value)
    take_over = user.dock.findChild(QPushButton, "take-over")
    user.wait(take_over.isVisible)
    assert "ada on elsewhere" in user.text("warnings")
    assert "kept in memory" in user.text("warnings")
    answers.give("Yes")
    user.click("take-over")
    assert bench.session.read_only() is None
    stored = bench.session.require_project().read_mask(1)
    assert stored is not None
    assert stored.mask[20, 20] == value
    assert stored.is_protected[20, 20]
