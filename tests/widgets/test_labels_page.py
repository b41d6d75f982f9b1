"""The page of labels in a real window, with real clicks and keys."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("qtpy")
pytest.importorskip("pytestqt")

from left_behind import alive
from one_page import child, click, text
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QImage
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QTextEdit,
    QToolButton,
    QWidget,
)
from tiny_project import NAMES, make_project, record_images, write_tile, write_training_tiles

from napari_protoseg.labels.records import Presence
from napari_protoseg.project.folder import Project
from napari_protoseg.widgets.labels_page import LabelsPage
from napari_protoseg.widgets.thumbnail_cell import chip_rectangles
from napari_protoseg.widgets.thumbnails import ThumbnailModel
from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.session import Session

LEFT = Qt.MouseButton.LeftButton
PRESENT, ABSENT, UNKNOWN = Presence.PRESENT, Presence.ABSENT, Presence.UNKNOWN


@pytest.fixture
def page(session: Session, show_page: Any) -> LabelsPage:
    return show_page(LabelsPage(LabelsState(session)))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_training_tiles(tmp_path / "tiles", cases=2)
    make_project(tmp_path)
    return tmp_path


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """A project of 6 images of which nothing is known."""
    for number in range(6):
        made = write_tile(tmp_path / "tiles", 0, number, number % 4)
        made.rename(made.with_name(f"{number}.png"))
    return many(tmp_path, 6)


def many(folder: Path, count: int) -> Path:
    paths = (folder / "tiles" / f"{number}.png" for number in range(count))
    return record_images(folder / "project", paths, ["tumour", "stroma"])


def chip(page: LabelsPage, row: int, class_id: int) -> QPoint:
    view, schema = page.thumbnails, page.state.schema
    return chip_rectangles(view.visualRect(view.model().index(row, 0)), schema)[class_id].center()


def label(page: LabelsPage, row: int) -> tuple[int, ...]:
    return tuple(page.state.images[row].label)


def drop(page: LabelsPage, *paths: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, nothing_held = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    # Over the first line of the form, which must not take the text of the path for itself.
    line = child(page, QLineEdit, "images")
    at = line.rect().center()
    QApplication.sendEvent(line, QDragEnterEvent(at, copy, mime, LEFT, nothing_held))
    QApplication.sendEvent(line, QDropEvent(QPointF(at), copy, mime, LEFT, nothing_held))


def test_from_a_dropped_folder_to_a_project(
    page: LabelsPage, session: Session, qtbot: Any, tmp_path: Path
):
    write_training_tiles(tmp_path / "tiles", cases=2)
    (tmp_path / "tiles" / "broken-[0 0 0 1].png").write_bytes(b"no image")
    assert "Open or make a project first" in text(page, "needs")
    assert not child(page, QPushButton, "look").isEnabled()
    drop(page, tmp_path / "tiles")
    assert child(page, QLineEdit, "images").text() == str(tmp_path / "tiles")
    qtbot.keyClicks(child(page, QLineEdit, "classes"), ", ".join(NAMES))
    click(page, qtbot, "look")
    qtbot.waitUntil(lambda: child(page, QTextEdit, "report").isVisible(), timeout=20_000)
    report = child(page, QTextEdit, "report").toPlainText()
    assert "9 images found, 8 usable" in report
    assert "broken-[0 0 0 1].png" in report
    assert session.project is None
    click(page, qtbot, "take-in")
    qtbot.waitUntil(lambda: session.project is not None, timeout=20_000)
    assert session.require_project().folder == tmp_path / "tiles-protoseg"
    assert page.thumbnails.isVisible()
    assert page.thumbnails.model().rowCount() == 8
    assert not child(page, QTextEdit, "report").isVisible()


def test_a_problem_of_a_look_leaves_the_form_as_it_was(
    page: LabelsPage, session: Session, qtbot: Any, tmp_path: Path
):
    write_training_tiles(tmp_path / "tiles", cases=1)
    drop(page, tmp_path / "tiles")
    with qtbot.waitSignal(_Relay(session.went_wrong).heard, timeout=20_000):
        click(page, qtbot, "look")
    assert child(page, QPushButton, "look").isEnabled()
    assert child(page, QLineEdit, "images").text() == str(tmp_path / "tiles")
    assert not child(page, QPushButton, "take-in").isEnabled()


def test_keys_switch_classes_and_enter_goes_on(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    view = page.thumbnails
    view.setFocus()
    qtbot.keyClick(view, "1")
    assert label(page, 0) == (PRESENT, UNKNOWN)
    qtbot.keyClick(view, Qt.Key.Key_Return)
    assert label(page, 0) == (PRESENT, ABSENT)
    assert view.currentIndex().row() == 1
    qtbot.keyClick(view, "2")
    qtbot.keyClick(view, "2")
    assert label(page, 1) == (UNKNOWN, ABSENT)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.currentIndex().row() == 2
    qtbot.keyClick(view, Qt.Key.Key_Enter, Qt.KeyboardModifier.KeypadModifier)
    assert label(page, 2) == (ABSENT, ABSENT)
    assert "3 of 6 images labelled" in text(page, "label-counts")
    with Project.open(unlabelled) as stored:
        assert [image.label for image in stored.images()][:3] == [(1, 0), (-1, 0), (0, 0)]


def test_clicks_on_chips_switch_and_forget_and_all_is_undone(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    view = page.thumbnails
    qtbot.waitUntil(lambda: not view.visualRect(view.model().index(1, 0)).isEmpty())
    qtbot.mouseClick(view.viewport(), LEFT, pos=chip(page, 1, 2))
    assert label(page, 1) == (UNKNOWN, PRESENT)
    assert view.currentIndex().row() == 1
    qtbot.mouseClick(view.viewport(), LEFT, pos=chip(page, 1, 2))
    assert label(page, 1) == (UNKNOWN, ABSENT)
    shift = Qt.KeyboardModifier.ShiftModifier
    qtbot.mouseClick(view.viewport(), LEFT, shift, chip(page, 1, 2))
    assert label(page, 1) == (UNKNOWN, UNKNOWN)
    view.setFocus()
    control = Qt.KeyboardModifier.ControlModifier
    for expected in ((UNKNOWN, ABSENT), (UNKNOWN, PRESENT), (UNKNOWN, UNKNOWN)):
        qtbot.keyClick(view, Qt.Key.Key_Z, control)
        assert label(page, 1) == expected
    assert not child(page, QPushButton, "undo-label").isEnabled()
    qtbot.keyClick(view, Qt.Key.Key_Z, control | shift)
    assert label(page, 1) == (UNKNOWN, PRESENT)
    click(page, qtbot, "undo-label")
    click(page, qtbot, "redo-label")
    assert label(page, 1) == (UNKNOWN, PRESENT)


def test_a_double_click_opens_an_image(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    view = page.thumbnails
    place = view.visualRect(view.model().index(3, 0)).center() - QPoint(0, 20)
    qtbot.mouseDClick(view.viewport(), LEFT, pos=place)
    assert session.current == page.state.images[3]


def wait_until_no_more_is_read(model: ThumbnailModel, qtbot: Any) -> None:
    before = -1
    while model.read_count() != before:
        before = model.read_count()
        qtbot.wait(200)


def test_only_what_is_seen_of_ten_thousand_images_is_read(
    page: LabelsPage, session: Session, qtbot: Any, tmp_path: Path
):
    made = write_tile(tmp_path / "tiles", 0, 0, 0)
    content = made.read_bytes()
    for number in range(10_000):
        (made.parent / f"{number}.png").write_bytes(content)
    session.open(many(tmp_path, 10_000))
    model = page.thumbnails.model()
    assert model.rowCount() == 10_000
    qtbot.waitUntil(lambda: model.read_count() > 0, timeout=10_000)
    wait_until_no_more_is_read(model, qtbot)
    first = model.read_count()
    assert first < 40
    bar = page.thumbnails.verticalScrollBar()
    for step in range(1, 101):
        bar.setValue(bar.maximum() * step // 100)
        QApplication.processEvents()
    wait_until_no_more_is_read(model, qtbot)
    assert first < model.read_count() < 600


def test_an_image_that_vanished_says_so_and_can_still_be_labelled(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path, tmp_path: Path
):
    (tmp_path / "tiles" / "2.png").unlink()
    session.open(unlabelled)
    model = page.thumbnails.model()
    image = page.state.images[2]
    qtbot.waitUntil(lambda: model.failure(image) is not None, timeout=10_000)
    tip = model.data(model.index(2, 0), Qt.ItemDataRole.ToolTipRole)
    assert "no such file" in tip
    page.thumbnails.go_to(2)
    qtbot.keyClick(page.thumbnails, "1")
    assert label(page, 2) == (PRESENT, UNKNOWN)


def test_the_list_is_narrowed_and_the_current_image_stays(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    page.thumbnails.go_to(4)
    qtbot.keyClick(page.thumbnails, "1")
    box = child(page, QComboBox, "listing")
    box.setCurrentIndex(box.findText("With tumour"))
    box.activated.emit(box.currentIndex())
    assert page.thumbnails.model().rowCount() == 1
    assert page.thumbnails.current_image() == page.state.images[0].id
    assert box.currentText() == "With tumour"
    box.setCurrentIndex(0)
    box.activated.emit(0)
    assert page.thumbnails.currentIndex().row() == 4


def test_classes_are_edited_in_the_table(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    click(page, qtbot, "show-classes")
    qtbot.keyClicks(child(page, QLineEdit, "new-class-name"), "mucus")
    click(page, qtbot, "add-class")
    assert session.require_project().schema.names == ("tumour", "stroma", "mucus")
    table = child(page, QTableWidget, "classes")
    assert table.rowCount() == 3
    retype(child(page, QLineEdit, "name-3"), "slime", qtbot)
    assert session.require_project().schema.names == ("tumour", "stroma", "slime")
    key = child(page, QLineEdit, "key-3")
    key.selectAll()
    qtbot.keyClicks(key, "M")
    qtbot.keyClick(key, Qt.Key.Key_Return)
    assert session.require_project().schema.classes[2].shortcut == "M"
    page.thumbnails.setFocus()
    qtbot.keyClick(page.thumbnails, "m")
    assert label(page, 0) == (UNKNOWN, UNKNOWN, PRESENT)


def remove(page: LabelsPage, class_id: int, action: str) -> None:
    """Choose from the menu of the button that removes a class."""
    menu = child(page, QToolButton, f"remove-{class_id}").menu()
    (wanted,) = [entry for entry in menu.actions() if entry.text() == action]
    wanted.trigger()


def test_a_class_is_removed_once_a_person_agrees_and_undo_brings_it_back(
    page: LabelsPage, session: Session, qtbot: Any, workspace: Path, answers: Any
):
    session.open(workspace / "project")
    project = session.require_project()
    before = [image.label for image in project.images()]
    names = project.schema.names
    click(page, qtbot, "show-classes")
    restore = child(page, QPushButton, "restore-class")
    assert not restore.isVisible()
    answers.give("No")
    remove(page, 2, "Remove...")
    qtbot.waitUntil(lambda: len(answers.questions) == 1, timeout=10_000)
    assert f"Remove {names[1]}?" in answers.questions[0]
    present = sum(label[1] == PRESENT for label in before)
    assert f"present in {present} images" in answers.questions[0]
    assert project.schema.names == names
    answers.give("Yes")
    remove(page, 2, "Remove...")
    qtbot.waitUntil(lambda: names[1] not in project.schema.names, timeout=10_000)
    assert child(page, QTableWidget, "classes").rowCount() == len(names) - 1
    assert [image.label for image in project.images()] == [(a, *rest) for a, _, *rest in before]
    assert restore.isVisible()
    assert restore.text() == f"Bring back {names[1]}"
    page.thumbnails.setFocus()
    qtbot.keyClick(page.thumbnails, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert project.schema.names == names
    assert [image.label for image in project.images()] == before
    assert not restore.isVisible()
    answers.give("Yes")
    remove(page, 2, f"Merge into {names[0]}...")
    qtbot.waitUntil(lambda: names[1] not in project.schema.names, timeout=10_000)
    click(page, qtbot, "restore-class")
    assert [image.label for image in project.images()] == before


def test_nobody_is_asked_about_a_class_once_the_page_is_closed(
    session: Session, qtbot: Any, workspace: Path, answers: Any
):
    page = LabelsPage(LabelsState(session))
    session.open(workspace / "project")
    page.refresh()
    over: list[Any] = []
    session.task_over.connect(over.append)
    answers.give("Yes")
    remove(page, 2, "Remove...")
    page.close_page()
    page.deleteLater()
    names = session.require_project().schema.names
    qtbot.waitUntil(lambda: len(over) == 1, timeout=10_000)
    qtbot.wait(300)
    assert not answers.questions
    assert session.require_project().schema.names == names
    answers.stop()


def test_a_name_that_is_taken_or_empty_is_refused_with_a_sentence(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    click(page, qtbot, "show-classes")
    for typed, reason in (("Tumour", "stands twice"), ("", "is empty")):
        name = child(page, QLineEdit, "name-2")
        with qtbot.waitSignal(_Relay(session.went_wrong).heard) as told:
            retype(name, typed, qtbot)
        assert reason in told.args[0].sentence
        assert name.text() == "stroma"


def test_a_legend_says_what_the_chips_stand_for(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    legend = child(page, QLabel, "class-legend")
    assert legend.isVisible()
    for known, key in zip(session.require_project().schema.classes, "12", strict=True):
        assert f"&nbsp;{key}&nbsp;</span>&nbsp;{known.name}" in legend.text()
        assert known.color in legend.text()
    click(page, qtbot, "show-classes")
    retype(child(page, QLineEdit, "name-1"), "<carcinoma>", qtbot)
    assert "&lt;carcinoma&gt;" in legend.text()
    retype(child(page, QLineEdit, "key-1"), "", qtbot)
    assert "&nbsp;\N{MIDDLE DOT}&nbsp;</span>&nbsp;&lt;carcinoma&gt;" in legend.text(), "no key"


def retype(field: QLineEdit, text: str, qtbot: Any) -> None:
    field.selectAll()
    qtbot.keyClick(field, Qt.Key.Key_Delete)
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def test_a_key_that_is_taken_is_refused_with_a_sentence(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path
):
    session.open(unlabelled)
    click(page, qtbot, "show-classes")
    key = child(page, QLineEdit, "key-2")
    key.selectAll()
    qtbot.keyClicks(key, "1")
    with qtbot.waitSignal(_Relay(session.went_wrong).heard) as told:
        qtbot.keyClick(key, Qt.Key.Key_Return)
    assert "stands twice" in told.args[0].sentence
    assert child(page, QLineEdit, "key-2").text() == "2"


def test_images_are_added_to_the_open_project(
    page: LabelsPage, session: Session, qtbot: Any, workspace: Path
):
    session.open(workspace / "project")
    write_tile(workspace / "more", 7, 0, 1)
    click(page, qtbot, "show-intake")
    assert not child(page, QLineEdit, "classes").isVisible()
    qtbot.keyClicks(child(page, QLineEdit, "images"), str(workspace / "more"))
    look = child(page, QPushButton, "look")
    qtbot.waitUntil(lambda: look.visibleRegion().boundingRect() == look.rect())
    click(page, qtbot, "look")
    qtbot.waitUntil(lambda: child(page, QTextEdit, "report").isVisible(), timeout=20_000)
    click(page, qtbot, "take-in")
    qtbot.waitUntil(lambda: page.thumbnails.model().rowCount() == 9, timeout=20_000)


def test_masks_are_imported_as_truth(
    page: LabelsPage, session: Session, qtbot: Any, workspace: Path
):
    session.open(workspace / "project")
    name = page.state.images[0].path.name
    (workspace / "masks").mkdir()
    Image.fromarray(np.ones((64, 64), dtype=np.uint8)).save(workspace / "masks" / name)
    click(page, qtbot, "show-masks")
    assert not child(page, QPushButton, "import-masks").isEnabled()
    qtbot.keyClicks(child(page, QLineEdit, "mask-folder"), str(workspace / "masks"))
    click(page, qtbot, "import-masks")
    qtbot.waitUntil(lambda: page.state.images[0].mask_path is not None, timeout=20_000)


def test_two_projects_after_each_other(
    page: LabelsPage, session: Session, qtbot: Any, unlabelled: Path, tmp_path: Path
):
    session.open(unlabelled)
    qtbot.keyClick(page.thumbnails, "1")
    (tmp_path / "second").mkdir()
    session.open(many(tmp_path / "second", 2))
    assert page.thumbnails.model().rowCount() == 2
    assert page.thumbnails.currentIndex().row() == 0
    assert not child(page, QPushButton, "undo-label").isEnabled()
    session.close_project()
    assert not page.thumbnails.isVisible()
    assert child(page, QLineEdit, "images").isVisible()


def test_every_panel_is_drawn_and_chips_have_the_colours_of_their_classes(
    page: LabelsPage, session: Session, qtbot: Any, workspace: Path, tmp_path: Path
):
    session.open(workspace / "project")
    model = page.thumbnails.model()
    qtbot.waitUntil(lambda: model.read_count() == model.rowCount(), timeout=10_000)
    for name in (None, "show-classes", "show-intake", "show-masks"):
        if name is not None:
            click(page, qtbot, name)
        if place := os.environ.get("PROTOSEG_SCREENSHOTS"):
            page.grab().save(str(Path(place) / f"labels-{name or 'grid'}.png"))
    shot: QImage = page.grab().toImage()
    color = session.require_project().schema.classes[0].color
    seen = {
        shot.pixelColor(x, y).name().upper()
        for x in range(0, shot.width(), 2)
        for y in range(0, shot.height(), 2)
    }
    assert color in seen


def test_a_closed_page_leaves_nothing_behind(session: Session, qtbot: Any, unlabelled: Path):
    state = LabelsState(session)
    session.open(unlabelled)
    threads = threading.active_count()
    left: list[weakref.ref[QWidget]] = []
    for _ in range(20):
        page = LabelsPage(state)
        page.show()
        QApplication.processEvents()
        page.close_page()
        left.append(weakref.ref(page))
        page.deleteLater()
        del page
    qtbot.waitUntil(lambda: not alive(left), timeout=20_000)
    assert threading.active_count() <= threads
    assert all(len(signal) <= 1 for signal in (state.changed, state.listed, state.relabelled))


class _Relay:
    """A signal of the session as one that pytest-qt can wait for."""

    def __init__(self, signal: Any) -> None:
        from qtpy.QtCore import QObject, Signal

        class Emitter(QObject):  # type: ignore[misc]
            heard = Signal(object)

        self._emitter = Emitter()
        self.heard = self._emitter.heard
        signal.connect(lambda value, emitter=self._emitter: emitter.heard.emit(value))
