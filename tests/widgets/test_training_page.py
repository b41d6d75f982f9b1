"""The page of training with real clicks: options, estimates, live curves, errors."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyqtgraph")
pytest.importorskip("pytestqt")
pytest.importorskip("napari")

from left_behind import alive
from one_page import child, click, text, wait
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
)

from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.training.config import Preset
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.widgets.curve_plot import CurvePlot
from napari_protoseg.widgets.training_page import TrainingPage
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.training_curves import Curve
from napari_protoseg.workbench.training_page import TrainingState

EACH, SMOOTHED = "loss of each step", "smoothed loss"


@pytest.fixture
def session(session: Session, banked: Path) -> Session:
    session.open(banked / "project")
    return session


@pytest.fixture
def page(session: Session, show_page: Any) -> TrainingPage:
    state = TrainingState(session)
    state.choose(Preset.QUICK)
    return show_page(TrainingPage(state))


def choose(page: TrainingPage, preset: str) -> None:
    combo = child(page, QComboBox, "preset")
    combo.setCurrentIndex(combo.findData(preset))


def fill_in(page: TrainingPage, qtbot: Any, name: str, words: str) -> None:
    line = child(page, QLineEdit, f"option-{name}")
    line.selectAll()
    qtbot.keyClicks(line, words)


def make_short(page: TrainingPage, qtbot: Any, epochs: int = 2) -> None:
    """Choose a training of a few steps, as a person would."""
    choose(page, "standard")
    click(page, qtbot, "show-options")
    child(page, QAbstractSpinBox, "option-epochs").setValue(epochs)
    child(page, QAbstractSpinBox, "option-batch-size").setValue(4)
    child(page, QComboBox, "option-matching").setCurrentText("none")
    child(page, QAbstractSpinBox, "option-held-out").setValue(0.3)


def step(number: int) -> StepFinished:
    return StepFinished(number, 1000, 0, 1 / number, 0.5, 0.0, 1, 0)


def test_the_device_is_named(page: TrainingPage):
    assert text(page, "device").startswith("CPU (")


def test_options_belong_to_the_preset_and_are_trained(
    page: TrainingPage, session: Session, qtbot: Any
):
    assert not child(page, QPushButton, "show-options").isEnabled(), "quick has none"
    make_short(page, qtbot)
    epochs = child(page, QAbstractSpinBox, "option-epochs")
    choose(page, "quick")
    assert not epochs.isVisible()
    choose(page, "standard")
    assert epochs.isVisible()
    assert epochs.value() == 5, "the preset has brought its own"
    epochs.setValue(1)
    child(page, QAbstractSpinBox, "option-batch-size").setValue(4)
    child(page, QComboBox, "option-matching").setCurrentText("none")
    click(page, qtbot, "train")
    wait(session, qtbot)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert ended.status is RoundStatus.FINISHED
    config = TrainRequest.model_validate_json(ended.config_json).config
    assert (config.epochs, config.batch_size, config.matching.value) == (1, 4, "none")


def test_a_wrong_option_is_a_sentence_and_trains_nothing(page: TrainingPage, qtbot: Any):
    make_short(page, qtbot)
    fill_in(page, qtbot, "head-rate", "fast")
    assert text(page, "needs").startswith("Learning rate of the rest: ")
    assert not child(page, QPushButton, "train").isEnabled()
    fill_in(page, qtbot, "head-rate", "0.01")
    assert child(page, QPushButton, "train").isEnabled()
    fill_in(page, qtbot, "head-rate", "fast")
    choose(page, "quick")
    choose(page, "standard")
    assert child(page, QLineEdit, "option-head-rate").text() == "0.001"
    assert child(page, QPushButton, "train").isEnabled()


def test_presets_show_what_was_measured(page: TrainingPage, session: Session, qtbot: Any):
    combo = child(page, QComboBox, "preset")
    assert combo.itemText(0) == "Quick"
    assert "not measured yet" in text(page, "estimate")
    make_short(page, qtbot)
    click(page, qtbot, "estimate-time")
    assert not child(page, QPushButton, "train").isEnabled()
    wait(session, qtbot)
    assert combo.itemText(0).startswith("Quick: about ")
    assert combo.itemText(1).startswith("Standard: about ")
    assert "It takes about " in text(page, "estimate")
    assert "steps" in text(page, "estimate")
    assert session.require_project().latest_round() is None
    child(page, QAbstractSpinBox, "option-epochs").setValue(7)
    assert combo.itemText(1) == "Standard"


def test_curves_are_drawn_while_it_trains(page: TrainingPage, session: Session, qtbot: Any):
    losses, scores = child(page, CurvePlot, "losses"), child(page, CurvePlot, "scores")
    assert not losses.isVisible()
    make_short(page, qtbot, epochs=3)
    click(page, qtbot, "train")
    qtbot.waitUntil(lambda: losses.isVisible() and losses.points(EACH) > 0, timeout=60_000)
    assert session.is_busy
    wait(session, qtbot)
    state = page.state
    assert losses.points(EACH) == losses.points(SMOOTHED) == len(state.steps) > 3
    assert scores.isVisible()
    assert scores.points("accuracy on held-out images") == 3
    assert text(page, "steps").startswith(f"Step {len(state.steps)} of {len(state.steps)}: loss ")
    assert text(page, "epochs").startswith("Epoch 3 of 3: loss ")
    assert "of labels right on held-out images" in text(page, "epochs")


def test_a_curve_of_one_step_is_seen(qtbot: Any):
    plot = CurvePlot("Loss", faint=True)
    qtbot.addWidget(plot)
    plot.resize(300, 150)
    plot.show()
    qtbot.waitExposed(plot)
    for x, is_point in (((1.0,), True), ((1.0, 2.0), False)):
        y = tuple(0.5 for _ in x)
        plot.draw_curves((Curve(EACH, x, y), Curve(SMOOTHED, x, y)))
        qtbot.wait(50)
        shot = plot.grab().toImage()
        orange = [
            (column, row)
            for column in range(shot.width())
            for row in range(shot.height())
            if (color := shot.pixelColor(column, row)).red() > 180 and color.blue() < 120
        ]
        across = max(column for column, _ in orange) - min(column for column, _ in orange)
        assert (across < 20) is is_point


def test_one_button_resumes_while_a_task_is_paused(
    page: TrainingPage, session: Session, qtbot: Any
):
    resume = child(page, QPushButton, "resume")
    assert not resume.isVisible()
    make_short(page, qtbot, epochs=3)
    click(page, qtbot, "train")
    qtbot.waitUntil(lambda: bool(page.state.steps), timeout=60_000)
    assert session.task is not None
    session.task.pause()
    assert not resume.isVisible(), "the foot has it"
    session.task.resume()
    session.task.stop()
    wait(session, qtbot)
    assert resume.isVisible()
    assert resume.text() == "Resume training of round 1"
    assert text(page, "outcome").startswith("Round 1 was stopped")


def test_many_steps_at_once_are_drawn_once(page: TrainingPage, session: Session, qtbot: Any):
    losses = child(page, CurvePlot, "losses")
    click(page, qtbot, "train")
    drawn: list[int] = []
    draw = losses.draw_curves
    losses.draw_curves = lambda curves: (drawn.append(1), draw(curves))
    for number in range(1, 500):
        session.progressed.emit(step(number))
    assert drawn == []
    qtbot.waitUntil(lambda: losses.points(EACH) == 499, timeout=10_000)
    assert len(drawn) == 1
    wait(session, qtbot)


def test_what_changed_behind_another_page_is_drawn_once_it_is_seen(page: TrainingPage, qtbot: Any):
    page.hide()
    page.state.choose(Preset.STANDARD)
    assert child(page, QComboBox, "preset").currentData() == "quick"
    page.show()
    qtbot.waitExposed(page)
    assert child(page, QComboBox, "preset").currentData() == "standard"


def test_the_time_left_is_said_while_it_trains(page: TrainingPage, session: Session, qtbot: Any):
    make_short(page, qtbot, epochs=6)
    left = child(page, QLabel, "time-left")
    assert not left.isVisible()
    click(page, qtbot, "train")
    qtbot.waitUntil(left.isVisible, timeout=60_000)
    assert left.text().startswith("About ")
    assert left.text().endswith(" left")
    wait(session, qtbot)
    assert not left.isVisible()


def test_an_error_is_a_sentence_with_details_and_no_dead_button(
    page: TrainingPage, session: Session, qtbot: Any
):
    problem = child(page, QLabel, "training-problem")
    assert not problem.isVisible()
    make_short(page, qtbot, epochs=20)
    click(page, qtbot, "train")
    qtbot.waitUntil(lambda: bool(page.state.epochs), timeout=60_000)
    assert session.task is not None
    session.task.pause()
    folder = session.require_project().images()[0].path.parent
    aside = folder.rename(folder.with_name("aside"))
    session.task.resume()
    wait(session, qtbot)
    assert problem.isVisible()
    assert ".png" in problem.text()
    details = child(page, QPlainTextEdit, "training-problem-details")
    assert not details.isVisible()
    click(page, qtbot, "training-details")
    assert details.isVisible()
    assert "Traceback" in details.toPlainText()
    assert child(page, QPushButton, "train").isEnabled()
    assert text(page, "unfinished") == "Round 1 has not ended; it can go on."
    aside.rename(folder)
    click(page, qtbot, "resume")
    assert not problem.isVisible()
    assert not details.isVisible()
    wait(session, qtbot)
    ended = session.require_project().latest_round()
    assert ended is not None
    assert (ended.id, ended.status) == (1, RoundStatus.FINISHED)
    assert not child(page, QPushButton, "resume").isVisible()


def test_an_mIoU_on_masks_is_drawn_beside_the_accuracy(  # noqa: N802 (its name)
    page: TrainingPage, session: Session, qtbot: Any
):
    click(page, qtbot, "train")
    for number in range(2):
        epoch = EpochFinished(number, 5, 0.5, 0.4, 0.9, 0.61, best=not number)
        session.progressed.emit(epoch)
    scores = child(page, CurvePlot, "scores")
    qtbot.waitUntil(lambda: scores.points("mIoU on masks") == 2, timeout=10_000)
    assert scores.points("accuracy on held-out images") == 2
    assert "mIoU 0.610 on masks" in text(page, "epochs")
    wait(session, qtbot)


def test_a_closed_page_leaves_nothing_behind(session: Session, qtbot: Any):
    state = TrainingState(session)
    left = []
    for _ in range(5):
        page = TrainingPage(state)
        page.show()
        qtbot.waitExposed(page)
        state.advanced.emit()
        left += [weakref.ref(page), *map(weakref.ref, page.findChildren(CurvePlot))]
        page.close_page()
        page.deleteLater()
        del page
    qtbot.waitUntil(lambda: not alive(left), timeout=20_000)
    assert len(state.advanced) == len(state.changed) == 0


def test_the_second_stage_is_offered_once_the_first_is_trained(
    page: TrainingPage, session: Session, qtbot: Any
):
    begin = child(page, QPushButton, "segment")
    assert not begin.isEnabled()
    assert text(page, "second-stage-about").startswith("Train on the labels first")
    click(page, qtbot, "train")
    wait(session, qtbot)
    assert begin.isEnabled()
    click(page, qtbot, "show-segment-options")
    child(page, QAbstractSpinBox, "segment-option-epochs").setValue(1)
    child(page, QAbstractSpinBox, "segment-option-batch-size").setValue(4)
    child(page, QComboBox, "segment-option-decoder").setCurrentText("segformer")
    click(page, qtbot, "segment")
    qtbot.waitUntil(lambda: bool(page.state.steps), timeout=120_000)
    assert session.task is not None
    session.task.stop()
    wait(session, qtbot)
    assert text(page, "outcome").startswith("Round 2 was stopped")
    assert child(page, QPushButton, "resume-segmentation").text() == "Resume round 2"
    assert not child(page, QPushButton, "resume").isVisible(), "the first stage has ended"
    click(page, qtbot, "resume-segmentation")
    wait(session, qtbot)
    assert "segments without labels" in text(page, "outcome")
