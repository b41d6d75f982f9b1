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

from napari_protoseg.events import Event, Notice, Progress, Severity
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Problem, TaskState

_KEPT_NOTICES = 50


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
        self._said: list[str] = []
        self._title = QLabel()
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

        self._message = QLabel()
        self._message.setObjectName("message")
        self._message.setWordWrap(True)
        self._message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._more = QPushButton("Details")
        self._more.setObjectName("message-details")
        self._more.setCheckable(True)
        self._details = QPlainTextEdit()
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
        layout.addLayout(message_row)
        layout.addWidget(self._details)

        self._connections: tuple[tuple[SignalInstance, Callable[..., None]], ...] = (
            (session.task_changed, self._show_task),
            (session.progressed, self._show_progress),
            (session.said, self._show_notice),
            (session.went_wrong, self._show_problem),
            (session.opened, self._forget),
        )
        for signal, slot in self._connections:
            signal.connect(slot)
        self._show_task()
        self._say("", "")

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

    def _show_notice(self, notice: Notice) -> None:
        self._said = [*self._said, notice.text][-_KEPT_NOTICES:]
        mark = "\N{WARNING SIGN} " if notice.severity is Severity.WARNING else ""
        self._say(mark + notice.text, "\n".join(self._said))

    def _show_problem(self, problem: Problem) -> None:
        self._say(f"\N{WARNING SIGN} {problem.sentence}", problem.details)

    def _forget(self) -> None:
        self._said = []
        self._say("", "")

    def _say(self, sentence: str, details: str) -> None:
        self._message.setText(sentence)
        self._message.setVisible(bool(sentence))
        self._details.setPlainText(details)
        self._more.setVisible(bool(details) and details != sentence)
        if not details:
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
