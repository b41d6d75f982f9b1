"""The table of classes: their names, colours and keys, and a line for a new one."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.schema import ClassSchema, TissueClass
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.widgets.thumbnail_cell import readable_on
from napari_protoseg.workbench.labels_page import LabelsState

_NAME, _COLOR, _KEY = range(3)
_MOST_ROWS = 8


class ClassTable(QWidget):
    """Shows the classes of the open project, and lets a person change them.

    Parameters
    ----------
    state
        Whose classes.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__()
        self._state = state
        self._shown: ClassSchema | None = None
        self._table = QTableWidget(0, 3)
        self._table.setObjectName("classes")
        self._table.setHorizontalHeaderLabels(["Class", "Colour", "Key"])
        self._table.verticalHeader().hide()
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_COLOR, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_KEY, QHeaderView.ResizeMode.ResizeToContents)
        self._name = QLineEdit()
        self._name.setObjectName("new-class-name")
        self._name.setPlaceholderText("Name of a new class")
        self._name.returnPressed.connect(self._add)
        self._name.textChanged.connect(self.refresh)
        self._add_button = QPushButton("Add class")
        self._add_button.setObjectName("add-class")
        self._add_button.clicked.connect(self._add)
        row = QHBoxLayout()
        row.addWidget(self._name, 1)
        row.addWidget(self._add_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        layout.addLayout(row)

    def refresh(self) -> None:
        """Draw the classes as they are now; rows are made anew only for others."""
        schema, reason = self._state.schema, self._state.classes_need()
        if schema is not self._shown:
            self._shown = schema
            self._table.setRowCount(0)
            for known in () if schema is None else schema.classes:
                self._add_row(known)
            self._fit()
        self.setEnabled(reason is None)
        self.setToolTip(plain(reason or ""))
        self._add_button.setEnabled(bool(self._name.text().strip()))

    def _add_row(self, known: TissueClass) -> None:
        row = self._table.rowCount()
        self._table.insertRow(row)
        name = QLineEdit(known.name)
        name.setObjectName(f"name-{known.id}")
        name.setToolTip("The name of the class; labels, masks, banks and models keep to it.")
        name.editingFinished.connect(partial(self._rename, known, name))
        self._table.setCellWidget(row, _NAME, name)
        color = QPushButton(known.color)
        color.setObjectName(f"color-{known.id}")
        color.setStyleSheet(
            f"background: {known.color}; color: {readable_on(QColor(known.color))};"
            " border: 1px solid palette(mid); padding: 2px 6px;"
        )
        color.setToolTip(plain(f"Choose another colour for {known.name}"))
        color.clicked.connect(partial(self._choose_color, known))
        self._table.setCellWidget(row, _COLOR, color)
        key = QLineEdit(known.shortcut or "")
        key.setObjectName(f"key-{known.id}")
        key.setMaxLength(1)
        key.setMaximumWidth(40)
        key.setAlignment(Qt.AlignmentFlag.AlignCenter)
        key.setToolTip(plain(f"The key that switches {known.name} in the list; empty: none"))
        key.editingFinished.connect(partial(self._set_key, known, key))
        self._table.setCellWidget(row, _KEY, key)

    def _fit(self) -> None:
        """Show up to some classes without a scroll bar."""
        rows = min(self._table.rowCount(), _MOST_ROWS)
        height = sum(self._table.rowHeight(row) for row in range(rows))
        self._table.setFixedHeight(height + self._table.horizontalHeader().sizeHint().height() + 4)

    def _choose_color(self, known: TissueClass) -> None:
        chosen = QColorDialog.getColor(QColor(known.color), self, f"Colour of {known.name}")
        if chosen.isValid():
            self.set_color(known.id, chosen.name())

    def set_color(self, class_id: int, color: str) -> None:
        """Give a class the colour that was chosen."""
        self._state.session.attempt(lambda: self._state.set_color(class_id, color))

    def _rename(self, known: TissueClass, field: QLineEdit) -> None:
        name = field.text().strip()
        if name == known.name:
            return
        rename = partial(self._state.rename_class, known.id, name)
        if not self._state.session.attempt(rename):
            field.setText(known.name)

    def _set_key(self, known: TissueClass, field: QLineEdit) -> None:
        key = field.text().strip() or None
        if key == known.shortcut:
            return
        set_it = partial(self._state.set_shortcut, known.id, key)
        if not self._state.session.attempt(set_it):
            field.setText(known.shortcut or "")

    def _add(self) -> None:
        name = self._name.text().strip()
        if name and self._state.session.attempt(lambda: self._state.add_class(name)):
            self._name.clear()
