"""A line for a path: typed, or chosen in a dialog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_protoseg.workbench.typed_path import typed_path

Ask = Callable[[QWidget, str], str]
"""Shows a dialog over a widget under a title; returns a path, or nothing."""


def ask_folder(parent: QWidget, title: str) -> str:
    """Let a person choose a folder."""
    return str(QFileDialog.getExistingDirectory(parent, title))


def ask_table(parent: QWidget, title: str) -> str:
    """Let a person choose a table."""
    kinds = "Tables (*.csv *.tsv *.txt *.xlsx)"
    return str(QFileDialog.getOpenFileName(parent, title, "", kinds)[0])


def ask_schema(parent: QWidget, title: str) -> str:
    """Let a person choose a class schema."""
    return str(QFileDialog.getOpenFileName(parent, title, "", "Class schema (*.json)")[0])


class PathField(QWidget):
    """A path as text, with a button that asks for it.

    Parameters
    ----------
    name
        Name of the line for tests and style; the button is called ``choose-`` and it.
    title
        Of the dialog.
    ask
        The dialog.
    """

    changed = Signal(str)

    def __init__(self, name: str, title: str, ask: Ask) -> None:
        super().__init__()
        self._title, self._ask = title, ask
        self.line = QLineEdit()
        self.line.setObjectName(name)
        self.line.setAcceptDrops(False)  # what is dropped is the page's, which tells what it is
        self.line.textChanged.connect(self.changed)
        button = QPushButton("Choose")
        button.setObjectName(f"choose-{name}")
        button.clicked.connect(self._choose)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(button)

    @property
    def path(self) -> Path | None:
        """What the line says; None where it is empty."""
        return typed_path(self.line.text())

    def _choose(self) -> None:
        chosen = self._ask(self, self._title)
        if chosen:
            self.line.setText(chosen)
