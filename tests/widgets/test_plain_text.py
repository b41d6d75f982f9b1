"""Names that look like HTML are shown as they are called."""

from __future__ import annotations

from typing import Any

from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QLabel

from napari_protoseg.widgets.plain_text import PlainLabel, plain

NAME = '<img src="file:///etc/passwd"><b>tumour</b> & more'


def test_a_label_shows_tags_as_text(qtbot: Any):
    ours, usual = PlainLabel(NAME), QLabel(NAME)
    qtbot.addWidget(ours)
    qtbot.addWidget(usual)
    assert ours.text() == NAME
    assert ours.sizeHint().width() > usual.sizeHint().width(), "the tags are seen"


def test_a_tooltip_shows_tags_as_text():
    shown = QTextDocument()
    shown.setHtml(plain(f"{NAME}\nsecond line"))
    assert shown.toPlainText() == f"{NAME}\nsecond line"


def test_a_tooltip_without_tags_stays_as_it_is():
    assert plain("a & b\nc") == "a & b\nc"
