"""The weights that are kept are an average over the last steps, also where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from driven_jobs import finish, stop_after
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_training import AVERAGED, CONFIG, STEPS, inputs, same
from torch import Tensor

from napari_protoseg.errors import CheckpointError
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.loop import BEST, LAST, train_network


def kept(folder: Path) -> dict[str, Tensor]:
    return Checkpoint(folder / "round" / BEST).restore().state_dict()


def test_what_is_kept_is_the_exponential_average_of_the_weights_after_each_step(tmp_path: Path):
    given = inputs(tmp_path, AVERAGED, held_out=[])
    average: dict[str, Tensor] = {}
    decay = 1 - 1 / (0.5 * STEPS)
    for event in train_network(given, AVERAGED):
        if isinstance(event, StepFinished):
            now = {name: value.clone() for name, value in given.model.named_parameters()}
            average = {n: decay * average.get(n, v) + (1 - decay) * v for n, v in now.items()}
    for name, weights in kept(tmp_path).items():
        if name in average:
            assert torch.allclose(weights, average[name], atol=1e-6), name
    last = Checkpoint(tmp_path / "round" / LAST).restore().state_dict()
    assert not same(kept(tmp_path), last)


def test_the_steps_are_the_same_with_and_without(tmp_path: Path):
    finish(train_network(inputs(tmp_path / "with", AVERAGED), AVERAGED))
    finish(train_network(inputs(tmp_path / "without"), CONFIG))
    last = [
        Checkpoint(tmp_path / name / "round" / LAST).restore().state_dict()
        for name in ("with", "without")
    ]
    assert same(*last)


@pytest.mark.parametrize("event", [2, 5, 8, 11])
def test_a_training_that_was_stopped_keeps_the_same_average(tmp_path: Path, event: int):
    finish(train_network(inputs(tmp_path / "whole", AVERAGED), AVERAGED))
    finish(train_network(inputs(tmp_path / "cut", AVERAGED), AVERAGED), stop_after(event))
    finish(train_network(inputs(tmp_path / "cut", AVERAGED), AVERAGED, resume=True))
    assert same(kept(tmp_path / "cut"), kept(tmp_path / "whole"))


def test_what_is_looked_at_after_an_epoch_is_the_average(tmp_path: Path):
    seen: list[dict[str, Tensor]] = []

    def look(model: torch.nn.Module, epoch: int):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return ()

    given = inputs(tmp_path, AVERAGED, held_out=[], after_epoch=look)
    finish(train_network(given, AVERAGED))
    assert same(seen[-1], kept(tmp_path))


def test_a_training_whose_average_is_missing_is_not_gone_on_with(tmp_path: Path):
    finish(train_network(inputs(tmp_path, AVERAGED), AVERAGED), stop_after(4))
    last = tmp_path / "round" / LAST
    with safe_open(last, framework="pt") as file:
        metadata = file.metadata()
        held = {n: file.get_tensor(n).clone() for n in file.keys()}  # noqa: SIM118
    assert any(name.startswith("average/") for name in held)
    without = {name: tensor for name, tensor in held.items() if not name.startswith("average/")}
    save_file(without, last, metadata=metadata)
    with pytest.raises(CheckpointError, match="weights"):
        finish(train_network(inputs(tmp_path, AVERAGED), AVERAGED, resume=True))
