"""An option form is made from any frozen configuration, and gives valid ones back."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("magicgui")
pytest.importorskip("pytestqt")

from left_behind import alive
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QWidget,
)

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.jobs.bank import BankRequest
from napari_protoseg.training.config import (
    PLAIN,
    PRESETS,
    Compat,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.widgets.forms import ConfigForm


class Small(BaseModel):
    """A configuration with a description at its field.

    Parameters
    ----------
    first, second
        Said of
        both.

    Notes
    -----
    third
        Not of a parameter.
    """

    model_config = ConfigDict(frozen=True)

    first: int = 1
    second: int | None = Field(default=None, ge=1)
    third: str = Field(default="a", description="Said at the field.")


@pytest.fixture
def show(qtbot: Any) -> Any:
    def make(*args: Any) -> ConfigForm:
        form = ConfigForm(*args)
        qtbot.addWidget(form)
        form.show()
        return form

    return make


def child(form: ConfigForm, kind: type[QWidget], name: str) -> Any:
    found = form.findChild(kind, f"option-{name}")
    assert found is not None, name
    return found


def type_in(qtbot: Any, line: QLineEdit, text: str) -> None:
    line.selectAll()
    qtbot.keyClick(line, Qt.Key.Key_Delete)
    qtbot.keyClicks(line, text)


def test_every_field_of_the_training_has_a_fitting_widget_with_its_tip(show: Any):
    form = show(TrainingConfig(), list(TrainingConfig.model_fields))
    for kind, names in {
        QComboBox: ["compat", "matching"],
        QCheckBox: ["cosine"],
        QAbstractSpinBox: ["epochs", "batch-size", "warmup-steps", "max-side", "seed"],
        QDoubleSpinBox: ["held-out"],
        QLineEdit: ["backbone", "head-rate", "stage-weights", "max-pairs"],
    }.items():
        for name in names:
            assert child(form, kind, name).toolTip(), name
    assert child(form, QAbstractSpinBox, "max-side").minimum() == 32
    assert child(form, QDoubleSpinBox, "held-out").maximum() < 1
    assert child(form, QLineEdit, "head-rate").text() == "0.001"
    assert child(form, QLineEdit, "max-pairs").text() == ""
    labels = {label.text() for label in form.findChildren(QLabel)}
    assert {"Batch size", "Held out", "Stage weights"} <= labels


def test_what_is_filled_in_is_a_new_configuration_and_the_rest_stays(show: Any, qtbot: Any):
    given = TrainingConfig(seed=7)
    form = show(given, ["epochs", "head_rate", "cosine", "matching", "max_pairs"])
    with qtbot.waitSignal(form.changed):
        child(form, QAbstractSpinBox, "epochs").setValue(9)
    type_in(qtbot, child(form, QLineEdit, "head-rate"), "3e-5")
    child(form, QCheckBox, "cosine").click()
    child(form, QComboBox, "matching").setCurrentText("reencode")
    type_in(qtbot, child(form, QLineEdit, "max-pairs"), "12")
    assert form.value == TrainingConfig(
        seed=7, epochs=9, head_rate=3e-5, cosine=False, matching=Matching.REENCODE, max_pairs=12
    )
    assert given == TrainingConfig(seed=7)
    type_in(qtbot, child(form, QLineEdit, "max-pairs"), "")
    assert form.value.max_pairs is None
    with pytest.raises(ValidationError):
        form.value.epochs = 3


def test_a_wrong_value_becomes_a_sentence_and_the_last_valid_one_stays(show: Any, qtbot: Any):
    form = show(TrainingConfig(), ["head_rate", "epochs"])
    problem = form.findChild(QLabel, "option-problem")
    assert not problem.isVisible()
    type_in(qtbot, child(form, QLineEdit, "head-rate"), "-1")
    assert form.problem == "Learning rate of the rest: input should be greater than 0."
    assert (problem.isVisible(), problem.text()) == (True, form.problem)
    child(form, QAbstractSpinBox, "epochs").setValue(2)
    assert form.value == TrainingConfig()
    type_in(qtbot, child(form, QLineEdit, "head-rate"), "0.01")
    assert form.problem is None
    assert not problem.isVisible()
    assert form.value == TrainingConfig(head_rate=0.01, epochs=2)


def test_fields_that_do_not_go_together_are_said_until_they_do(show: Any):
    form = show(PLAIN, ["compat", "matching"])
    child(form, QComboBox, "compat").setCurrentText("reference")
    assert form.problem == "The released form matches by re-encoding: choose matching reencode."
    child(form, QComboBox, "matching").setCurrentText("reencode")
    assert form.problem is None
    assert form.value.compat is Compat.REFERENCE


def test_another_configuration_is_shown_without_a_change_by_a_person(show: Any, qtbot: Any):
    form = show(TrainingConfig(), ["epochs", "backbone"], {"backbone": ["tf_efficientnet_lite0"]})
    child(form, QAbstractSpinBox, "epochs").setValue(9)
    with qtbot.assertNotEmitted(form.changed):
        form.set_value(PRESETS[Preset.PAPER])
    assert form.value == PRESETS[Preset.PAPER]
    assert child(form, QAbstractSpinBox, "epochs").value() == 8
    assert child(form, QComboBox, "backbone").currentText() == "mit_b1", "though not offered"


def test_a_value_that_a_widget_would_round_stays_as_it_was(show: Any):
    form = show(TrainingConfig(held_out=0.123456), ["held_out", "epochs"])
    child(form, QAbstractSpinBox, "epochs").setValue(1)
    assert form.value.held_out == 0.123456


def test_a_configuration_within_a_request(show: Any, qtbot: Any):
    form = show(BankRequest(), ["config.clusters", "config.max_white", "encoder_weights"])
    clusters = child(form, QLineEdit, "clusters")
    type_in(qtbot, clusters, "4")
    assert form.value == BankRequest(config=BankConfig(clusters=4))
    type_in(qtbot, clusters, "4, 3, 2")
    assert form.value.config.clusters == (4, 3, 2)
    type_in(qtbot, clusters, "many")
    assert form.problem is not None
    assert form.problem.startswith("Prototypes per class: ")
    type_in(qtbot, clusters, "3")
    weights = child(form, QWidget, "encoder-weights").findChild(QLineEdit)
    type_in(qtbot, weights, "/weights.safetensors")
    assert form.value == BankRequest(encoder_weights=Path("/weights.safetensors"))
    type_in(qtbot, weights, "")
    assert form.value == BankRequest()


def test_tips_come_from_the_field_or_from_the_docstring(show: Any):
    form = show(Small(), ["first", "second", "third"])
    assert child(form, QAbstractSpinBox, "first").toolTip() == "Said of both."
    assert child(form, QLineEdit, "second").toolTip() == "Said of both."
    assert child(form, QLineEdit, "third").toolTip() == "Said at the field."


def test_a_form_that_is_gone_leaves_nothing(qtbot: Any):
    form = ConfigForm(TrainingConfig(), list(TrainingConfig.model_fields))
    left = weakref.ref(form)
    form.deleteLater()
    del form
    qtbot.waitUntil(lambda: not alive([left]))
