"""The open project at the head of every dock, and how to open another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMessageBox, QPushButton, QWidget

from napari_protoseg.widgets.elided import ElidedLabel
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.workbench.session import Session


class ProjectHeader(QWidget):
    """Names the open project; opens another.

    Parameters
    ----------
    session
        Whose.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._name = ElidedLabel()
        self._name.setObjectName("project-name")
        self._open = QPushButton("Open project")
        self._open.setObjectName("open-project")
        self._open.clicked.connect(self._choose)
        self._sample = QPushButton("Sample")
        self._sample.setObjectName("open-sample")
        self._sample.setToolTip("Make a project of synthetic tissue, to try things on.")
        self._sample.clicked.connect(session.open_sample)
        self._take_over = QPushButton("Take over")
        self._take_over.setObjectName("take-over")
        self._take_over.setToolTip("Write to the project here; no other program can any more.")
        self._take_over.clicked.connect(self._ask_to_take_over)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(9, 6, 9, 0)
        layout.addWidget(self._name, 1)
        layout.addWidget(self._take_over)
        layout.addWidget(self._sample)
        layout.addWidget(self._open)
        session.opened.connect(self._show)
        session.task_changed.connect(self._show)
        self._show()

    def close_header(self) -> None:
        """Let go of the session."""
        self._session.opened.disconnect(self._show, missing_ok=True)
        self._session.task_changed.disconnect(self._show, missing_ok=True)

    def _show(self) -> None:
        project = self._session.project
        is_read_only = project is not None and project.is_read_only
        name = "No project is open." if project is None else project.folder.name
        self._name.setText(f"{name} (read-only)" if is_read_only else name)
        self._name.setToolTip("" if project is None else plain(str(project.folder)))
        self._take_over.setVisible(is_read_only)
        for button in (self._open, self._sample, self._take_over):
            button.setEnabled(not self._session.is_busy)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a ProtoSeg project")
        if folder:
            self._session.attempt(lambda: self._session.open(Path(folder)))

    def _ask_to_take_over(self) -> None:
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        question = (
            f"{self._session.read_only()}\n\nWhat is not saved there will be lost. Take it over?"
        )
        answer = QMessageBox.question(self, "Take over the project?", plain(question), yes | no, no)
        if answer == yes:
            self._session.attempt(self._session.take_over)
