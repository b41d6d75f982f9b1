"""The grid of thumbnails with their labels: only what is seen is read and drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QAbstractListModel, QEvent, QModelIndex, Qt, Signal
from qtpy.QtGui import QImage, QKeyEvent, QMouseEvent, QPixmap
from qtpy.QtWidgets import QListView

from napari_protoseg.labels.records import Presence
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.widgets.thumbnail_cell import (
    IMAGE_ROLE,
    SIDE,
    ThumbnailDelegate,
    cell_size,
    chip_rectangles,
)
from napari_protoseg.widgets.thumbnail_loader import ThumbnailLoader
from napari_protoseg.workbench.labels_page import LabelsState

_NO_PARENT = QModelIndex()
_KEPT = 1500
_IN_FLIGHT = 2
_WAITING = 64
_PRESENCE_WORDS = {
    Presence.PRESENT: "present",
    Presence.ABSENT: "absent",
    Presence.UNKNOWN: "unknown",
}


class ThumbnailModel(QAbstractListModel):
    """The listed images; reads the file of one only once it is drawn.

    Parameters
    ----------
    state
        Whose images. Whoever shows the model tells it of changes.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__()
        self._state = state
        self._loader = ThumbnailLoader()
        self._loader.loaded.connect(self._keep)
        self._loader.failed.connect(self._keep_failure)
        self._pixmaps: OrderedDict[str, QPixmap] = OrderedDict()
        self._failures: dict[str, str] = {}
        # Newest first: what was scrolled past is dropped, not read.
        self._waiting: OrderedDict[str, ImageRecord] = OrderedDict()
        self._reading: set[str] = set()
        self._row_by_path: dict[str, int] = {}

    def rowCount(self, parent: QModelIndex = _NO_PARENT) -> int:  # noqa: N802 (Qt's name)
        """Return the number of listed images."""
        return 0 if parent.isValid() else len(self._state.images)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the file name, the thumbnail if it was read, or the record of an image."""
        if not index.isValid():
            return None
        image = self._state.images[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return image.path.name
        if role == IMAGE_ROLE:
            return image
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnail(image, index.row())
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain(self._about(image))
        return None

    def relist(self) -> None:
        """Show another list of images; files that could not be read are tried again."""
        self.beginResetModel()
        self._waiting.clear()
        self._row_by_path.clear()
        self._failures.clear()
        self.endResetModel()

    def redraw(self, row: int) -> None:
        """Show the changed label of a row."""
        self.dataChanged.emit(self.index(row), self.index(row))

    def failure(self, image: ImageRecord) -> str | None:
        """Return why the file of an image could not be read; None while that is not known."""
        return self._failures.get(str(image.path))

    def read_count(self) -> int:
        """Return how many thumbnails are kept in memory."""
        return len(self._pixmaps)

    def close(self) -> None:
        """Stop reading files."""
        self._waiting.clear()
        self._loader.close()

    def _thumbnail(self, image: ImageRecord, row: int) -> QPixmap | None:
        path = str(image.path)
        if path in self._pixmaps:
            self._pixmaps.move_to_end(path)
            return self._pixmaps[path]
        if path not in self._failures and path not in self._reading:
            self._row_by_path[path] = row
            self._waiting[path] = image
            self._waiting.move_to_end(path)
            while len(self._waiting) > _WAITING:
                self._waiting.popitem(last=False)
            self._read_next()
        return None

    def _read_next(self) -> None:
        while self._waiting and len(self._reading) < _IN_FLIGHT:
            path, image = self._waiting.popitem()
            self._reading.add(path)
            self._loader.request(image.path, SIDE)

    def _keep(self, path: str, image: QImage) -> None:
        # Twice as many pixels as are shown stay sharp on screens of high density.
        pixmap = QPixmap.fromImage(
            image.scaled(
                2 * SIDE,
                2 * SIDE,
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        )
        pixmap.setDevicePixelRatio(2)
        self._pixmaps[path] = pixmap
        while len(self._pixmaps) > _KEPT:
            self._pixmaps.popitem(last=False)
        self._arrived(path)

    def _keep_failure(self, path: str, reason: str) -> None:
        self._failures[path] = reason
        self._arrived(path)

    def _arrived(self, path: str) -> None:
        self._reading.discard(path)
        row = self._row_by_path.pop(path, None)
        if row is not None and row < self.rowCount():
            self.redraw(row)
        self._read_next()

    def _about(self, image: ImageRecord) -> str:
        lines = [str(image.path), f"{image.width} x {image.height} pixels, {image.split.value}"]
        if image.case is not None:
            lines.append(f"Case {image.case}")
        schema = self._state.schema
        if schema is not None:
            lines += [
                f"{known.name}: {_PRESENCE_WORDS[Presence(presence)]}"
                for known, presence in zip(schema.classes, image.label, strict=True)
            ]
        reason = self.failure(image)
        return "\n".join([*lines, reason] if reason else lines)


class ThumbnailView(QListView):
    """Tells which class of which image a person wants changed; changes nothing itself.

    Parameters
    ----------
    model
        The images.
    state
        Which classes there are, and their keys.
    """

    toggled = Signal(int, int)
    """A class of an image is to be switched: image id, class id."""
    forgotten = Signal(int, int)
    """A class of an image is to become unknown: image id, class id."""
    completed = Signal(int)
    """The unknown classes of an image are to become absent: image id."""
    opened = Signal(int)
    """An image is to be opened: image id."""

    undone = Signal()
    """The last edit is to be taken back."""
    redone = Signal()
    """It is to be done again."""

    def __init__(self, model: ThumbnailModel, state: LabelsState) -> None:
        super().__init__()
        self._state = state
        self.last_image: int | None = None
        """The image that keys change, or did before the list was made anew."""
        self.setObjectName("thumbnails")
        self.setModel(model)
        self.setItemDelegate(ThumbnailDelegate(state, self))
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QListView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setMinimumHeight(cell_size(state.schema).height() + 8)

    def current_image(self) -> int | None:
        """Return the id of the image that keys change."""
        index = self.currentIndex()
        return index.data(IMAGE_ROLE).id if index.isValid() else None

    def currentChanged(  # noqa: N802 (Qt's name)
        self, current: QModelIndex, previous: QModelIndex
    ) -> None:
        """Remember the image: another list may hold it at another row."""
        super().currentChanged(current, previous)
        if current.isValid():
            self.last_image = current.data(IMAGE_ROLE).id

    def go_to(self, row: int) -> None:
        """Make the image at a row the one that keys change."""
        if 0 <= row < self.model().rowCount():
            index = self.model().index(row, 0)
            self.setCurrentIndex(index)
            self.scrollTo(index)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 (Qt's name)
        """Change a class where its chip is clicked."""
        if not self._click(event):
            super().mousePressEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802 (Qt's name)
        """Open an image; two quick clicks on a chip are two clicks."""
        if self._click(event):
            return
        index = self.indexAt(event.pos())
        if index.isValid() and event.button() == Qt.MouseButton.LeftButton:
            self.opened.emit(index.data(IMAGE_ROLE).id)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 (Qt's name)
        """Do what a key is for; the arrows are the list's."""
        act = self._act_of(event)
        if act is None:
            super().keyPressEvent(event)
        elif not event.isAutoRepeat():
            act()  # a class held down would flicker, and Enter would run through the list

    def keyboardSearch(self, search: str) -> None:  # noqa: N802 (Qt's name)
        """Do nothing: letters are keys of classes, and must not jump to a file."""

    def event(self, event: QEvent) -> bool:
        """Take the keys of the list before any shortcut of the window does."""
        if event.type() == QEvent.Type.ShortcutOverride and self._act_of(event) is not None:
            event.accept()
            return True
        return bool(super().event(event))

    def _act_of(self, event: QKeyEvent) -> Callable[[], None] | None:
        """Return what a key does, or None where it is not ours."""
        shift = Qt.KeyboardModifier.ShiftModifier
        control = Qt.KeyboardModifier.ControlModifier
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        for key, modifiers, signal in (
            (Qt.Key.Key_Z, control, self.undone),
            (Qt.Key.Key_Z, control | shift, self.redone),
            (Qt.Key.Key_Y, control, self.redone),
        ):
            if event.key() == key and held == modifiers:
                return partial(signal.emit)
        image_id = self.current_image()
        # With Shift too: digits stand above it on some keyboards.
        if image_id is None or held not in (Qt.KeyboardModifier.NoModifier, shift):
            return None
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            return partial(self.completed.emit, image_id)
        class_id = self._class_of_key(event.text())
        return None if class_id is None else partial(self.toggled.emit, image_id, class_id)

    def _class_of_key(self, text: str) -> int | None:
        schema = self._state.schema
        if schema is None or not text:
            return None
        keys = {known.shortcut.casefold(): known.id for known in schema.classes if known.shortcut}
        return keys.get(text.casefold())

    def _click(self, event: QMouseEvent) -> bool:
        """Change the class under the mouse; tell whether there was one."""
        index, schema = self.indexAt(event.pos()), self._state.schema
        if event.button() != Qt.MouseButton.LeftButton or not index.isValid() or schema is None:
            return False
        for class_id, place in chip_rectangles(self.visualRect(index), schema).items():
            if place.contains(event.pos()):
                self.setFocus(Qt.FocusReason.MouseFocusReason)
                self.setCurrentIndex(index)
                shift = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
                signal = self.forgotten if shift else self.toggled
                signal.emit(index.data(IMAGE_ROLE).id, class_id)
                return True
        return False
