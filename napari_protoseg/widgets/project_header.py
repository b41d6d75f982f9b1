"""The open project at the head of every dock, and how to open another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

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
        self._name = QLabel()
        self._name.setObjectName("project-name")
        self._open = QPushButton("Open project")
        self._open.setObjectName("open-project")
        self._open.clicked.connect(self._choose)
        self._sample = QPushButton("Sample")
        self._sample.setObjectName("open-sample")
        self._sample.setToolTip("Make a project of synthetic tissue, to try things on.")
        self._sample.clicked.connect(session.open_sample)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(9, 6, 9, 0)
        layout.addWidget(self._name, 1)
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
        read_only = " (read-only)" if project is not None and project.is_read_only else ""
        name = "No project is open." if project is None else f"{project.folder.name}{read_only}"
        self._name.setText(name)
        self._name.setToolTip("" if project is None else str(project.folder))
        for button in (self._open, self._sample):
            button.setEnabled(not self._session.is_busy)

    def _choose(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a ProtoSeg project")
        if folder:
            self._session.attempt(lambda: self._session.open(Path(folder)))
