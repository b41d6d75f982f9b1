"""The workbench in a real window: opened, used with real clicks, closed without a trace."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QPushButton,
    QTabWidget,
    QWidget,
)
from tiny_project import build, make_project, write_training_tiles

from napari_protoseg.plugin import benches
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.plugin.readers import project_reader
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus, Split
from napari_protoseg.training.config import Preset
from napari_protoseg.widgets.docks import WorkbenchDock
from napari_protoseg.workbench.tasks import TaskState
from napari_protoseg.workbench.workbench import Workbench

Click = Callable[[str], None]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "workspace"
    write_training_tiles(folder / "tiles")
    make_project(folder)
    return folder


@pytest.fixture
def project(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "workspace")) / "project"


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any, npe2pm: Any) -> Iterator[Any]:
    npe2pm.register(PluginManifest.from_distribution("napari-protoseg"))
    viewer = make_napari_viewer_proxy(show=True)
    yield viewer
    benches.close(viewer)


def dock_of(viewer: Any) -> QWidget:
    (dock,) = [w for w in viewer.window.dock_widgets.values() if isinstance(w, WorkbenchDock)]
    return dock


def window_of(viewer: Any) -> QWidget:
    """The window, which outlives its closing: the fixture closes it once more."""
    window = dock_of(viewer).window()
    window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    return window


@pytest.fixture
def bench(viewer: Any) -> Workbench:
    return open_workbench(viewer)


@pytest.fixture
def click(viewer: Any, bench: Workbench, qtbot: Any) -> Click:
    def on(name: str) -> None:
        (button,) = dock_of(viewer).findChildren(QPushButton, name)
        pages = dock_of(viewer).findChild(QTabWidget, "pages")
        for index in range(pages.count()):
            if pages.widget(index).isAncestorOf(button):
                pages.setCurrentIndex(index)
        qtbot.waitUntil(lambda: not button.visibleRegion().isEmpty())
        assert button.isEnabled(), f"{name} is not enabled"
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return on


def text(viewer: Any, name: str) -> str:
    return str(dock_of(viewer).findChild(QLabel, name).text())


def test_from_a_project_to_a_trained_round(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path, tmp_path: Path
):
    session = bench.session
    assert dock_of(viewer).pages["Prototype bank"].needs.text() == "Open a project first."
    session.open(project)
    assert text(viewer, "project-name") == "project"
    click("build-bank")
    assert session.is_busy
    qtbot.waitUntil(lambda: not session.is_busy, timeout=60_000)
    assert len(bench.bank.cards) >= 4
    click("mute-0")
    assert bench.bank.muted == {0}
    assert session.require_project().muted_prototypes(1) == {0}
    click("mute-0")
    assert bench.bank.muted == frozenset()
    click("train")
    qtbot.waitUntil(lambda: not session.is_busy, timeout=60_000)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert ended.status is RoundStatus.FINISHED
    assert text(viewer, "message") == "Round 1 is trained."


def test_training_is_paused_stopped_and_resumed(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path
):
    build(project.parent)
    session = bench.session
    session.open(project)
    preset = dock_of(viewer).findChild(QComboBox, "preset")
    preset.setCurrentIndex(preset.findData("standard"))
    click("train")
    qtbot.waitUntil(lambda: bool(bench.training.steps), timeout=60_000)
    click("pause-task")
    assert session.task is not None
    assert session.task.state is TaskState.PAUSED
    qtbot.wait(1500)
    seen = len(bench.training.steps)
    qtbot.wait(1500)
    assert len(bench.training.steps) == seen
    click("pause-task")
    click("stop-task")
    qtbot.waitUntil(lambda: not session.is_busy, timeout=60_000)
    stopped = session.require_project().latest_round()
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED
    click("resume")
    qtbot.waitUntil(lambda: not session.is_busy, timeout=120_000)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert (ended.id, ended.status) == (stopped.id, RoundStatus.FINISHED)


def test_what_cannot_run_says_why(viewer: Any, bench: Workbench, project: Path):
    bench.session.open(project)
    button = dock_of(viewer).findChild(QPushButton, "train")
    assert not button.isEnabled()
    assert bench.training.needs() == "Build a prototype bank first."
    assert not bench.session.attempt(bench.training.train)
    assert "Build a prototype bank first" in text(viewer, "message")


def test_closing_the_window_while_it_trains_asks_and_keeps_what_was_trained(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path, answers: Any
):
    build(project.parent)
    bench.session.open(project)
    preset = dock_of(viewer).findChild(QComboBox, "preset")
    preset.setCurrentIndex(preset.findData("standard"))
    click("train")
    qtbot.waitUntil(lambda: bool(bench.training.steps), timeout=60_000)
    window = window_of(viewer)
    answers.give("No")
    assert not window.close()
    assert bench.session.is_busy
    answers.give("Yes")
    assert window.close()
    assert ["Train is under way" in question for question in answers.questions] == [True, True]
    with Project.open(project) as opened:
        stopped = opened.latest_round()
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED
    assert (stopped.folder / "last.safetensors").is_file()


def test_a_program_that_closes_the_viewer_is_not_asked(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path, answers: Any
):
    build(project.parent)
    bench.session.open(project)
    bench.training.choose(Preset.STANDARD)
    click("train")
    qtbot.waitUntil(lambda: bool(bench.training.steps), timeout=60_000)
    viewer.close()
    assert answers.questions == []
    with Project.open(project) as opened:
        stopped = opened.latest_round()
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED


@pytest.mark.parametrize("confirms", [True, False])
def test_whoever_closes_a_window_with_layers_is_asked_once(
    viewer: Any,
    bench: Workbench,
    click: Click,
    qtbot: Any,
    project: Path,
    answers: Any,
    confirms: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(get_settings().application, "confirm_close_window", confirms)
    build(project.parent)
    bench.session.open(project)
    bench.training.choose(Preset.STANDARD)
    click("train")
    qtbot.waitUntil(lambda: bool(bench.training.steps), timeout=60_000)
    viewer.add_points([[1.0, 2.0]])
    window = window_of(viewer)
    viewer.window.remove_dock_widget(dock_of(viewer))
    answers.give("Cancel" if confirms else "No")
    window.close(confirm_need=True)  # as the menu does
    assert window.isVisible()
    assert len(answers.questions) == 1
    qtbot.wait(200)  # nobody answers one dialog and asks for another in less
    answers.give("Close" if confirms else "Yes")
    window.close(confirm_need=True)
    assert len(answers.questions) == 2
    assert ("Train is under way" in answers.questions[1]) is not confirms
    with Project.open(project) as opened:
        stopped = opened.latest_round()
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED


def test_a_training_goes_on_behind_a_closed_dock(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path
):
    build(project.parent)
    bench.session.open(project)
    click("train")
    viewer.window.remove_dock_widget(dock_of(viewer))
    assert open_workbench(viewer) is bench
    qtbot.waitUntil(lambda: not bench.session.is_busy, timeout=60_000)
    assert text(viewer, "message") == "Round 1 is trained."


def test_a_task_that_fails_behind_a_closed_dock_is_told_of(
    viewer: Any, bench: Workbench, click: Click, qtbot: Any, project: Path
):
    bench.session.open(project)
    gone = bench.session.require_project().images()[0].path
    gone.unlink()
    bench.bank.build()
    viewer.window.remove_dock_widget(dock_of(viewer))
    qtbot.waitUntil(lambda: benches.session_of(viewer) is None, timeout=60_000)
    told = notification_manager.records[-1].message
    assert told.startswith("Build bank: ")
    assert gone.name in told


def test_twenty_openings_leave_nothing_behind(viewer: Any, qtbot: Any, project: Path):
    left: list[weakref.ref[Any]] = []
    threads = threading.active_count()
    for _ in range(20):
        bench = open_workbench(viewer)
        bench.session.open(project)
        dock = dock_of(viewer)
        left += [weakref.ref(dock), weakref.ref(bench), weakref.ref(bench.session)]
        left += [weakref.ref(page) for page in dock.pages.values()]
        viewer.window.remove_dock_widget(dock)
        del bench, dock
        qtbot.wait(10)
    gc.collect()
    qtbot.wait(50)
    gc.collect()
    assert benches.workbench_of(viewer) is None
    assert [ref() for ref in left if ref() is not None] == []
    assert threading.active_count() <= threads + 1


def test_a_project_folder_opened_in_napari_opens_in_the_workbench(viewer: Any, project: Path):
    dropped = project.rename(project.with_name("cases-protoseg"))
    viewer.open(str(dropped), plugin="napari-protoseg")
    bench = benches.workbench_of(viewer)
    assert bench is not None
    assert bench.session.require_project().folder == dropped
    assert text(viewer, "project-name") == "cases-protoseg"
    assert len(viewer.layers) == 0


def test_a_folder_that_is_no_project_is_left_to_other_readers(tmp_path: Path):
    assert project_reader(str(tmp_path)) is None
    assert project_reader([str(tmp_path), str(tmp_path)]) is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sample_of_the_file_menu_is_a_project_with_true_masks(viewer: Any, qtbot: Any):
    viewer.open_sample("napari-protoseg", "sample_project")
    bench = benches.workbench_of(viewer)
    assert bench is not None
    session = bench.session
    qtbot.waitUntil(lambda: not session.is_busy and session.project is not None, timeout=300_000)
    made = session.require_project()
    assert made.folder == Path.home() / "protoseg-sample" / "project"
    assert len(made.images(Split.TRAIN)) == 120
    assert all(image.mask_path for image in made.images(Split.VALIDATION))
    session.close_project()
    session.open_sample()
    assert session.require_project().folder == made.folder
