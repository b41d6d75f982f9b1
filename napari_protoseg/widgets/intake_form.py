"""The form that takes images and labels in: choose, look, read the report, keep."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.labels.report import LabelReport
from napari_protoseg.widgets.path_field import Ask, PathField, ask_folder, ask_schema, ask_table
from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.workbench.labels_page import LabelsState

_REPORT_HEIGHT = 170


class IntakeForm(QWidget):
    """Draws an `Intake`: for a new project, or for images added to the open one.

    Parameters
    ----------
    state
        Whose intake.
    """

    def __init__(self, state: LabelsState) -> None:
        super().__init__()
        self._state, self._intake = state, state.intake
        self._lines: dict[str, QLineEdit] = {}
        self._rows: dict[str, QWidget] = {}
        self._first = QFormLayout()
        self._add_path(self._first, "images", "Images", ask_folder, "Folder of the images")
        self._add_path(
            self._first, "labels", "Label table", ask_table,
            "Where labels stand in file names or class folders, no table is needed",
        )  # fmt: skip
        self._add_text(
            self._first, "classes", "Classes",
            "Names parted by commas. Where file names end in brackets such as [1 0 1], each digit "
            "stands for a class, 1 for present and 0 for absent: name the classes in the same "
            "order. Not needed with a table or class folders",
            "for example tumour, stroma, fat",
        )  # fmt: skip
        self._add_path(
            self._first, "folder", "Project", ask_folder, "Folder of the new project: empty, or new"
        )
        self._more = QPushButton("More")
        self._more.setObjectName("more-of-intake")
        self._more.setCheckable(True)
        self._rest = QWidget()
        rest = QFormLayout(self._rest)
        rest.setContentsMargins(0, 0, 0, 0)
        self._add_path(
            rest, "schema_file", "Class file", ask_schema, "A class schema, in place of the names"
        )
        self._add_path(
            rest, "masks", "True masks", ask_folder,
            "Named as their images; 0 unlabelled, k class id k. Their images are validated on",
        )  # fmt: skip
        self._add_text(
            rest, "case_pattern", "Case",
            "Which part of a file name is the patient or slide, as a regular expression. Images of "
            "one case are never parted between training and validation",
            r"for example (case\d+)_ for case07_012.png",
        )  # fmt: skip
        self._add_text(
            rest, "pixel_size", "µm per pixel",
            "A number, or a regular expression over the file name",
            "for example 0.5",
        )  # fmt: skip
        self._add_path(
            rest, "split", "Split table", ask_table,
            "Columns file and split: which images to train on and which to validate on",
        )  # fmt: skip
        self._rest.hide()
        self._more.toggled.connect(self._rest.setVisible)
        self._reason = PlainLabel()
        self._reason.setObjectName("intake-needs")
        self._reason.setWordWrap(True)
        self._open = self._button("open-found", self._intake.open_found)
        self._look = self._button("look", self._intake.look)
        self._look.setText("Look")
        self._look.setToolTip("Read all images and labels; nothing is taken in yet.")
        self._take = self._button("take-in", self._intake.take)
        self._report = QTextEdit()
        self._report.setObjectName("report")
        self._report.setReadOnly(True)
        self._report.setFixedHeight(_REPORT_HEIGHT)
        buttons = QHBoxLayout()
        buttons.addWidget(self._more)
        buttons.addStretch(1)
        buttons.addWidget(self._look)
        buttons.addWidget(self._take)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._first)
        layout.addWidget(self._rest)
        layout.addWidget(self._open)
        layout.addWidget(self._reason)
        layout.addLayout(buttons)
        layout.addWidget(self._report)

    def refresh(self) -> None:
        """Draw the intake as it is now."""
        is_new = self._state.session.project is None
        draft, reading = self._intake.draft, self._intake.reading
        for name, line in self._lines.items():
            text = getattr(draft, name)
            if line.text() != text:
                line.setText(text)
        for name in ("classes", "folder", "schema_file"):
            self._show_row(name, is_new)
        target, place = draft.target, draft.place
        self._lines["images"].setPlaceholderText("" if place is None else str(place))
        self._lines["folder"].setPlaceholderText("" if target is None else str(target))
        found = self._intake.found_project
        self._open.setVisible(found is not None)
        self._open.setEnabled(not self._state.session.is_busy)
        self._open.setText("" if found is None else f"Open project {found.name}")
        self._take.setText("Make project" if is_new else "Add images")
        self._look.setEnabled(self._intake.needs() is None)
        self._take.setEnabled(self._intake.take_needs() is None)
        reason = self._intake.needs() or (
            self._intake.take_needs() if reading is not None else None
        )
        self._reason.setText(reason or "")
        self._reason.setVisible(reason is not None)
        self._report.setVisible(reading is not None)
        text = "" if reading is None else _as_html(reading.report)
        if self._report.property("shown") != text:
            self._report.setProperty("shown", text)
            self._report.setHtml(text)

    def _add_path(self, form: QFormLayout, name: str, title: str, ask: Ask, tip: str) -> None:
        field = PathField(name.replace("_", "-"), title, ask)
        self._add(form, name, title, field, field.line, tip)

    def _add_text(self, form: QFormLayout, name: str, title: str, tip: str, example: str) -> None:
        line = QLineEdit()
        line.setPlaceholderText(example)
        line.setObjectName(name.replace("_", "-"))
        line.setAcceptDrops(False)  # what is dropped is the page's, which tells what it is
        self._add(form, name, title, line, line, tip)

    def _add(
        self, form: QFormLayout, name: str, title: str, row: QWidget, line: QLineEdit, tip: str
    ) -> None:
        row.setToolTip(plain(f"{tip}."))
        form.addRow(title, row)
        line.textChanged.connect(partial(self._fill_in, name))
        self._lines[name], self._rows[name] = line, row

    def _show_row(self, name: str, shown: bool) -> None:
        row = self._rows[name]
        form = self._rest.layout() if self._rest.isAncestorOf(row) else self._first
        row.setVisible(shown)
        form.labelForField(row).setVisible(shown)

    def _fill_in(self, name: str, text: str) -> None:
        draft = self._intake.draft
        if getattr(draft, name) == text:
            return
        self._intake.edit(replace(draft, **{name: text}))

    def _button(self, name: str, verb: Callable[[], None]) -> QPushButton:
        button = QPushButton()
        button.setObjectName(name)
        button.clicked.connect(lambda: self._state.session.attempt(verb))
        return button


def _as_html(report: LabelReport) -> str:
    """Return the report with its problems marked, and first."""
    problems = report.problems()
    marked = [f"<b>\N{WARNING SIGN} {html.escape(line)}</b>" for line in problems]
    others = [html.escape(line) for line in report.lines() if line not in problems]
    return "<br>".join([*others[:1], *marked, *others[1:]])
