"""The page of labels: take images in, edit classes, label thumbnails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtCore import QEvent, QObject, QSize
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.widgets.class_legend import ClassLegend
from napari_protoseg.widgets.class_table import ClassTable
from napari_protoseg.widgets.intake_form import IntakeForm
from napari_protoseg.widgets.mask_form import MaskForm
from napari_protoseg.widgets.moved_form import MovedForm
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.widgets.thumbnails import ThumbnailModel, ThumbnailView
from napari_protoseg.workbench.labels_page import LabelsState

_PANEL_HEIGHT = 420
_LEAST_PANEL_HEIGHT = 260
"""The thumbnails give way to a form that is open, with its buttons, down to this."""

_ANY_HEIGHT = 16_777_215  # Qt's largest size of a widget
_HELP = (
    "The key of a class, or a click on it: present or absent. Shift+click: unknown. Enter: what "
    "is unknown is absent, go on. Double-click: open."
)


class _FittingArea(QScrollArea):
    """Scrolls what does not fit, and leaves the rest of the page what it does not need."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self._fitting = False

    def set_fitting(self, fitting: bool) -> None:
        """Be no higher than what it shows; or as high as there is room."""
        self._fitting = fitting
        self._fit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Follow the height of what it shows, of which Qt tells it."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return bool(super().eventFilter(watched, event))

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for what it shows, up to a limit."""
        return QSize(super().sizeHint().width(), min(self._needed(), _PANEL_HEIGHT))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Do not let the thumbnails below take the room of a form."""
        least = min(self._needed(), _LEAST_PANEL_HEIGHT) if self._fitting else 0
        return QSize(super().minimumSizeHint().width(), least)

    def _needed(self) -> int:
        return int(self.widget().sizeHint().height()) + 2

    def _fit(self) -> None:
        self.setMaximumHeight(self._needed() if self._fitting else _ANY_HEIGHT)
        self.updateGeometry()


