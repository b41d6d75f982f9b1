"""What the page of training offers of the second stage: options, begin, resume."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QPushButton, QVBoxLayout

from napari_protoseg.widgets.forms import ConfigForm
from napari_protoseg.widgets.plain_text import PlainLabel, plain
from napari_protoseg.workbench.second_stage import SecondStage

_ABOUT = "A network that learns from the masks, and then needs no label."


class SecondStageForm(QGroupBox):
    """Draws a `SecondStage`; how a training goes is drawn by the page that this is a part of.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: SecondStage) -> None:
        super().__init__("Segmentation without labels")
        self._state = state
        self._about = PlainLabel(_ABOUT)
        self._about.setObjectName("second-stage-about")
        self._about.setWordWrap(True)
        self._train = self._button("Train segmentation", "segment", state.train)
        self._resume = self._button("Resume", "resume-segmentation", state.resume)
        self._show = QPushButton("Options")
        self._show.setObjectName("show-segment-options")
        self._show.setCheckable(True)
        self._options = ConfigForm(state.request, state.options, prefix="segment-option")
        self._options.changed.connect(self._take_options)
        self._options.hide()
        self._show.toggled.connect(self._options.setVisible)
        row = QHBoxLayout()
        for button in (self._train, self._resume, self._show):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.addWidget(self._about)
        column.addLayout(row)
        column.addWidget(self._options)

    def refresh(self) -> None:
        """Draw what can be asked for now."""
        state, form = self._state, self._options
        reason = state.needs()
        self._train.setEnabled(reason is None)
        self._train.setToolTip(plain(reason or ""))
        self._about.setText(_ABOUT if reason is None else reason)
        # While a task runs, the foot has the one button to pause and resume it.
        self._resume.setVisible(state.resume_needs() is None)
        if state.unfinished is not None:
            self._resume.setText(f"Resume round {state.unfinished.id}")
        if (state.request, state.options_problem) != (form.value, form.problem):
            form.set_value(state.request)

    def _button(self, text: str, name: str, verb: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        session = self._state.session
        button.clicked.connect(lambda: session.attempt(verb))
        return button

    def _take_options(self) -> None:
        self._state.set_options(self._options.value, self._options.problem)
