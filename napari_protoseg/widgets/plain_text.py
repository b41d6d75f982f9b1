"""Text that Qt shows as it stands: names of files and classes may look like HTML."""

from __future__ import annotations

import html

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QLabel

_WIDEST_WORD = 200


class PlainLabel(QLabel):
    """A label that never takes its text for HTML."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Where lines are broken, let no name without a break decide how wide a dock is."""
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), _WIDEST_WORD), hint.height()) if self.wordWrap() else hint


def plain(text: str) -> str:
    """Return `text` so that a tooltip or a question, which Qt may take for HTML, shows it."""
    if "<" not in text:
        return text
    return f"<qt>{html.escape(text).replace(chr(10), '<br>')}</qt>"
