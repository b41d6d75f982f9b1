"""Whoever logs out keeps what was drawn, also where they stay in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QObject
from qtpy.QtGui import QSessionManager
from qtpy.QtWidgets import QApplication
from test_canvas import mask_of

from napari_protoseg.plugin import benches
from napari_protoseg.project.folder import Project


def log_out() -> None:
    """Let Qt say that the session ends, as it does where the system asks it to save.

    Only Qt makes the object that it gives with that; another stands here in its place, for nobody
    asks it anything.
    """
    sip = pytest.importorskip(f"{QObject.__module__.partition('.')[0]}.sip")
    stand_in = QObject()
    manager = sip.wrapinstance(sip.unwrapinstance(stand_in), QSessionManager)
    QApplication.instance().commitDataRequest.emit(manager)


def mask_to_draw_on(user: Any, bench: Any, made: Path) -> Any:
    bench.session.open(made / "project")
    user.click("next-image")
    user.wait(lambda: bench.opened.image is not None)
    layer = mask_of(user)
    layer.brush_size = 7
    return layer


def stored_at(project: Project, image_id: int, row: int, column: int) -> int:
    with Project.open(project.folder) as again:
        stored = again.read_mask(image_id)
    assert stored is not None
    return int(stored.mask[row, column])


def test_a_stroke_under_way_is_stored_and_drawing_can_go_on(user: Any, bench: Any, made: Path):
    layer = mask_to_draw_on(user, bench, made)
    image_id = bench.session.current.id
    project = bench.session.require_project()
    with layer.block_history():  # as napari does while the mouse is held down
        layer.paint((20, 20), 2)
        log_out()
        assert stored_at(project, image_id, 20, 20) == 2
        layer.paint((40, 40), 1)
    layer.paint((50, 50), 3)
    log_out()
    assert stored_at(project, image_id, 40, 40) == 1
    assert stored_at(project, image_id, 50, 50) == 3
    assert project.unfolded_images() == []


def test_what_fails_then_keeps_nothing_else_from_being_saved(
    user: Any, bench: Any, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    class Broken:
        @property
        def workbench(self) -> Any:
            raise RuntimeError("unheard of")

    layer = mask_to_draw_on(user, bench, made)
    image_id = bench.session.current.id
    monkeypatch.setattr(benches, "_benches", {0: Broken(), **benches._benches})
    with layer.block_history():
        layer.paint((20, 20), 2)
        log_out()
        assert stored_at(bench.session.require_project(), image_id, 20, 20) == 2
    assert "RuntimeError: unheard of" in capsys.readouterr().err
