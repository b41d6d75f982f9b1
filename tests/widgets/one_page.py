"""What is done at a page that is shown alone: find, read, click, wait."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QWidget

from napari_protoseg.workbench.session import Session


def child(page: QWidget, kind: type, name: str) -> Any:
    found = page.findChild(kind, name)
    assert found is not None, name
    return found


def text(page: QWidget, name: str) -> str:
    return str(child(page, QLabel, name).text())


def click(page: QWidget, qtbot: Any, name: str) -> None:
    button = child(page, QPushButton, name)
    assert button.isVisible(), f"{name} is not visible"
    assert button.isEnabled(), f"{name} is not enabled"
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait(session: Session, qtbot: Any) -> None:
    """Wait until no long task is under way."""
    qtbot.waitUntil(lambda: not session.is_busy, timeout=120_000)
