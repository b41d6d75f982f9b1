"""The classes to draw with: a button each, in its colour, with its key."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QSize, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_protoseg.plugin.keys import chord_of
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.widgets.plain_text import plain

_COLUMNS = 2
_SWATCH = 14


class ClassPalette(QWidget):
    """Lets a person choose what to draw with; `picked` has the class id, 0 to erase."""

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._schema: ClassSchema | None = None
        self._buttons: dict[int, QPushButton] = {}

    def show_picked(self, class_id: int | None) -> None:
        """Mark the class that is drawn with; None for none."""
        for known, button in self._buttons.items():
            button.setChecked(known == class_id)

    def show_schema(self, schema: ClassSchema | None) -> None:
        """Offer the classes of a schema."""
        if schema == self._schema:
            return
        self._schema = schema
        self._buttons = {}
        while (item := self._grid.takeAt(0)) is not None:
            item.widget().deleteLater()
        if schema is None:
            return
        entries = [(c.id, c.name, c.color, chord_of(c)) for c in schema.classes]
        for place, (class_id, name, color, chord) in enumerate(
            [*entries, (UNLABELLED, "unlabelled", None, None)]
        ):
            button = QPushButton(name if chord is None else f"{name}  ({chord})")
            button.setCheckable(True)
            button.setObjectName(f"pick-{class_id}")
            if color is not None:
                swatch = QPixmap(_SWATCH, _SWATCH)
                swatch.fill(QColor(color))
                button.setIcon(QIcon(swatch))
                button.setIconSize(QSize(_SWATCH, _SWATCH))
            button.setToolTip(plain(f"Draw with {name}.") if class_id != UNLABELLED else "Erase.")
            button.clicked.connect(partial(self._pick, class_id))
            self._buttons[class_id] = button
            self._grid.addWidget(button, place // _COLUMNS, place % _COLUMNS)

    def _pick(self, class_id: int, is_marked: bool) -> None:
        # Whoever is told says what is drawn with; a click alone marks nothing.
        self._buttons[class_id].setChecked(not is_marked)
        self.picked.emit(class_id)
