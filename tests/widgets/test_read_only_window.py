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
