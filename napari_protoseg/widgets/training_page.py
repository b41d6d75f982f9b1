"""The page of training: choose how, begin, resume, and see how it goes."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_protoseg.training.config import Preset
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.widgets.curve_plot import CurvePlot
from napari_protoseg.widgets.forms import ConfigForm
from napari_protoseg.widgets.page import Page
from napari_protoseg.widgets.plain_text import PlainLabel
from napari_protoseg.widgets.second_stage_form import SecondStageForm
from napari_protoseg.workbench.training_page import BACKBONES, TrainingState

_PRESETS = {
    Preset.QUICK: ("Quick", "Frozen features, fitted to the labels; no network is trained."),
    Preset.STANDARD: ("Standard", "A network of its own."),
    Preset.PAPER: ("Paper", "The configuration that was released with the method."),
}
_REDRAWN_EACH = 300
"""Milliseconds between two drawings of growing curves; steps may come much faster."""
_DETAILS_HEIGHT = 160


class TrainingPage(Page):
    """Draws a `TrainingState`.

    Parameters
    ----------
    state
        What it draws.
    """

    def __init__(self, state: TrainingState) -> None:
        super().__init__(state)
        self._training = state
        inner = QWidget()
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._add_choices()
        self._add_buttons()
        self._second = SecondStageForm(state.second)
        self._column.addWidget(self._second)
        self._add_problem()
        self._add_curves()
        self._column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(inner)
        self.body.addWidget(area, 1)
        self._drawing = QTimer(self)
        self._drawing.setSingleShot(True)
        self._drawing.setInterval(_REDRAWN_EACH)
        self._drawing.timeout.connect(self._draw_progress)
        self.listen(state.advanced, self._draw_soon)
        self.refresh()

    def refresh(self) -> None:
        """Draw how training stands."""
        super().refresh()
        training = self._training
        self._device.setText(training.device())
        self._show_presets()
        self._show_options()
        ready = training.needs() is None
        self._train.setEnabled(ready)
        self._measure.setEnabled(ready)
        can_resume = training.resume_needs() is None
        # While a task runs, the foot has the one button to pause and resume it.
        self._resume.setVisible(can_resume)
        self._stopped.setVisible(can_resume)
        if training.unfinished is not None:
            self._stopped.setText(f"Round {training.unfinished.id} has not ended; it can go on.")
            self._resume.setText(f"Resume training of round {training.unfinished.id}")
        self._second.refresh()
        self._outcome.setText(training.outcome)
        self._outcome.setVisible(bool(training.outcome))
        self._standing.setText(training.standing())
        self._standing.setVisible(bool(self._standing.text()))
        problem = training.problem
        self._problem_row.setVisible(problem is not None)
        self._problem.setText("" if problem is None else f"\N{WARNING SIGN} {problem.sentence}")
        self._details.setPlainText("" if problem is None else problem.details)
        if problem is None:
            self._more.setChecked(False)
        self._draw_progress()

    def close_page(self) -> None:
        """Draw no more, and let go of the state."""
        super().close_page()
        self._drawing.stop()

    def _add_choices(self) -> None:
        self._device = PlainLabel()
        self._device.setObjectName("device")
        self._device.setWordWrap(True)
        self._preset = QComboBox()
        self._preset.setObjectName("preset")
        self._preset.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        for index, (preset, (name, about)) in enumerate(_PRESETS.items()):
            self._preset.addItem(name, preset.value)
            self._preset.setItemData(index, about, Qt.ItemDataRole.ToolTipRole)
        self._preset.currentIndexChanged.connect(self._choose)
        self._estimate = PlainLabel()
        self._estimate.setObjectName("estimate")
        self._estimate.setWordWrap(True)
        self._measure = self._button("Estimate time", "estimate-time", self._training.estimate)
        self._measure.setToolTip("Takes a few steps on this machine, and discards them.")
        form = QFormLayout()
        form.addRow("Device", self._device)
        form.addRow("Preset", self._preset)
        self._show = QPushButton("Options")
        self._show.setObjectName("show-options")
        self._show.setCheckable(True)
        self._show.toggled.connect(self._show_options)
        self._options = ConfigForm(
            self._training.request, self._training.options, {"config.backbone": BACKBONES}
        )
        self._options.changed.connect(self._take_options)
        row = QHBoxLayout()
        row.addWidget(self._measure)
        row.addWidget(self._show)
        self._column.addLayout(form)
        self._column.addWidget(self._estimate)
        self._column.addLayout(row)
        self._column.addWidget(self._options)

    def _add_buttons(self) -> None:
        self._train = self._button("Train", "train", self._training.train)
        self._resume = self._button("Resume", "resume", self._training.resume)
        row = QHBoxLayout()
        row.addWidget(self._train)
        row.addWidget(self._resume)
        self._stopped = PlainLabel()
        self._stopped.setObjectName("unfinished")
        self._stopped.setWordWrap(True)
        self._column.addLayout(row)
        self._outcome = PlainLabel()
        self._outcome.setObjectName("outcome")
        self._outcome.setWordWrap(True)
        self._standing = PlainLabel()
        self._standing.setObjectName("round-standing")
        self._standing.setWordWrap(True)
        self._column.addWidget(self._stopped)
        self._column.addWidget(self._outcome)
        self._column.addWidget(self._standing)

    def _add_problem(self) -> None:
        self._problem = PlainLabel()
        self._problem.setObjectName("training-problem")
        self._problem.setWordWrap(True)
        self._problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._more = QPushButton("Details")
        self._more.setObjectName("training-details")
        self._more.setCheckable(True)
        self._details = QPlainTextEdit()
        self._details.setObjectName("training-problem-details")
        self._details.setReadOnly(True)
        self._details.setFixedHeight(_DETAILS_HEIGHT)
        self._details.hide()
        self._more.toggled.connect(self._details.setVisible)
        self._problem_row = QWidget()
        row = QHBoxLayout(self._problem_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._problem, 1)
        row.addWidget(self._more)
        self._column.addWidget(self._problem_row)
        self._column.addWidget(self._details)

    def _add_curves(self) -> None:
        self._left = PlainLabel()
        self._left.setObjectName("time-left")
        self._steps = PlainLabel()
        self._steps.setObjectName("steps")
        self._epochs = PlainLabel()
        self._epochs.setObjectName("epochs")
        self._epochs.setWordWrap(True)
        self._losses = CurvePlot("Loss of each step, and smoothed", faint=True)
        self._losses.setObjectName("losses")
        self._scores = CurvePlot("After each epoch", (0.0, 1.0))
        self._scores.setObjectName("scores")
        for widget in (self._left, self._steps, self._losses, self._epochs, self._scores):
            self._column.addWidget(widget)

    def _show_presets(self) -> None:
        training = self._training
        for index, (preset, (name, _)) in enumerate(_PRESETS.items()):
            estimate = training.estimate_of(preset)
            cost = "" if estimate is None else f": {estimate.time}"
            self._preset.setItemText(index, name + cost)
        if self._preset.currentData() != training.preset.value:
            self._preset.setCurrentIndex(self._preset.findData(training.preset.value))
        _, about = _PRESETS[training.preset]
        self._estimate.setText(f"{about} {training.cost()}")

    def _show_options(self) -> None:
        training, form = self._training, self._options
        if (training.request, training.options_problem) != (form.value, form.problem):
            form.set_value(training.request)
        self._show.setEnabled(training.has_options)
        self._show.setToolTip("" if training.has_options else "The quick preset has no options.")
        form.setVisible(training.has_options and self._show.isChecked())

    def _draw_soon(self) -> None:
        if not self._drawing.isActive():
            self._drawing.start()

    def _draw_progress(self) -> None:
        training = self._training
        last = training.steps[-1] if training.steps else None
        self._left.setText(training.time_left())
        self._left.setVisible(bool(self._left.text()))
        self._steps.setVisible(last is not None)
        if last is not None:
            self._steps.setText(f"Step {last.step} of {last.steps}: loss {last.loss:.3f}")
        self._losses.setVisible(last is not None)
        self._losses.draw_curves(training.curves.losses() if training.steps else ())
        self._epochs.setVisible(bool(training.epochs))
        if training.epochs:
            self._epochs.setText(_of_epoch(training.epochs[-1]))
        scores = training.curves.scores()
        self._scores.setVisible(bool(scores))
        self._scores.draw_curves(scores)

    def _button(self, text: str, name: str, verb: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        session = self._training.session
        button.clicked.connect(lambda: session.attempt(verb))
        return button

    def _take_options(self) -> None:
        self._training.set_options(self._options.value, self._options.problem)

    def _choose(self) -> None:
        preset = Preset(self._preset.currentData())
        if preset is not self._training.preset:
            self._training.choose(preset)


def _of_epoch(epoch: EpochFinished) -> str:
    """Say what an epoch measured."""
    words = [f"Epoch {epoch.epoch + 1} of {epoch.epochs}: loss {epoch.loss:.3f}"]
    if epoch.held_out_accuracy is not None:
        words.append(f"{epoch.held_out_accuracy:.0%} of labels right on held-out images")
    if epoch.score is not None:
        words.append(f"mIoU {epoch.score:.3f} on masks")
    if epoch.best:
        words.append("best so far")
    return ", ".join(words)
