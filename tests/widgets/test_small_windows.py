"""The workbench where there is little room: long names, many classes, a low window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import QLabel, QListView, QPushButton, QScrollArea
from tiny_project import record_images, write_tile

from napari_protoseg.widgets.thumbnail_cell import SIDE, caption
from napari_protoseg.workbench.workbench import Workbench

LONG = "a_name_that_has_no_place_to_break_" * 4


def named_at_length(folder: Path, classes: int = 12) -> Path:
    """Make a project whose folder, images and classes have long names."""
    tiles = folder / "tiles"
    images = [write_tile(tiles, 0, k, 0) for k in range(30)]
    images = [image.rename(tiles / f"{LONG}{k}.png") for k, image in enumerate(images)]
    names = [f"{LONG}{k}" for k in range(classes)]
    return record_images(folder / f"{LONG}project", images, names)


def test_no_name_decides_how_wide_the_workbench_is(user: Any, bench: Workbench, tmp_path: Path):
    before = user.dock.minimumSizeHint().width()
    bench.session.open(named_at_length(tmp_path))
    bench.session.say(f"{LONG}.png is there.")
    for title in user.dock.pages:
        user.page(title)
        user.settle()
        assert user.dock.minimumSizeHint().width() <= before, title
    user.page("Review")
    bench.session.attempt(lambda: bench.session.show(bench.review.images[0].image))
    user.settle()
    assert user.dock.minimumSizeHint().width() <= before
    # The whole names are still to be had.
    assert user.text("project-name") == f"{LONG}project"
    assert f"{LONG}0" in user.find(QPushButton, "pick-1").toolTip()
    assert f"{LONG}0.png" in user.find(QLabel, "review-image").toolTip()


def test_a_low_window_scrolls_the_page_of_review(user: Any, bench: Workbench, tmp_path: Path):
    bench.session.open(named_at_length(tmp_path))
    page = user.page("Review")
    user.click("show-apply")
    user.settle()
    assert user.dock.minimumSizeHint().height() < 500
    (area,) = page.findChildren(QScrollArea)
    user.window.resize(1200, 600)
    apply = user.find(QPushButton, "apply-model")
    user.settle()
    assert apply.visibleRegion().isEmpty()
    area.ensureWidgetVisible(apply)
    user.wait(lambda: apply.visibleRegion().boundingRect() == apply.rect(), 10)


def test_the_open_image_stays_in_sight_where_the_list_becomes_lower(
    user: Any, bench: Workbench, tmp_path: Path
):
    user.window.resize(1200, 950)
    bench.session.open(named_at_length(tmp_path, classes=2))
    user.page("Review")
    images, rows = bench.review.images, user.find(QListView, "review-list")
    user.settle()
    height = rows.viewport().height()
    last_seen = rows.indexAt(rows.viewport().rect().bottomLeft()).row() - 1
    bench.session.attempt(lambda: bench.session.show(images[last_seen].image))
    user.click("show-apply")
    user.settle()
    assert rows.viewport().height() < height
    row = rows.visualRect(rows.model().index(last_seen, 0))
    assert 0 <= row.top() < row.bottom() < rows.viewport().height()


def test_an_ampersand_in_the_name_of_a_class_is_seen(user: Any, bench: Workbench, tmp_path: Path):
    image = write_tile(tmp_path / "tiles", 0, 0, 0)
    bench.session.open(record_images(tmp_path / "project", [image], ["nerve & vessel", "fat"]))
    user.page("Review")
    button = user.find(QPushButton, "pick-1")
    assert button.text().startswith("nerve && vessel")  # as Qt writes one that is no mnemonic
    assert button.shortcut().isEmpty()


def test_captions_of_thumbnails_tell_images_apart(qapp: Any):
    metrics = QFontMetrics(qapp.font())
    width = SIDE + 8
    named = [f"case00_{k:03d}-[1 1 0 0].png" for k in range(3)]
    assert len({caption(Path(name), metrics, width) for name in named}) == 3
    assert caption(Path(named[2]), metrics, 1000) == "case00_002"
