"""The list of images in review: each with how its mask stands."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractListModel, QItemSelectionModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor, QResizeEvent
from qtpy.QtWidgets import QAbstractItemView, QListView

from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.workbench.review_page import ReviewState

_PROPOSED = (
    "Proposed: the model makes the mask when the image is opened. It is stored once it is "
    "accepted, corrected or saved, or with all others by Make all masks."
)
_LEAST_HEIGHT = 120
_COLORS = {
    ReviewStatus.ACCEPTED: QColor("#4CAF50"),
    ReviewStatus.SKIPPED: QColor("#9E9E9E"),
    ReviewStatus.FLAGGED: QColor("#FF9800"),
}


class _Model(QAbstractListModel):
    """The listed images of a `ReviewState`."""

    def __init__(self, state: ReviewState) -> None:
        super().__init__()
        self._images = state.images
        self._state = state

    def reread(self) -> None:
        """List what is listed now."""
        self.beginResetModel()
        self._images = self._state.images
        self.endResetModel()

    def retell(self, row: int) -> None:
        """Let what is shown of an image be asked for anew."""
        index = self.index(row, 0)
        if index.isValid():
            self.dataChanged.emit(index, index)

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 (Qt's name)
        """Return the number of listed images."""
        return 0 if parent is not None and parent.isValid() else len(self._images)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what is shown of an image."""
        item = self._images[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{item.image.path.name}   {self._state.state_of(item)}"
        if role == Qt.ItemDataRole.ToolTipRole:
            path = str(item.image.path)
            has_more = item.mask is None and item.is_proposed and not self._state.is_edited(item)
            return plain(f"{path}\n{_PROPOSED}" if has_more else path)
        if role == Qt.ItemDataRole.DecorationRole and item.status is not None:
            return _COLORS[item.status]
        return None


class ReviewListView(QListView):
    """Lists the images of a `ReviewState`; a click opens one.

    Parameters
    ----------
    state
        Whose.
    """

    chosen = Signal(int)
    """A row was clicked, or reached by key."""

    def __init__(self, state: ReviewState) -> None:
        super().__init__()
        self.setObjectName("review-list")
        self._state = state
        self._rows = _Model(state)
        self._rows.setParent(self)
        self.setModel(self._rows)
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.selectionModel().currentChanged.connect(self._choose)
        self._is_following = False

    def reread(self) -> None:
        """List what is listed now, and mark the open image."""
        self._is_following = True
        self._rows.reread()
        self._is_following = False
        self.follow()

    def follow(self) -> None:
        """Mark the open image."""
        current = self._state.session.current
        row = self._state.images.row_of(None if current is None else current.id)
        self._is_following = True
        if row is None:
            self.clearSelection()
        else:
            index = self._rows.index(row, 0)
            flag = QItemSelectionModel.SelectionFlag.ClearAndSelect
            self.selectionModel().setCurrentIndex(index, flag)
            self.scrollTo(index)
        self._is_following = False

    def follow_state(self) -> None:
        """Show how the mask of the open image stands; no other row is looked at."""
        current = self._state.session.current
        row = self._state.images.row_of(None if current is None else current.id)
        if row is not None:
            self._rows.retell(row)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Ask for a few rows; the page gives it all that is left."""
        return QSize(super().sizeHint().width(), _LEAST_HEIGHT)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (Qt's name)
        """Keep the marked row in sight where the list has become lower."""
        super().resizeEvent(event)
        if self.selectionModel().hasSelection():
            self.scrollTo(self.currentIndex())

    def _choose(self, index: QModelIndex) -> None:
        if index.isValid() and not self._is_following:
            self.chosen.emit(index.row())