class LabelsPage(Page):
    """Draws a `LabelsState`.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__(state)
        self._labels = state
        self._project = state.session.project
        self.setAcceptDrops(True)
        # So that napari gives it the height of its dock, where it stands alone in one.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._intake = IntakeForm(state)
        self._classes = ClassTable(state)
        self._masks = MaskForm(state)
        self._moved = MovedForm(state)
        self._panels: dict[QPushButton, QWidget] = {}
        self._tools = QWidget()
        tools = QHBoxLayout(self._tools)
        tools.setContentsMargins(0, 0, 0, 0)
        for text, name, panel in (
            ("Classes", "show-classes", self._classes),
            ("Add images", "show-intake", self._intake),
            ("Import masks", "show-masks", self._masks),
            ("Find images", "show-moved", self._moved),
        ):
            button = QPushButton(text)
            button.setObjectName(name)
            button.setCheckable(True)
            button.clicked.connect(partial(self._show_panel, button))
            tools.addWidget(button)
            self._panels[button] = panel
        self._panel_area = _FittingArea()
        inner = QWidget()
        panels = QVBoxLayout(inner)
        panels.setContentsMargins(0, 0, 0, 0)
        for panel in self._panels.values():
            panels.addWidget(panel)
            panel.hide()
        panels.addStretch(1)
        self._panel_area.setWidget(inner)
        self.body.addWidget(self._tools)
        self.body.addWidget(self._panel_area)
        self.body.addWidget(self._make_grid(), 1)
        self.listen(state.intake.changed, self._intake.refresh)
        self.listen(state.listed, self._relist)
        self.listen(state.relabelled, self._model.redraw)
        self._relist()
        self.refresh()

    def refresh(self) -> None:
        """Draw the state as it is now."""
        super().refresh()
        state = self._labels
        if state.session.project is not self._project:
            self._project = state.session.project
            for button in self._panels:
                button.setChecked(False)
        has_project = self._project is not None
        self._tools.setVisible(has_project)
        self._grid.setVisible(has_project and bool(state.images.all))
        self._counts.setText(state.counts())
        self._legend.show_schema(state.schema)
        self._next.setText(state.next_step())
        self._undo.setEnabled(state.can_undo)
        self._redo.setEnabled(state.can_redo)
        for button, panel in self._panels.items():
            panel.setVisible(button.isChecked() or (not has_project and panel is self._intake))
        self._panel_area.set_fitting(not self._grid.isHidden())
        self._panel_area.setVisible(
            not has_project or any(button.isChecked() for button in self._panels)
        )
        self._classes.refresh()
        self._masks.refresh()
        self._moved.refresh()
        self._intake.refresh()

    def close_page(self) -> None:
        """Stop reading thumbnails, and let go of the state."""
        super().close_page()
        self._classes.close_table()
        self._model.close()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 (Qt's name)
        """Accept folders and files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 (Qt's name)
        """Choose what was dropped; nothing is read yet."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths and self._labels.session.attempt(lambda: self._labels.intake.choose(paths)):
            event.acceptProposedAction()
            self._open_panel(self._intake)

    def _make_grid(self) -> QWidget:
        self._counts = PlainLabel()
        self._counts.setObjectName("label-counts")
        self._counts.setWordWrap(True)
        self._filter = QComboBox()
        self._filter.setObjectName("listing")
        self._filter.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._filter.activated.connect(self._list)
        self._undo = self._tool("Undo", "undo-label", self._undo_edit)
        self._redo = self._tool("Redo", "redo-label", self._redo_edit)
        self._model = ThumbnailModel(self._labels)
        self._model.setParent(self)
        self.thumbnails = ThumbnailView(self._model, self._labels)
        self.thumbnails.toggled.connect(self._toggle)
        self.thumbnails.forgotten.connect(self._forget)
        self.thumbnails.completed.connect(self._complete)
        self.thumbnails.opened.connect(self._open)
        self.thumbnails.undone.connect(self._undo_edit)
        self.thumbnails.redone.connect(self._redo_edit)
        help_line = QLabel(_HELP)
        help_line.setWordWrap(True)
        self._next = PlainLabel()
        self._next.setObjectName("next-step")
        self._next.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self._filter, 1)
        row.addWidget(self._undo)
        row.addWidget(self._redo)
        self._grid = QWidget()
        layout = QVBoxLayout(self._grid)
        layout.setContentsMargins(0, 0, 0, 0)
        self._legend = ClassLegend()
        layout.addWidget(self._counts)
        layout.addWidget(self._legend)
        layout.addLayout(row)
        layout.addWidget(self.thumbnails, 1)
        layout.addWidget(help_line)
        layout.addWidget(self._next)
        return self._grid

    def _tool(self, text: str, name: str, slot: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.clicked.connect(slot)
        return button

    def _show_panel(self, wanted: QPushButton) -> None:
        for button in self._panels:
            if button is not wanted:
                button.setChecked(False)
        self.refresh()

    def _open_panel(self, panel: QWidget) -> None:
        for button, known in self._panels.items():
            button.setChecked(known is panel)
        self.refresh()

    def _relist(self) -> None:
        """Show the listed images anew; the one that keys change stays, where it is listed."""
        image_id = self.thumbnails.last_image
        self._model.relist()
        self._filter.clear()
        for listing, title in self._labels.listings():
            self._filter.addItem(title, listing)
            if listing == self._labels.images.listing:
                self._filter.setCurrentIndex(self._filter.count() - 1)
        row = None if image_id is None else self._labels.images.row_of(image_id)
        self.thumbnails.go_to(row or 0)

    def _list(self) -> None:
        self._labels.show_listing(self._filter.currentData())

    def _toggle(self, image_id: int, class_id: int) -> None:
        self._labels.session.attempt(lambda: self._labels.toggle(image_id, class_id))

    def _forget(self, image_id: int, class_id: int) -> None:
        self._labels.session.attempt(lambda: self._labels.forget(image_id, class_id))

    def _complete(self, image_id: int) -> None:
        if self._labels.session.attempt(lambda: self._labels.complete(image_id)):
            row = self._labels.images.row_of(image_id)
            if row is not None:
                self.thumbnails.go_to(row + 1)

    def _open(self, image_id: int) -> None:
        self._labels.session.attempt(lambda: self._labels.open_image(image_id))

    def _undo_edit(self) -> None:
        self._labels.session.attempt(lambda: self._go_to_image(self._labels.undo()))

    def _redo_edit(self) -> None:
        self._labels.session.attempt(lambda: self._go_to_image(self._labels.redo()))

    def _go_to_image(self, image_id: int | None) -> None:
        row = None if image_id is None else self._labels.images.row_of(image_id)
        if row is not None:
            self.thumbnails.go_to(row)
