"""The form that imports masks into the open project."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.jobs.import_masks import MaskPurpose
from napari_protoseg.widgets.path_field import PathField, ask_folder
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.workbench.labels_page import LabelsState

_PURPOSES = {
    MaskPurpose.TRUTH: (
        "Truth, to validate on",
        "Their images are validated on, and no longer trained on.",
    ),
    MaskPurpose.CORRECTION: (
        "Correction, to go on from",
        "Their labelled pixels are kept by every later prediction.",
    ),
}
_CODES = {
    MaskCodes.PROJECT: "0 unlabelled, k class number k",
    MaskCodes.ZERO_BASED: "0 first class, past the last: background",
}


class MaskForm(QWidget):
    """Asks for a folder of masks, what their values mean, and what they are for.

    Parameters
    ----------
    state
        Of the page of labels.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__()
        self._state = state
        self._folder = PathField("mask-folder", "Folder of masks", ask_folder)
        self._folder.setToolTip("PNG masks, each named as its image.")
        self._folder.changed.connect(self.refresh)
        self._purpose = QComboBox()
        self._purpose.setObjectName("mask-purpose")
        for purpose, (title, _) in _PURPOSES.items():
            self._purpose.addItem(title, purpose)
        self._purpose.currentIndexChanged.connect(self.refresh)
        self._codes = QComboBox()
        self._codes.setObjectName("mask-codes")
        for codes, title in _CODES.items():
            self._codes.addItem(title, codes)
        for box in (self._purpose, self._codes):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        self._about = PlainLabel()
        self._about.setObjectName("masks-about")
        self._about.setWordWrap(True)
        self._import = QPushButton("Import masks")
        self._import.setObjectName("import-masks")
        self._import.clicked.connect(self._start)
        form = QFormLayout()
        form.addRow("Folder", self._folder)
        form.addRow("For", self._purpose)
        form.addRow("Values", self._codes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self._about)
        layout.addWidget(self._import)

    def refresh(self) -> None:
        """Say what the import does, or why there can be none."""
        reason = self._state.masks_need()
        if reason is None and self._folder.path is None:
            reason = "Choose the folder of the masks."
        self._about.setText(reason or _PURPOSES[self._purpose.currentData()][1])
        self._import.setEnabled(reason is None)

    def _start(self) -> None:
        folder = self._folder.path
        codes, purpose = self._codes.currentData(), self._purpose.currentData()
        if folder is not None:
            self._state.session.attempt(lambda: self._state.import_masks(folder, codes, purpose))
