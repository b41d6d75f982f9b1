"""One cell of the grid of thumbnails: where its parts stand, and how they are drawn."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QModelIndex, QObject, QPoint, QRect, QSize, Qt
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPalette, QPen
from qtpy.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_protoseg.labels.brackets import bare_name
from napari_protoseg.labels.records import Presence
from napari_protoseg.schema import ClassSchema, TissueClass
from napari_protoseg.workbench.labels_page import LabelsState

SIDE = 96
"""Pixels of the longer side of a thumbnail."""

IMAGE_ROLE = Qt.ItemDataRole.UserRole
"""Gives the `ImageRecord` of an index."""

_MARGIN = 4
_CHIP_HEIGHT = 16
_CHIPS_IN_ROW = 5


def chip_rows(schema: ClassSchema | None) -> int:
    """Return how many rows of chips the classes take."""
    return 0 if schema is None else -(-len(schema.classes) // _CHIPS_IN_ROW)


def cell_size(schema: ClassSchema | None) -> QSize:
    """Return the size of one thumbnail with its chips and name."""
    height = 2 * _MARGIN + SIDE + chip_rows(schema) * (_CHIP_HEIGHT + 2) + _CHIP_HEIGHT
    return QSize(SIDE + 4 * _MARGIN, height)


def chip_rectangles(cell: QRect, schema: ClassSchema) -> dict[int, QRect]:
    """Return where in a cell the chip of each class stands, by class id."""
    across = min(len(schema.classes), _CHIPS_IN_ROW)
    width = (cell.width() - 2 * _MARGIN) // across
    top = cell.top() + _MARGIN + SIDE + 2
    return {
        known.id: QRect(
            cell.left() + _MARGIN + (number % across) * width,
            top + (number // across) * (_CHIP_HEIGHT + 2),
            width - 2,
            _CHIP_HEIGHT,
        )
        for number, known in enumerate(schema.classes)
    }


def letter_of(known: TissueClass) -> str:
    """Return what stands on the chip of a class: its key, or a dot where it has none."""
    return known.shortcut or "\N{MIDDLE DOT}"


def readable_on(color: QColor) -> str:
    """Return the colour of text that is seen on a colour."""
    return "black" if color.lightness() > 140 else "white"


def caption(path: Path, metrics: QFontMetrics, width: int) -> str:
    """Return what stands below a thumbnail: of the file name what fits, and tells it apart.

    The label in its bracket is not said again: the chips above show the one that counts.
    """
    return str(metrics.elidedText(bare_name(path), Qt.TextElideMode.ElideMiddle, width))


class ThumbnailDelegate(QStyledItemDelegate):
    """Draws a thumbnail, a chip for each class, and the file name.

    A class that is present is filled with its colour, an absent one outlined in it, an
    unknown one is a question mark.

    Parameters
    ----------
    state
        Which classes there are.
    parent
        The view.
    """

    def __init__(self, state: LabelsState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        """Return the same size for all."""
        return cell_size(self._state.schema)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw one cell."""
        image, cell = index.data(IMAGE_ROLE), option.rect
        painter.save()
        is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if is_selected:
            painter.fillRect(cell, option.palette.color(QPalette.ColorRole.Highlight))
        self._paint_thumbnail(painter, cell, index)
        schema = self._state.schema
        role = QPalette.ColorRole.HighlightedText if is_selected else QPalette.ColorRole.Text
        text = option.palette.color(role)
        if schema is not None and len(image.label) == len(schema.classes):
            chips = chip_rectangles(cell, schema)
            for known, presence in zip(schema.classes, image.label, strict=True):
                _paint_chip(painter, chips[known.id], known, presence, text)
        painter.setPen(text)
        line = QRect(
            cell.left() + _MARGIN,
            cell.bottom() - _CHIP_HEIGHT,
            cell.width() - 2 * _MARGIN,
            _CHIP_HEIGHT,
        )
        name = caption(image.path, QFontMetrics(painter.font()), line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignCenter, name)
        painter.restore()

    def _paint_thumbnail(self, painter: QPainter, cell: QRect, index: QModelIndex) -> None:
        place = QRect(cell.left() + 2 * _MARGIN, cell.top() + _MARGIN, SIDE, SIDE)
        pixmap = index.data(Qt.ItemDataRole.DecorationRole)
        if pixmap is not None:
            ratio = pixmap.devicePixelRatio()
            size = QSize(round(pixmap.width() / ratio), round(pixmap.height() / ratio))
            shown = QRect(QPoint(0, 0), size)
            shown.moveCenter(place.center())
            painter.drawPixmap(shown, pixmap)
            return
        painter.fillRect(place, QColor(128, 128, 128, 60))
        if index.model().failure(index.data(IMAGE_ROLE)) is not None:
            painter.drawText(
                place,
                Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap,
                "cannot be read",
            )


def _paint_chip(
    painter: QPainter, place: QRect, known: TissueClass, presence: int, text: QColor
) -> None:
    color = QColor(known.color)
    letter = letter_of(known)
    if presence == Presence.PRESENT:
        painter.fillRect(place, color)
        painter.setPen(QColor(readable_on(color)))
    else:
        painter.setPen(QPen(color, 1))
        painter.drawRect(place.adjusted(0, 0, -1, -1))
        painter.setPen(text)
        if presence == Presence.UNKNOWN:
            letter = "?"
        else:
            painter.setOpacity(0.5)
    painter.drawText(place, Qt.AlignmentFlag.AlignCenter, letter)
    painter.setOpacity(1.0)
