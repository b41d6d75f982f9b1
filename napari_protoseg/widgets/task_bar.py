"""The long task at the foot of every dock: how far it is, pause, stop, and what it said."""

from __future__ import annotations

from collections.abc import Callable

from psygnal import SignalInstance
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.events import Event, Progress
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.workbench.messages import MARK
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import TaskState

_WARNINGS_SHOWN = 3


class TaskBar(QWidget):
    """Shows the session's task and messages; lets a person pause and stop it.

    Parameters
    ----------
    session
        Whose.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._title = PlainLabel()
        self._bar = QProgressBar()
        self._bar.setObjectName("task-progress")
        self._pause = QPushButton("Pause")
        self._pause.setObjectName("pause-task")
        self._pause.clicked.connect(self._pause_or_resume)
        self._stop = QPushButton("Stop")
        self._stop.setObjectName("stop-task")
        self._stop.clicked.connect(self._stop_task)
        self._task_row = QWidget()
        row = QHBoxLayout(self._task_row)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self._bar, self._pause, self._stop):
            row.addWidget(widget)

        self._warnings = _sentence("warnings")
        self._dismiss = QPushButton("Dismiss")
        self._dismiss.setObjectName("dismiss-warnings")
        self._dismiss.setToolTip("Hide the warnings; they stay in Details until the next task.")
        self._dismiss.clicked.connect(session.messages.dismiss)
        warning_row = QHBoxLayout()
        warning_row.addWidget(self._warnings, 1)
        warning_row.addWidget(self._dismiss)
        self._message = _sentence("message")
        self._more = QPushButton("Details")
        self._more.setObjectName("message-details")
        self._more.setCheckable(True)
        self._details = QPlainTextEdit()
        self._details.setObjectName("message-log")
        self._details.setReadOnly(True)
        self._details.setMaximumHeight(160)
        self._details.hide()
        self._more.toggled.connect(self._details.setVisible)
        message_row = QHBoxLayout()
        message_row.addWidget(self._message, 1)
        message_row.addWidget(self._more)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(9, 0, 9, 6)
        layout.addWidget(self._title)
        layout.addWidget(self._task_row)
        layout.addLayout(warning_row)
        layout.addLayout(message_row)
        layout.addWidget(self._details)

        self._connections: tuple[tuple[SignalInstance, Callable[..., None]], ...] = (
            (session.task_changed, self._show_task),
            (session.progressed, self._show_progress),
            (session.messages.changed, self._show_messages),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self._show_task()
        self._show_messages()

    def close_bar(self) -> None:
        """Let go of the session."""
        for signal, slot in self._connections:
            signal.disconnect(slot, missing_ok=True)
        self._connections = ()

    def _show_task(self) -> None:
        task = self._session.task
        running = task is not None and not task.is_over
        self._title.setVisible(running)
        self._task_row.setVisible(running)
        if task is None or not running:
            return
        paused = task.state is TaskState.PAUSED
        ending = task.state is TaskState.STOPPING
        self._title.setText(
            f"{task.title}: paused"
            if paused
            else f"{task.title}: stopping"
            if ending
            else task.title
        )
        self._pause.setText("Resume" if paused else "Pause")
        self._pause.setEnabled(not ending)
        self._stop.setEnabled(not ending)
        self._draw_progress(task.progress)

    def _show_progress(self, event: Event) -> None:
        if event.progress is not None:
            self._draw_progress(event.progress)

    def _draw_progress(self, progress: Progress | None) -> None:
        if progress is None:
            self._bar.setRange(0, 0)
            self._bar.setFormat("")
            return
        # Qt shows no text on a bar that has no length.
        self._bar.setRange(0, max(progress.total, 1))
        self._bar.setValue(progress.done)
        self._bar.setFormat(f"{progress.stage}: {progress.done} of {progress.total}")

    def _show_messages(self) -> None:
        messages = self._session.messages
        warnings = [MARK + warning for warning in messages.warnings[:_WARNINGS_SHOWN]]
        more = len(messages.warnings) - len(warnings)
        self._dismiss.setVisible(bool(warnings))
        if more:
            warnings.append(f"{MARK}{more} more: see Details.")
        if messages.standing:
            warnings.insert(0, MARK + messages.standing)
        self._warnings.setText("\n".join(warnings))
        self._message.setText(messages.last)
        self._warnings.setVisible(bool(warnings))
        self._message.setVisible(bool(messages.last))
        self._details.setPlainText(messages.details)
        self._more.setVisible(messages.details not in ("", messages.shown))
        if not messages.details:
            self._more.setChecked(False)

    def _pause_or_resume(self) -> None:
        task = self._session.task
        if task is not None:
            if task.state is TaskState.PAUSED:
                task.resume()
            else:
                task.pause()

    def _stop_task(self) -> None:
        if self._session.task is not None:
            self._session.task.stop()


def _sentence(name: str) -> QLabel:
    label = PlainLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
