"""What tests of windows share: tiny projects, a viewer, and someone who clicks and types in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "jobs"))
sys.path.append(str(Path(__file__).parent.parent / "workbench"))

from tiny_project import (  # noqa: F401 (fixtures)
    banked,
    banked_workspace,
    both_stages,
    both_stages_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)


class User:
    """Someone at a window: clicks what is seen and enabled, and types through the X server.

    Parameters
    ----------
    viewer
        With a workbench.
    qtbot
        Of pytest-qt.
    """

    def __init__(self, viewer: Any, qtbot: Any) -> None:
        self.viewer = viewer
        self._qtbot = qtbot

    @property
    def dock(self) -> Any:
        from napari_protoseg.widgets.docks import Dock

        (dock,) = [w for w in self.viewer.window.dock_widgets.values() if isinstance(w, Dock)]
        return dock

    def find(self, kind: Any, name: str) -> Any:
        (found,) = self.dock.findChildren(kind, name)
        return found

    def page(self, title: str) -> Any:
        """Click the tab of a page, and return the page."""
        from qtpy.QtCore import Qt

        tabs = self.dock.tabs
        (index,) = [k for k in range(tabs.count()) if tabs.tabText(k) == title]
        place = tabs.tabBar().tabRect(index).center()
        self._qtbot.mouseClick(tabs.tabBar(), Qt.MouseButton.LeftButton, pos=place)
        assert tabs.currentIndex() == index
        return self.dock.pages[title]

    def turn_to(self, widget: Any) -> None:
        """Bring the page of a widget to the front, and scroll there."""
        from qtpy.QtWidgets import QScrollArea

        for index in range(self.dock.tabs.count()):
            if self.dock.tabs.widget(index).isAncestorOf(widget):
                self.dock.tabs.setCurrentIndex(index)
        around = [
            area
            for area in self.dock.findChildren(QScrollArea)
            if area.widget().isAncestorOf(widget)
        ]

        def is_seen() -> bool:
            for area in around:
                area.ensureWidgetVisible(widget)
            return not widget.visibleRegion().isEmpty()

        self.wait(is_seen)

    def click(self, name: str) -> None:
        """Click a button of the workbench."""
        from qtpy.QtCore import Qt
        from qtpy.QtWidgets import QAbstractButton

        button = self.find(QAbstractButton, name)
        self.turn_to(button)
        assert button.isEnabled(), f"{name} is not enabled"
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def text(self, name: str) -> str:
        """Read a label of the workbench."""
        from qtpy.QtWidgets import QLabel

        return str(self.find(QLabel, name).text())

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        self._qtbot.waitUntil(condition, timeout=round(seconds * 1000))

    def settle(self) -> None:
        """Let what was asked for be drawn."""
        self._qtbot.wait(400)

    @property
    def window(self) -> Any:
        return self.dock.window()

    def lasting_window(self) -> Any:
        """Return the window, made to outlive its closing: the fixture closes it once more."""
        from qtpy.QtCore import Qt

        self.window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
        return self.window

    def screen_key(self, *chords: str) -> None:
        """Press keys as a keyboard does, in whatever widget has the focus."""
        self.window.activateWindow()
        self._qtbot.wait(100)
        for chord in chords:
            self._at_screen("key", "--clearmodifiers", chord)
            self._qtbot.wait(150)

    def drag(self, *places: tuple[float, float]) -> None:
        """Draw over the canvas as a hand with a mouse does.

        Parameters
        ----------
        places
            Where the mouse comes by, as shares of the width and height of the canvas.
        """
        self.hold(*places)
        self.let_go()

    def hold(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first of some places of the canvas, and move it by the others."""
        words = self._moves(places[0])
        words += ["mousedown", "1", "sleep", "0.1"]
        self._at_screen(*words, *self._moves(*places[1:]))

    def let_go(self, *places: tuple[float, float]) -> None:
        """Move the mouse by some places, and release it."""
        self._at_screen(*self._moves(*places), "mouseup", "1")

    def _moves(self, *places: tuple[float, float]) -> list[str]:
        from qtpy.QtCore import QPoint

        canvas, words = self.canvas, []
        for x, y in places:
            place = QPoint(round(x * canvas.width()), round(y * canvas.height()))
            point = canvas.mapToGlobal(place)
            words += ["mousemove", str(point.x()), str(point.y()), "sleep", "0.1"]
        return words

    def _at_screen(self, *words: str) -> None:
        """Use mouse or keyboard through the X server, while the window goes on."""
        if shutil.which("xdotool") is None:
            pytest.skip("there is no xdotool to move the mouse and press keys with")
        hand = subprocess.Popen(["xdotool", *words])
        self.wait(lambda: hand.poll() is not None, 30)
        assert hand.returncode == 0

    @property
    def canvas(self) -> Any:
        """The widget of the canvas."""
        from qtpy.QtWidgets import QOpenGLWidget

        (canvas,) = [
            widget for widget in self.window.findChildren(QOpenGLWidget) if widget.isVisible()
        ]
        return canvas

    def focus_canvas(self) -> None:
        """Give the keyboard to the canvas, as a click on it does."""
        self.canvas.setFocus()
        self._qtbot.wait(50)


@pytest.fixture
def session(qapp: Any) -> Iterator[Any]:
    """A session whose jobs run in threads, for a page that is shown alone."""
    from napari_protoseg.plugin.threads import ThreadRunner
    from napari_protoseg.workbench.session import Session, Settings

    session = Session(ThreadRunner(), lambda: Settings(device="cpu"))
    yield session
    session.close()


@pytest.fixture
def show_page(qtbot: Any) -> Iterator[Callable[[Any], Any]]:
    """``show_page(page)`` shows a page in a window of its own, and returns it."""
    shown: list[Any] = []

    def show(page: Any) -> Any:
        qtbot.addWidget(page)
        page.resize(420, 900)
        page.show()
        qtbot.waitExposed(page)
        shown.append(page)
        return page

    yield show
    for page in shown:
        page.close_page()


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any, npe2pm: Any) -> Iterator[Any]:
    """A shown viewer that knows this plugin."""
    from npe2 import PluginManifest

    from napari_protoseg.plugin import benches

    npe2pm.register(PluginManifest.from_distribution("napari-protoseg"))
    viewer = make_napari_viewer_proxy(show=True)
    yield viewer
    benches.close(viewer)


@pytest.fixture
def bench(viewer: Any) -> Any:
    """The workbench of `viewer`, in its dock."""
    from napari_protoseg.plugin.commands import open_workbench

    return open_workbench(viewer)


@pytest.fixture
def user(viewer: Any, bench: Any, qtbot: Any) -> User:
    """Someone at the workbench of `viewer`."""
    return User(viewer, qtbot)


class Answers:
    """Someone who answers the next dialog."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.questions: list[str] = []
        self._answer = ""
        self._timer = QTimer()
        self._timer.timeout.connect(self._look)

    def give(self, button: str) -> None:
        """Press a button as soon as a dialog has it."""
        self._answer = button
        self._timer.start(100)

    def stop(self) -> None:
        """Answer no dialog any more."""
        self._timer.stop()

    def _look(self) -> None:
        from qtpy.QtWidgets import QApplication, QLabel, QPushButton

        dialog = QApplication.activeModalWidget()
        if dialog is None:
            return
        self._timer.stop()
        self.questions.append("\n".join(label.text() for label in dialog.findChildren(QLabel)))
        buttons = {b.text().replace("&", ""): b for b in dialog.findChildren(QPushButton)}
        buttons[self._answer].click()


@pytest.fixture
def answers(qapp: Any) -> Answers:
    return Answers()
