"""The page of exports in a real window, with real clicks and keys."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("qtpy")
pytest.importorskip("pytestqt")

from hearing import Told
from left_behind import alive
from one_page import child, click, text, wait
from qtpy.QtCore import QEvent, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QLineEdit, QPushButton

from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.export_network import NAME
from napari_protoseg.jobs.export_plan import Exportable, ExportFormat
from napari_protoseg.widgets import export_page as widget_module
from napari_protoseg.widgets.export_page import ExportPage
from napari_protoseg.workbench import export_page as state_module
from napari_protoseg.workbench.export_page import ExportState
from napari_protoseg.workbench.session import Session

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def project(trained: Path) -> Path:
    return trained / "project"


@pytest.fixture
def page(session: Session, show_page: Any) -> ExportPage:
    return show_page(ExportPage(ExportState(session)))


def tick(page: ExportPage, qtbot: Any, name: str) -> None:
    box = child(page, QCheckBox, name)
    assert box.isVisible(), f"{name} is not visible"
    # On the box itself: beside the words there may be nothing to click on.
    at = box.rect().center()
    at.setX(8)
    qtbot.mouseClick(box, LEFT, pos=at)


def choose(page: ExportPage, form: Exportable) -> None:
    box = child(page, QComboBox, "export-format")
    box.setCurrentIndex(box.findData(form.value))


def type_folder(page: ExportPage, qtbot: Any, typed: str) -> None:
    line = child(page, QLineEdit, "export-folder")
    line.selectAll()
    qtbot.keyClicks(line, typed)


def test_from_the_preflight_to_the_open_folder(
    page: ExportPage,
    session: Session,
    qtbot: Any,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    assert text(page, "needs") == "Open a project first."
    assert not child(page, QPushButton, "export").isEnabled()
    session.open(project)
    out = project.with_name("project-export-png")
    assert child(page, QLineEdit, "export-folder").placeholderText() == str(out)
    said = text(page, "export-plan").splitlines()
    assert said[0].startswith("16 masks of 16 images to write")
    assert said[1] == "The model of round 1 makes what is missing: 16."
    assert str(out) in said[-1]
    assert not child(page, QPushButton, "open-export").isVisible()
    assert not child(page, QCheckBox, "export-overwrite").isVisible()

    click(page, qtbot, "export")
    assert not child(page, QPushButton, "export").isEnabled()
    wait(session, qtbot)
    masks = sorted(out.glob("*.png"))
    assert len(masks) == 16
    assert all(set(np.unique(read_mask(path))) <= {0, 1, 2, 3, 4} for path in masks)
    shown: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: shown.append(url) or True)
    click(page, qtbot, "open-export")
    assert [Path(url.toLocalFile()) for url in shown] == [out]


@pytest.mark.slow
def test_the_network_is_written_for_other_programs(
    page: ExportPage,
    session: Session,
    qtbot: Any,
    project: Path,
    both_stages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    session.open(project)
    choose(page, Exportable.ONNX)
    assert "segmentation without labels yet. Train one." in text(page, "needs")
    assert not child(page, QPushButton, "export").isEnabled()

    session.open(both_stages / "project")
    assert child(page, QPushButton, "export").isEnabled()
    default = both_stages / "project-export-onnx"
    assert child(page, QLineEdit, "export-folder").placeholderText() == str(default)
    assert str(default / NAME) in text(page, "export-plan")
    out = tmp_path / "mine.onnx"
    out.write_text("of last week")
    type_folder(page, qtbot, str(out))
    assert "a file is there already" in text(page, "needs")
    box = child(page, QCheckBox, "export-overwrite")
    assert box.text() == "Replace the file"
    tick(page, qtbot, "export-overwrite")
    assert text(page, "export-plan").splitlines() == [
        "The segmentation network of round 2 to write, as one file.",
        f"{out} is replaced.",
    ]
    steps: list[int] = []

    def hear(event: Any) -> None:
        if event.progress is not None:
            steps.append(event.progress.done)

    session.progressed.connect(hear)
    said = Told(session)
    click(page, qtbot, "export")
    assert not child(page, QPushButton, "export").isEnabled()
    wait(session, qtbot)
    assert steps == [0, 1, 2]
    assert said[-1] == f"The network of round 2 is in {out}."
    assert onnxruntime.InferenceSession(out).get_outputs()[0].name == "probabilities"
    assert not box.isChecked()
    shown: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: shown.append(url) or True)
    click(page, qtbot, "open-export")
    assert [Path(url.toLocalFile()) for url in shown] == [tmp_path]
    choose(page, Exportable.PNG)
    assert box.text() == "Replace the earlier export"


def test_an_earlier_export_goes_only_when_the_box_is_ticked(
    page: ExportPage, session: Session, qtbot: Any, project: Path
):
    session.open(project)
    click(page, qtbot, "export")
    wait(session, qtbot)
    assert "earlier export of 19 files" in text(page, "needs")
    assert not child(page, QPushButton, "export").isEnabled()
    choose(page, Exportable.TRAINING)
    assert not child(page, QCheckBox, "export-overwrite").isVisible()
    assert "BCSS-WSSS" in text(page, "export-about")
    out = project.with_name("project-export-png")
    type_folder(page, qtbot, str(out))
    tick(page, qtbot, "export-overwrite")
    assert "19 files is replaced" in text(page, "export-plan")
    click(page, qtbot, "export")
    wait(session, qtbot)
    assert len(list((out / "training_masks").iterdir())) == 16
    assert not list(out.glob("*.png"))
    assert not child(page, QCheckBox, "export-overwrite").isChecked()


def test_a_folder_with_other_files_cannot_be_chosen(
    page: ExportPage, session: Session, qtbot: Any, project: Path
):
    session.open(project)
    type_folder(page, qtbot, str(project.with_name("tiles")))
    assert "no earlier export" in text(page, "needs")
    assert not child(page, QPushButton, "export").isEnabled()
    assert not child(page, QCheckBox, "export-overwrite").isVisible()


def test_what_is_done_to_the_folder_elsewhere_is_seen_when_a_person_comes_back(
    page: ExportPage, session: Session, qtbot: Any, project: Path
):
    session.open(project)
    assert child(page, QPushButton, "export").isEnabled()
    out = project.with_name("project-export-png")
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    QApplication.sendEvent(page, QEvent(QEvent.Type.WindowActivate))
    assert "not empty" in text(page, "needs")
    (out / "thesis.txt").unlink()
    QApplication.sendEvent(page, QEvent(QEvent.Type.WindowActivate))
    assert child(page, QPushButton, "export").isEnabled()


def test_while_nobody_sees_the_page_nothing_is_planned(
    page: ExportPage,
    session: Session,
    qtbot: Any,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    session.open(project)
    planned: list[ExportFormat] = []
    plan = state_module.plan_export

    def noting(*args: Any):
        planned.append(args[1])
        return plan(*args)

    monkeypatch.setattr(state_module, "plan_export", noting)
    page.hide()
    for _ in range(5):
        session.masks_changed.emit()
    first = session.require_project().images()[0]
    assert first.id is not None
    session.require_project().set_labels({first.id: (-1,) * 4}, source="person")
    session.images_changed.emit()
    choose(page, Exportable.TRAINING)
    assert planned == []
    page.show()
    qtbot.waitExposed(page)
    assert planned == [ExportFormat.TRAINING]
    assert text(page, "export-plan").startswith("15 masks of 16 images")


def test_where_no_program_shows_folders_the_place_is_said(
    page: ExportPage,
    session: Session,
    qtbot: Any,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    session.open(project)
    click(page, qtbot, "export")
    wait(session, qtbot)
    said: list[str] = []

    def hear(notice: Any) -> None:
        said.append(notice.text)

    session.said.connect(hear)
    monkeypatch.setattr(widget_module.QDesktopServices, "openUrl", lambda url: False)
    click(page, qtbot, "open-export")
    assert str(project.with_name("project-export-png")) in said[-1]


def test_a_closed_page_leaves_nothing_behind(session: Session, qtbot: Any, project: Path):
    state = ExportState(session)
    session.open(project)
    page = ExportPage(state)
    page.show()
    qtbot.waitExposed(page)
    left = weakref.ref(page)
    page.close_page()
    page.close()
    page.deleteLater()
    del page
    qtbot.waitUntil(lambda: not alive([left]))
    session.masks_changed.emit()
