"""The workbench in a real window: opened, used with real clicks, closed without a trace."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from left_behind import alive
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication, QComboBox, QPushButton

from napari_protoseg.plugin import benches
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.plugin.keys import KEYS, UNDO_KEYS
from napari_protoseg.plugin.layers import Role, own_layers, role_of
from napari_protoseg.plugin.readers import project_reader
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, RoundStatus, Split
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.tasks import TaskState
from napari_protoseg.workbench.workbench import Workbench


def choose_preset(user: Any, name: str) -> None:
    preset = user.find(QComboBox, "preset")
    preset.setCurrentIndex(preset.findData(name))


def test_from_a_project_to_a_trained_round(user: Any, bench: Workbench, made: Path):
    session = bench.session
    assert user.dock.pages["Prototype bank"].needs.text() == "Open a project first."
    session.open(made / "project")
    assert user.text("project-name") == "project"
    user.click("build-bank")
    assert session.is_busy
    user.wait(lambda: not session.is_busy)
    assert len(bench.bank.cards) >= 4
    user.click("mute-0")
    assert bench.bank.muted == {0}
    assert session.require_project().muted_prototypes(1) == {0}
    user.click("mute-0")
    assert bench.bank.muted == frozenset()
    choose_preset(user, "quick")
    user.click("train")
    user.wait(lambda: not session.is_busy)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert ended.status is RoundStatus.FINISHED
    assert user.text("message").startswith("Round 1 is trained")


def test_training_is_paused_stopped_and_resumed(user: Any, bench: Workbench, banked: Path):
    session = bench.session
    session.open(banked / "project")
    choose_preset(user, "standard")
    user.click("train")
    user.wait(lambda: bool(bench.training.steps))
    user.click("pause-task")
    assert session.task is not None
    assert session.task.state is TaskState.PAUSED
    user.settle()
    seen = len(bench.training.steps)
    user.settle()
    assert len(bench.training.steps) == seen
    user.click("pause-task")
    user.click("stop-task")
    user.wait(lambda: not session.is_busy)
    stopped = session.require_project().latest_round()
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED
    user.click("resume")
    user.wait(lambda: not session.is_busy, 120)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert (ended.id, ended.status) == (stopped.id, RoundStatus.FINISHED)


def test_what_cannot_run_says_why(user: Any, bench: Workbench, made: Path):
    bench.session.open(made / "project")
    assert not user.find(QPushButton, "train").isEnabled()
    assert bench.training.needs() == "Build a prototype bank first."
    assert not bench.session.attempt(bench.training.train)
    assert "Build a prototype bank first" in user.text("message")


def begin_training(user: Any, bench: Workbench, workspace: Path) -> None:
    bench.session.open(workspace / "project")
    choose_preset(user, "standard")
    user.click("train")
    user.wait(lambda: bool(bench.training.steps))


def newest_round(workspace: Path) -> Round:
    with Project.open(workspace / "project") as opened:
        found = opened.latest_round()
    assert found is not None
    return found


def test_closing_the_window_while_it_trains_asks_and_keeps_what_was_trained(
    user: Any, bench: Workbench, banked: Path, answers: Any
):
    begin_training(user, bench, banked)
    window = user.lasting_window()
    answers.give("No")
    assert not window.close()
    assert bench.session.is_busy
    answers.give("Yes")
    assert window.close()
    assert ["Train is under way" in question for question in answers.questions] == [True, True]
    stopped = newest_round(banked)
    assert stopped.status is RoundStatus.STOPPED
    assert (stopped.folder / "last.safetensors").is_file()


def test_a_program_that_closes_the_viewer_is_not_asked(
    user: Any, bench: Workbench, banked: Path, answers: Any
):
    begin_training(user, bench, banked)
    user.viewer.close()
    assert answers.questions == []
    assert newest_round(banked).status is RoundStatus.STOPPED


@pytest.mark.parametrize("confirms", [True, False])
def test_whoever_closes_a_window_with_layers_is_asked_once(
    user: Any,
    bench: Workbench,
    banked: Path,
    answers: Any,
    qtbot: Any,
    confirms: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(get_settings().application, "confirm_close_window", confirms)
    begin_training(user, bench, banked)
    user.viewer.add_points([[1.0, 2.0]])
    window = user.lasting_window()
    user.viewer.window.remove_dock_widget(user.dock)
    answers.give("Cancel" if confirms else "No")
    window.close(confirm_need=True)  # as the menu does
    assert window.isVisible()
    assert len(answers.questions) == 1
    qtbot.wait(200)  # nobody answers one dialog and asks for another in less
    answers.give("Close" if confirms else "Yes")
    window.close(confirm_need=True)
    assert len(answers.questions) == 2
    assert ("Train is under way" in answers.questions[1]) is not confirms
    assert newest_round(banked).status is RoundStatus.STOPPED


def test_a_task_that_fails_behind_a_closed_dock_is_told_of(user: Any, bench: Workbench, made: Path):
    bench.session.open(made / "project")
    gone = bench.session.require_project().images()[0].path
    gone.unlink()
    bench.bank.build()
    viewer = user.viewer
    viewer.window.remove_dock_widget(user.dock)
    user.wait(lambda: benches.session_of(viewer) is None)
    told = notification_manager.records[-1].message
    assert told.startswith("Build bank: ")
    assert gone.name in told


def test_what_ends_behind_a_closed_dock_is_handed_over_before_all_is_closed(
    user: Any, bench: Workbench, trained: Path
):
    bench.session.open(trained / "project")
    user.click("next-image")
    user.wait(lambda: bench.maps.sight is not None)
    told = len(notification_manager.records)
    bench.review.make_masks()
    viewer = user.viewer
    viewer.window.remove_dock_widget(user.dock)
    assert bench.session.is_busy
    user.wait(lambda: benches.session_of(viewer) is None)
    assert "masks" in bench.session.messages.last
    assert [record.message for record in notification_manager.records[told:]] == []
    assert (bench.session.project, bench.session.current) == (None, None)
    assert list(own_layers(viewer.layers)) == []


def test_a_project_that_is_made_behind_a_closed_dock_is_not_left_open(
    user: Any, bench: Workbench, made: Path
):
    draft = Draft(
        images=str(made / "tiles"),
        classes="tumour, stroma, necrosis, other",
        folder=str(made / "new"),
    )
    bench.labels.intake.edit(draft)
    bench.labels.intake.look()
    user.wait(lambda: not bench.session.is_busy)
    bench.labels.intake.take()
    viewer = user.viewer
    viewer.window.remove_dock_widget(user.dock)
    user.wait(lambda: benches.session_of(viewer) is None)
    assert bench.session.project is None
    with Project.open(made / "new") as project:
        assert project.images()


def test_a_training_goes_on_behind_a_closed_dock(user: Any, bench: Workbench, banked: Path):
    bench.session.open(banked / "project")
    choose_preset(user, "quick")
    user.click("train")
    user.viewer.window.remove_dock_widget(user.dock)
    assert open_workbench(user.viewer) is bench
    user.wait(lambda: not bench.session.is_busy)
    assert user.text("message").startswith("Round 1 is trained")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_openings_leave_nothing_behind(user: Any, trained: Path, times: int):
    user.viewer.window.remove_dock_widget(user.dock)
    left = use_and_close(user, trained)  # also makes what napari, torch and zarr keep for good
    user.wait(lambda: not alive(left))
    user.settle()
    before = standing(user)
    for _ in range(times):
        left += use_and_close(user, trained)
    user.settle()

    def nothing_is_left() -> bool:
        assert alive(left) == []
        assert standing(user) == before
        return True

    user.wait(nothing_is_left)
    assert benches.workbench_of(user.viewer) is None


def use_and_close(user: Any, workspace: Path) -> list[weakref.ref[Any]]:
    """Draw on an image in the workbench, close the dock, and return what must be gone then."""
    viewer = user.viewer
    bench = open_workbench(viewer)
    _, canvas = benches.join(viewer)
    benches.leave(viewer)
    bench.session.open(workspace / "project")
    bench.session.attempt(lambda: bench.review.step(1))
    user.wait(lambda: bench.maps.sight is not None)
    layers = list(own_layers(viewer.layers))
    assert {role_of(layer) for layer in layers} == {Role.IMAGE, Role.CLASS_MAP, Role.MASK}
    assert len(viewer.keymap) == len(KEYS) + len(UNDO_KEYS)
    viewer.layers.selection.active.paint((20, 20), 2)
    dock = user.dock
    things = [dock, *dock.pages.values(), bench, bench.session, bench.session.project]
    things += [canvas, *layers, bench.opened, bench.opened.pixels, bench.maps, bench.maps.sight]
    viewer.window.remove_dock_widget(dock)
    return [weakref.ref(thing) for thing in things]


def standing(user: Any) -> dict[str, int]:
    """Count what a workbench could leave behind in the window."""
    # Qt deletes later what was closed outside of its event loop, where a test runs: now.
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    # Those of Qt's pool and of asyncio's stay, and are shared by all.
    shared = ("Dummy", "asyncio")
    return {
        "threads": sum(not thread.name.startswith(shared) for thread in threading.enumerate()),
        "timers": sum(issubclass(type(thing), QTimer) for thing in gc.get_objects()),
        "widgets": len(QApplication.allWidgets()),
        "layers": len(user.viewer.layers),
        "keys": len(user.viewer.keymap),
    }


def test_a_project_folder_opened_in_napari_opens_in_the_workbench(user: Any, made: Path):
    viewer = user.viewer
    dropped = (made / "project").rename(made / "cases-protoseg")
    viewer.open(str(dropped), plugin="napari-protoseg")
    bench = benches.workbench_of(viewer)
    assert bench is not None
    assert bench.session.require_project().folder == dropped
    assert user.text("project-name") == "cases-protoseg"
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


def test_the_window_stands_on_the_binding_that_was_asked_for():
    import qtpy

    asked = os.environ.get("QT_API")
    if not asked:
        pytest.skip("no binding was asked for")
    assert qtpy.API_NAME.casefold() == asked.casefold()
    assert os.environ.get("PYTEST_QT_API", asked).casefold() == asked.casefold()


def test_the_button_that_looks_at_more_images_is_seen_in_the_window_as_it_opens(
    user: Any, bench: Workbench, made: Path
):
    bench.session.open(made / "project")
    user.page("Labels")
    user.click("show-intake")
    look = user.find(QPushButton, "look")
    user.wait(lambda: look.visibleRegion().boundingRect() == look.rect(), 10)
