"""The table of classes: names, colours and keys; new ones, and some that go or come back."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.jobs.class_impact import ClassImpact
from napari_protoseg.schema import ClassSchema, TissueClass
from napari_protoseg.widgets.plain_text import plain
from napari_protoseg.widgets.thumbnail_cell import readable_on
from napari_protoseg.workbench.labels_page import LabelsState

_NAME, _COLOR, _KEY, _REMOVE = range(4)
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
        self._is_closed = False
        self._table = QTableWidget(0, 4)
        self._table.setObjectName("classes")
        self._table.setHorizontalHeaderLabels(["Class", "Colour", "Key", ""])
        self._table.verticalHeader().hide()
        header = self._table.horizontalHeader()
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(_COLOR, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_KEY, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_REMOVE, QHeaderView.ResizeMode.ResizeToContents)
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
        self._restore = QPushButton()
        self._restore.setObjectName("restore-class")
        self._restore.clicked.connect(self._bring_back)
        layout.addWidget(self._restore)

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
        gone = self._state.removals.last
        self._restore.setVisible(gone is not None)
        self._restore.setText("" if gone is None else _of_button(f"Bring back {gone.known.name}"))

    def close_table(self) -> None:
        """Ask nobody any more: what is looked at for a question goes on without this table."""
        self._is_closed = True

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
        if self._shown is not None and len(self._shown.classes) > 1:
            self._table.setCellWidget(row, _REMOVE, self._remove_button(known, self._shown))

    def _remove_button(self, known: TissueClass, schema: ClassSchema) -> QToolButton:
        button = QToolButton()
        button.setObjectName(f"remove-{known.id}")
        button.setText("Remove")
        button.setToolTip(plain(f"Remove {known.name}, or merge it into another class"))
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        menu.addAction("Remove...", partial(self._weigh, known.id, None))
        for other in schema.classes:
            if other is not known:
                text = _of_button(f"Merge into {other.name}...")
                menu.addAction(text, partial(self._weigh, known.id, other.id))
        button.setMenu(menu)
        return button

    def _fit(self) -> None:
        """Show up to some classes without a scroll bar."""
        rows = min(self._table.rowCount(), _MOST_ROWS)
        height = sum(self._table.rowHeight(row) for row in range(rows))
        self._table.setFixedHeight(height + self._table.horizontalHeader().sizeHint().height() + 4)

    def _weigh(self, class_id: int, heir: int | None) -> None:
        """Look what it affects that a class goes, then ask."""
        removals = self._state.removals
        self._state.session.attempt(lambda: removals.weigh(class_id, heir, self._ask_soon))

    def _ask_soon(self, impact: ClassImpact) -> None:
        QTimer.singleShot(0, partial(self._ask, impact))  # once the task is over for all

    def _ask(self, impact: ClassImpact) -> None:
        if self._is_closed:
            return
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        text = "\n\n".join((impact.question, *impact.lines()))
        title = "Remove class?" if impact.heir is None else "Merge classes?"
        if QMessageBox.question(self, title, plain(text), yes | no, no) != yes:
            return
        heir = None if impact.heir is None else impact.heir.id
        remove = partial(self._state.remove_class, impact.known.id, heir)
        self._state.session.attempt(remove)

    def _bring_back(self) -> None:
        self._state.session.attempt(self._state.restore_class)

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


def _of_button(text: str) -> str:
    """Return text that a button or a menu shows as it stands: Qt takes a single & for a key."""
    return text.replace("&", "&&")
