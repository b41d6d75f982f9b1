"""What is asked of a training: a preset, and a configuration that may differ from it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.segment import SegmentRequest
from napari_protoseg.training.config import PRESETS, SECOND_STAGE, Preset, TrainingConfig


@pytest.mark.parametrize("preset", list(Preset))
def test_a_preset_brings_its_configuration(preset: Preset):
    assert TrainRequest(preset=preset).config == PRESETS[preset]
    assert TrainRequest.model_validate({"preset": preset.value}).config == PRESETS[preset]


def test_without_a_word_it_is_the_standard_one():
    assert TrainRequest().config == PRESETS[Preset.STANDARD]


def test_another_configuration_is_kept_and_so_is_what_a_round_has_recorded():
    config = TrainingConfig(epochs=2)
    asked = TrainRequest(preset=Preset.QUICK, config=config)
    assert asked.config == config
    assert TrainRequest.model_validate_json(asked.model_dump_json()) == asked


def test_what_a_configuration_lacks_is_of_its_preset():
    asked = TrainRequest.model_validate({"preset": "paper", "config": {"epochs": 1}})
    assert asked.config == PRESETS[Preset.PAPER].model_copy(update={"epochs": 1})
    assert TrainRequest(config=TrainingConfig(epochs=1)).config.competing
    second = SegmentRequest.model_validate({"config": {"epochs": 1}})
    assert second.config == SECOND_STAGE.model_copy(update={"epochs": 1})


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValidationError, match="preset"):
        TrainRequest.model_validate({"preset": "fast"})
