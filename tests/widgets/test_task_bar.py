"""The bar of the long task says how far it is, whatever kind of task it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pytestqt")

from inline_runner import StepRunner
from qtpy.QtWidgets import QProgressBar

from napari_protoseg.events import Event, Job, Notice, Progress
from napari_protoseg.training.events import StepFinished
from napari_protoseg.widgets.task_bar import TaskBar
from napari_protoseg.workbench.session import Session


def saying(*events: Event) -> Job[None]:
    yield from events


def step(number: int) -> StepFinished:
    return StepFinished(number, 20, 0, 0.5, 0.5, 0.0, 1, 0)


def test_it_counts_steps_of_a_training_as_it_counts_images(qtbot: Any):
    runner = StepRunner()
    session = Session(runner)
    bar = TaskBar(session)
    qtbot.addWidget(bar)
    shown = bar.findChild(QProgressBar, "task-progress")
    job = saying(Progress("Encoding images", 4, 16), Notice("Training on CPU."), step(3), step(4))
    session.run("Train", job, lambda _: None)
    assert (shown.minimum(), shown.maximum()) == (0, 0), "nothing is known yet"
    for words, done, total in (
        ("Encoding images: 4 of 16", 4, 16),
        ("Encoding images: 4 of 16", 4, 16),
        ("Training: 3 of 20", 3, 20),
        ("Training: 4 of 20", 4, 20),
    ):
        runner.jobs[-1].step()
        assert (shown.format(), shown.value(), shown.maximum()) == (words, done, total)
    late = TaskBar(session)
    qtbot.addWidget(late)
    assert late.findChild(QProgressBar, "task-progress").format() == "Training: 4 of 20"
    runner.finish()
    session.run("Build bank", saying(Notice("Encoder.")), lambda _: None)
    assert (shown.minimum(), shown.maximum()) == (0, 0), "another task begins anew"
    runner.finish()
    bar.close_bar()
    late.close_bar()
