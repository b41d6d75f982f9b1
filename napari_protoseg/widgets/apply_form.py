"""The form that applies a model to a folder of new images."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_protoseg.widgets.path_field import PathField, ask_folder, ask_table
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.workbench.review_page import ReviewState


class ApplyForm(QWidget):
    """Chooses images and a model for them.

    Parameters
    ----------
    state
        What applies the model.
    """

    def __init__(self, state: ReviewState) -> None:
        super().__init__()
        self._state = state
        self._images = PathField("apply-images", "Folder of new images", ask_folder)
        self._project = PathField("apply-project", "Project whose model it is", ask_folder)
        self._project.line.setPlaceholderText("this project's own model")
        self._labels = PathField("apply-labels", "Table of image-level labels", ask_table)
        self._labels.line.setPlaceholderText("from names or folders, if they are there")
        self._pixel_size = QLineEdit()
        self._pixel_size.setObjectName("apply-pixel-size")
        self._pixel_size.setPlaceholderText("as the files say, for example 0.5")
        self._pixel_size.setToolTip("A number, or a regular expression over the file name.")
        self._apply = QPushButton("Apply model")
        self._apply.setObjectName("apply-model")
        self._apply.clicked.connect(self._ask)
        self._reason = PlainLabel()
        self._reason.setWordWrap(True)
        form = QFormLayout()
        form.addRow("New images", self._images)
        form.addRow("Model of", self._project)
        form.addRow("Labels", self._labels)
        form.addRow("µm per pixel", self._pixel_size)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._reason)
        layout.addWidget(self._apply)
        for field in (self._images, self._project):
            field.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is missing."""
        reason = self._state.apply_needs(self._images.path, self._project.path)
        self._reason.setText(reason or "")
        self._reason.setVisible(reason is not None)
        self._apply.setEnabled(reason is None)

    def _ask(self) -> None:
        images = self._images.path
        if images is not None:
            project, labels = self._project.path, self._labels.path
            size = self._pixel_size.text().strip() or None
            self._state.session.attempt(lambda: self._state.apply(images, project, labels, size))
