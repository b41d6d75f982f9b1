"""Folders that are typed into the forms of a real window."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from qtpy.QtWidgets import QLineEdit, QPushButton

from napari_protoseg.workbench.workbench import Workbench


@pytest.fixture
def home(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the person, with a project in it."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(trained))
    return trained


def type_into(user: Any, qtbot: Any, name: str, text: str) -> None:
    line = user.find(QLineEdit, name)
    line.clear()
    line.setFocus()
    qtbot.keyClicks(line, text)


def test_a_model_is_applied_to_a_folder_of_the_home(
    user: Any, bench: Workbench, home: Path, qtbot: Any
):
    bench.session.open(home / "project")
    user.page("Review")
    user.click("show-apply")
    type_into(user, qtbot, "apply-images", "~nobody-of-this-name")  # no such home, on the way
    assert user.find(QPushButton, "apply-model").isEnabled()
    type_into(user, qtbot, "apply-images", "~/validation/images")
    user.click("apply-model")
    user.wait(lambda: not bench.session.is_busy)
    assert "4 images added, 4 masks made" in bench.session.messages.details


def test_masks_and_moved_images_are_looked_for_in_the_home(
    user: Any, bench: Workbench, home: Path, qtbot: Any
):
    masks = home / "named"
    masks.mkdir()
    mask = next((home / "validation" / "masks").iterdir())
    for image in (home / "tiles").iterdir():
        shutil.copy(mask, masks / image.name)
    bench.session.open(home / "project")
    user.page("Labels")
    user.click("show-masks")
    type_into(user, qtbot, "mask-folder", "~/named")
    user.click("import-masks")
    user.wait(lambda: not bench.session.is_busy)
    assert user.text("message").startswith("Masks imported: 16.")
    (home / "tiles").rename(home / "moved")
    user.click("show-moved")
    type_into(user, qtbot, "moved-folder", "~/moved")
    user.click("find-images")
    user.wait(lambda: not bench.session.is_busy)
    assert user.text("message").startswith("Images found again: 16.")
