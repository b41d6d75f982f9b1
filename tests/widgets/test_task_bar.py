"""The bar of the long task says how far it is, whatever kind of task it is."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pytestqt")

from inline_runner import StepRunner
from qtpy.QtWidgets import QLabel, QPlainTextEdit, QProgressBar, QPushButton

from napari_protoseg.events import Event, Job, Notice, Progress, Severity
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


def test_warnings_stay_above_the_last_sentence_until_they_are_dismissed(qtbot: Any):
    def warning() -> Job[None]:
        for number in range(5):
            yield Notice(f"Warning {number}.", Severity.WARNING)

    runner = StepRunner()
    session = Session(runner)
    bar = TaskBar(session)
    qtbot.addWidget(bar)
    bar.show()
    session.run("Apply model", warning(), lambda _: session.say("4 images added."))
    runner.finish()
    warnings, message = (bar.findChild(QLabel, name) for name in ("warnings", "message"))
    log = bar.findChild(QPlainTextEdit, "message-log")
    assert message.text() == "4 images added."
    assert warnings.text().splitlines() == [
        "\N{WARNING SIGN} Warning 0.",
        "\N{WARNING SIGN} Warning 1.",
        "\N{WARNING SIGN} Warning 2.",
        "\N{WARNING SIGN} 2 more: see Details.",
    ]
    late = TaskBar(session)
    qtbot.addWidget(late)
    assert late.findChild(QLabel, "warnings").text() == warnings.text()
    bar.findChild(QPushButton, "dismiss-warnings").click()
    assert not warnings.isVisible()
    assert message.isVisible()
    assert "\N{WARNING SIGN} Warning 4." in log.toPlainText()
    session.run("Train", saying(Progress("Training", 0, 1)), lambda _: None)
    assert not message.isVisible()
    runner.finish()
    bar.close_bar()
    late.close_bar()
