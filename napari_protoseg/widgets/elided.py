"""Labels and buttons that shorten a long name, so that no name decides how wide a dock is."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
)

from napari_protoseg.widgets.plain_text import PlainLabel

_LEAST_WIDTH = 60
_GAP = 8
"""Between an icon and its text, with what styles keep at the edges."""

_ELLIPSIS = Qt.TextElideMode.ElideMiddle
"""Names of images, projects and classes often differ at their ends."""


class ElidedLabel(PlainLabel):
    """One line of text; what does not fit is left out of its middle, and is in the tooltip."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Do with little room, whatever the text is."""
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), _LEAST_WIDTH), hint.height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw what fits."""
        painter, place = QPainter(self), self.contentsRect()
        self.drawFrame(painter)
        self.style().drawItemText(
            painter,
            place,
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
            self.palette(),
            self.isEnabled(),
            self.fontMetrics().elidedText(self.text(), _ELLIPSIS, place.width()),
            self.foregroundRole(),
        )


class ElidedButton(QPushButton):
    """A button whose text gives way where it is too long for the room that there is.

    Parameters
    ----------
    words
        Shown as they stand: an ampersand is no mnemonic.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words.replace("&", "&&"))
        self._words = words
        # A button asks for the whole width of its text.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Do with little room, whatever the text is."""
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), _LEAST_WIDTH), hint.height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw the button with what fits of its text."""
        option = QStyleOptionButton()
        self.initStyleOption(option)
        element = QStyle.SubElement.SE_PushButtonContents
        room = self.style().subElementRect(element, option, self).width()
        if not self.icon().isNull():
            room -= self.iconSize().width() + _GAP
        shown = self.fontMetrics().elidedText(self._words, _ELLIPSIS, room)
        option.text = shown.replace("&", "&&")
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)
