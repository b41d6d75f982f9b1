"""The form that finds images again whose folder has moved."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_protoseg.widgets.path_field import PathField, ask_folder
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.workbench.labels_page import LabelsState

_ABOUT = (
    "Images that are not where they were are found by their content, whatever their names are "
    "now. Labels and masks stay theirs."
)


class MovedForm(QWidget):
    """Asks where to look for missing images.

    Parameters
    ----------
    state
        Of the page of labels.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__()
        self._state = state
        self._folder = PathField("moved-folder", "Folder to look in", ask_folder)
        self._folder.changed.connect(self.refresh)
        self._about = PlainLabel()
        self._about.setObjectName("moved-about")
        self._about.setWordWrap(True)
        self._find = QPushButton("Find images")
        self._find.setObjectName("find-images")
        self._find.clicked.connect(self._start)
        form = QFormLayout()
        form.addRow("Folder", self._folder)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._about)
        layout.addWidget(self._find)

    def refresh(self) -> None:
        """Say what is looked for, or why nothing can be."""
        reason = self._state.masks_need()
        self._about.setText(reason or _ABOUT)
        self._find.setEnabled(reason is None and bool(self._folder.line.text()))

    def _start(self) -> None:
        folder = Path(self._folder.line.text())
        self._state.session.attempt(lambda: self._state.find_images(folder))
