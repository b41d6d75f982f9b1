"""The page of exports in a real window, with real clicks and keys."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qtpy")
pytest.importorskip("pytestqt")

from driven_jobs import finish
from qtpy.QtCore import QEvent, Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QLabel, QLineEdit, QPushButton
from tiny_project import CPU, NOW, build, make_project, write_training_tiles

from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.export_plan import ExportFormat
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.plugin.threads import ThreadRunner
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import Preset
from napari_protoseg.widgets import export_page as widget_module
from napari_protoseg.widgets.export_page import ExportPage
from napari_protoseg.workbench import export_page as state_module
from napari_protoseg.workbench.export_page import ExportState
from napari_protoseg.workbench.session import Session

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "workspace"
    write_training_tiles(folder / "tiles", cases=2)
    make_project(folder)
    build(folder)
    with Project.open(folder / "project") as project:
        request = TrainRequest(preset=Preset.QUICK)
        finish(train_project(project, request, device=CPU, now=lambda: NOW))
    return folder


@pytest.fixture
def project(trained_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_once, tmp_path / "workspace")) / "project"


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(ThreadRunner())
    yield session
    session.close()


@pytest.fixture
def page(session: Session, qtbot: Any) -> Iterator[ExportPage]:
    page = ExportPage(ExportState(session))
    qtbot.addWidget(page)
    page.resize(420, 700)
    page.show()
    qtbot.waitExposed(page)
    yield page
    page.close_page()


def child(page: ExportPage, kind: type, name: str) -> Any:
    found = page.findChild(kind, name)
    assert found is not None, name
    return found


def text(page: ExportPage, name: str) -> str:
    return str(child(page, QLabel, name).text())


def click(page: ExportPage, qtbot: Any, name: str) -> None:
    button = child(page, QPushButton, name)
    assert button.isVisible(), f"{name} is not visible"
    assert button.isEnabled(), f"{name} is not enabled"
    qtbot.mouseClick(button, LEFT)


def tick(page: ExportPage, qtbot: Any, name: str) -> None:
    box = child(page, QCheckBox, name)
    assert box.isVisible(), f"{name} is not visible"
    # On the box itself: beside the words there may be nothing to click on.
    at = box.rect().center()
    at.setX(8)
    qtbot.mouseClick(box, LEFT, pos=at)


def choose(page: ExportPage, form: ExportFormat) -> None:
    box = child(page, QComboBox, "export-format")
    box.setCurrentIndex(box.findData(form.value))


def type_folder(page: ExportPage, qtbot: Any, typed: str) -> None:
    line = child(page, QLineEdit, "export-folder")
    line.selectAll()
    qtbot.keyClicks(line, typed)


def wait(session: Session, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not session.is_busy, timeout=60_000)


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
    assert said[0].startswith("8 masks of 8 images to write")
    assert said[1] == "The model of round 1 makes what is missing: 8."
    assert str(out) in said[-1]
    assert not child(page, QPushButton, "open-export").isVisible()
    assert not child(page, QCheckBox, "export-overwrite").isVisible()

    click(page, qtbot, "export")
    assert not child(page, QPushButton, "export").isEnabled()
    wait(session, qtbot)
    masks = sorted(out.glob("*.png"))
    assert len(masks) == 8
    assert all(set(np.unique(read_mask(path))) <= {0, 1, 2, 3, 4} for path in masks)
    shown: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: shown.append(url) or True)
    click(page, qtbot, "open-export")
    assert [Path(url.toLocalFile()) for url in shown] == [out]


def test_an_earlier_export_goes_only_when_the_box_is_ticked(
    page: ExportPage, session: Session, qtbot: Any, project: Path
):
    session.open(project)
    click(page, qtbot, "export")
    wait(session, qtbot)
    assert "earlier export of 11 files" in text(page, "needs")
    assert not child(page, QPushButton, "export").isEnabled()
    choose(page, ExportFormat.TRAINING)
    assert not child(page, QCheckBox, "export-overwrite").isVisible()
    assert "BCSS-WSSS" in text(page, "export-about")
    out = project.with_name("project-export-png")
    type_folder(page, qtbot, str(out))
    tick(page, qtbot, "export-overwrite")
    assert "11 files is replaced" in text(page, "export-plan")
    click(page, qtbot, "export")
    wait(session, qtbot)
    assert len(list((out / "training_masks").iterdir())) == 8
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
    choose(page, ExportFormat.TRAINING)
    assert planned == []
    page.show()
    qtbot.waitExposed(page)
    assert planned == [ExportFormat.TRAINING]
    assert text(page, "export-plan").startswith("7 masks of 8 images")


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
    qtbot.wait(50)
    gc.collect()
    assert left() is None
    session.masks_changed.emit()
