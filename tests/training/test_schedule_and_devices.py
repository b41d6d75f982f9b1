"""The learning-rate schedule, and the choice of a device."""

from __future__ import annotations

import pytest
import torch

from napari_protoseg.errors import TrainingError
from napari_protoseg.training.devices import (
    choose_device,
    describe_device,
    gradient_scaler,
    mixed_precision,
)
from napari_protoseg.training.schedule import poly_factor


def test_without_warmup_the_rate_falls_to_zero_on_a_line():
    assert [poly_factor(step, 4) for step in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]


def test_warmup_rises_from_a_millionth_and_delays_the_decay():
    factors = [poly_factor(step, 10, warmup=4) for step in range(10)]
    assert factors[:4] == pytest.approx([1e-6, 0.2500, 0.5, 0.75], rel=1e-4)
    assert factors[4:] == pytest.approx([1, 0.9, 0.8, 0.7, 0.6, 0.5])


def test_a_power_bends_the_decay():
    assert poly_factor(5, 10, power=2) == 0.25
    assert poly_factor(15, 10, power=0.9) == 0


def test_the_processor_is_always_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert describe_device(torch.device("cpu")).startswith("CPU (")


def test_the_best_device_is_chosen_where_none_is_named():
    kinds = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    assert choose_device().type == [*kinds, "cpu"][0]


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:63", "cuda:x", "cpu:", "", "cuda:-1", "xla", "cpu:0:1"]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str):
    with pytest.raises(TrainingError, match="no such device") as caught:
        choose_device(name)
    assert caught.value.where == name
    assert "cpu" in caught.value.remedy


def test_the_processor_computes_in_float32():
    with mixed_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.float32
    assert not gradient_scaler(torch.device("cpu")).is_enabled()
