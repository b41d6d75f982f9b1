"""The window is closed: who is asked before, and what is let go after."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

from napari_protoseg.plugin import benches
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import TaskState

_NAME = "protoseg-closing"
_AT_ONCE = 100
"""Milliseconds from the answer to a dialog in which nobody can have asked for anything else."""


class WindowClosing(QObject):
    """Watches the window of a viewer for as long as that lives, with or without a dock in it.

    Before it closes, what is drawn is saved, and whoever is at work is asked where that fails, and
    where a task would end of which napari does not ask: it does where the close button of the
    window was pressed, and else only where its settings and the layers that there are say so.

    Parameters
    ----------
    window
        Which becomes the parent of this.
    viewer
        Whose workbench is closed with it.
    """

    closes = Signal()
    """Whoever was asked has agreed, and the window is going."""

    def __init__(self, window: QWidget, viewer: Any) -> None:
        super().__init__(window)
        self.setObjectName(_NAME)
        self._window = window
        self._viewer = viewer
        self._closing = self._was_asked = False
        window.installEventFilter(self)

    @classmethod
    def of(cls, window: QWidget, viewer: Any) -> WindowClosing:
        """Return the one that watches a window."""
        found = window.findChild(cls, _NAME)
        return cls(window, viewer) if found is None else found

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Close the workbench with its window, once whoever was asked has agreed."""
        if event.type() == QEvent.Type.Close:
            if self._can_stay and not self._agrees_to_close(is_asked_by_napari=event.spontaneous()):
                self._was_asked = False
                event.ignore()
                return True
            self._closing = True
        elif event.type() == QEvent.Type.WindowUnblocked:
            # A dialog was answered. Where that was to ask, the window closes at once.
            self._was_asked = True
            QTimer.singleShot(_AT_ONCE, self._forget_answer)
        elif event.type() == QEvent.Type.WindowActivate:
            self._closing = False  # it was asked to close, and stayed
        elif event.type() == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self.closes.emit()
            benches.close(self._viewer)
        return False

    @property
    def _can_stay(self) -> bool:
        """Whether the window is whole: a program that closes the viewer has emptied it before."""
        if not isinstance(self._window, QMainWindow):
            return False
        centre = self._window.centralWidget()
        return any(widget.isVisible() for widget in centre.findChildren(QWidget))

    def _agrees_to_close(self, *, is_asked_by_napari: bool) -> bool:
        session = benches.session_of(self._viewer)
        if session is None:
            return True
        is_asked = is_asked_by_napari or self._was_asked
        return self._agrees_to_lose(session) and (is_asked or self._agrees_to_stop(session))

    def _agrees_to_lose(self, session: Session) -> bool:
        """Save what is drawn, and ask where that fails."""
        problem = session.try_to_save()
        return problem is None or self._asks(
            f"What you have drawn could not be saved: {problem.sentence}\n\nClose all the same?"
        )

    def _agrees_to_stop(self, session: Session) -> bool:
        task = session.task
        if task is None or task.state not in (TaskState.RUNNING, TaskState.PAUSED):
            return True
        return self._asks(
            f"{task.title} is under way. Closing stops it, and keeps what it has.\n\nClose napari?"
        )

    def _asks(self, question: str) -> bool:
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return bool(
            QMessageBox.question(self._window, "Close napari?", plain(question), yes | no, no)
            == yes
        )

    def _forget_answer(self) -> None:
        self._was_asked = False
