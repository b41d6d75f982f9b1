"""The page of training: begin, resume, and how it goes."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QPushButton

from napari_protoseg.training.config import Preset
from napari_protoseg.widgets.page import Page
from napari_protoseg.workbench.training_page import TrainingState

_PRESETS = {
    Preset.QUICK: "Quick: frozen features, about a minute",
    Preset.STANDARD: "Standard: a network of its own",
}


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
        self._device = QLabel()
        self._preset = QComboBox()
        self._preset.setObjectName("preset")
        for preset, words in _PRESETS.items():
            self._preset.addItem(words, preset.value)
        self._preset.currentIndexChanged.connect(self._choose)
        form = QFormLayout()
        form.addRow("Device", self._device)
        form.addRow("Preset", self._preset)
        self._train = QPushButton("Train")
        self._train.setObjectName("train")
        self._train.clicked.connect(lambda: state.session.attempt(state.train))
        self._resume = QPushButton("Resume")
        self._resume.setObjectName("resume")
        self._resume.clicked.connect(lambda: state.session.attempt(state.resume))
        row = QHBoxLayout()
        row.addWidget(self._train)
        row.addWidget(self._resume)
        self._stopped = QLabel()
        self._stopped.setWordWrap(True)
        self._steps = QLabel()
        self._steps.setObjectName("steps")
        self._epochs = QLabel()
        self._epochs.setObjectName("epochs")
        self.body.addLayout(form)
        for widget in (self._stopped, self._steps, self._epochs):
            self.body.addWidget(widget)
        self.body.insertLayout(1, row)
        self.body.addStretch(1)

    def refresh(self) -> None:
        """Draw how training stands."""
        super().refresh()
        training = self._training
        ready = training.needs() is None
        self._device.setText(str(training.session.device))
        self._train.setEnabled(ready)
        unfinished = training.unfinished
        self._resume.setEnabled(ready and unfinished is not None)
        self._stopped.setText(
            "" if unfinished is None else f"Round {unfinished.id} has not ended; it can go on."
        )
        last = training.steps[-1] if training.steps else None
        self._steps.setText(
            "" if last is None else f"Step {last.step} of {last.steps}: loss {last.loss:.3f}"
        )
        self._epochs.setText(
            "\n".join(
                f"Epoch {e.epoch + 1} of {e.epochs}: loss {e.loss:.3f}"
                + (
                    ""
                    if e.held_out_accuracy is None
                    else f", {e.held_out_accuracy:.0%} of labels right on held-out images"
                )
                + (", best so far" if e.best else "")
                for e in training.epochs
            )
        )

    def _choose(self) -> None:
        self._training.choose(Preset(self._preset.currentData()))
