"""The page of exports: what is written where, what that replaces, and the way to it."""

from __future__ import annotations

from typing import NamedTuple

from qtpy.QtCore import QEvent, QUrl
from qtpy.QtGui import QDesktopServices, QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QPushButton

from napari_protoseg.events import Severity
from napari_protoseg.jobs.export_network import NAME, SUFFIX
from napari_protoseg.jobs.export_plan import Exportable
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.path_field import PathField, ask_folder
from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.workbench.export_page import ExportState


class _Words(NamedTuple):
    """What the page says of one format."""

    name: str
    about: str
    place: str = "A new or empty folder, or one that holds an earlier export."
    replace: str = "Replace the earlier export"


_FORMATS = {
    Exportable.PNG: _Words(
        "Indexed PNG",
        "One PNG for each image: its values are class ids, its colours those of the classes.",
    ),
    Exportable.TRAINING: _Words(
        "Training folder",
        "Images and masks in the layout of BCSS-WSSS, to train a network of another program on.",
    ),
    Exportable.ONNX: _Words(
        "Network (ONNX)",
        "The trained segmentation network as one file, which other programs run without labels.",
        place=f"A folder to write {NAME} into, or a file whose name ends in {SUFFIX}.",
        replace="Replace the file",
    ),
}


class ExportPage(Page):
    """Draws an `ExportState`.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: ExportState) -> None:
        super().__init__(state)
        self._export_state = state
        self._format = QComboBox()
        self._format.setObjectName("export-format")
        for form, words in _FORMATS.items():
            self._format.addItem(words.name, form.value)
        self._format.currentIndexChanged.connect(self._choose_form)
        self._about = PlainLabel()
        self._about.setObjectName("export-about")
        self._folder = PathField("export-folder", "Folder of the export", ask_folder)
        self._folder.changed.connect(state.choose_folder)
        self._plan = PlainLabel()
        self._plan.setObjectName("export-plan")
        for label in (self._about, self._plan):
            label.setWordWrap(True)
        self._overwrite = QCheckBox()
        self._overwrite.setObjectName("export-overwrite")
        self._overwrite.setToolTip("It goes once the new one is complete.")
        self._overwrite.clicked.connect(state.set_overwrite)
        self._export = QPushButton("Export")
        self._export.setObjectName("export")
        self._export.clicked.connect(lambda: state.session.attempt(state.export))
        self._open = QPushButton("Open folder")
        self._open.setObjectName("open-export")
        self._open.clicked.connect(self._open_folder)
        form_layout = QFormLayout()
        form_layout.addRow("Format", self._format)
        form_layout.addRow("", self._about)
        form_layout.addRow("Folder", self._folder)
        self.body.addLayout(form_layout)
        for widget in (self._plan, self._overwrite, self._export, self._open):
            self.body.addWidget(widget)
        self.body.addStretch(1)

    def refresh(self) -> None:
        """Draw what an export would do; while nobody sees it, nothing is planned."""
        if not self.isVisible():
            return
        super().refresh()
        state = self._export_state
        self._format.setCurrentIndex(self._format.findData(state.form.value))
        words = _FORMATS[state.form]
        self._about.setText(words.about)
        self._folder.setToolTip(plain(words.place))
        self._overwrite.setText(words.replace)
        default = state.default_folder
        self._folder.line.setPlaceholderText("" if default is None else str(default))
        if self._folder.line.text() != state.typed:
            self._folder.line.setText(state.typed)
        plan = state.plan
        self._plan.setText("" if plan is None else "\n".join(plan.lines()))
        self._overwrite.setVisible(state.can_overwrite)
        self._overwrite.setChecked(state.overwrite)
        self._export.setEnabled(state.needs() is None)
        self._open.setVisible(state.exported is not None)
        self._open.setToolTip("" if state.exported is None else plain(str(state.exported.folder)))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw what has changed while nobody saw it."""
        super().showEvent(event)
        if not event.spontaneous():
            self._export_state.look_at_folder()
            self.refresh()

    def event(self, event: QEvent) -> bool:
        """Look at the folder again when a person comes back from another program."""
        if event.type() == QEvent.Type.WindowActivate and self.isVisible():
            self._export_state.look_at_folder()
        return bool(super().event(event))

    def _choose_form(self) -> None:
        self._export_state.choose_form(Exportable(self._format.currentData()))

    def _open_folder(self) -> None:
        exported = self._export_state.exported
        if exported is not None and not QDesktopServices.openUrl(
            QUrl.fromLocalFile(str(exported.folder))
        ):
            self._export_state.session.say(
                f"No program here shows folders; the export is in {exported.folder}.",
                Severity.WARNING,
            )
