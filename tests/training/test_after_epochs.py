"""Whoever looks at the network after an epoch leaves no trace in its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from driven_jobs import finish, stop_after
from tiny_training import CONFIG, inputs, network, same, trained
from torch import Tensor

from napari_protoseg.events import Event, Notice, Progress
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.maps import MapModel
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.loop import train_network


class Forgetful(PrototypeNetwork):
    """A network that draws random numbers while it trains."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return super().forward(F.dropout(images, 0.3, self.training))


def careless(model: MapModel, epoch: int) -> Sequence[Event]:
    """Draw random numbers, and leave the network as it is for predictions."""
    torch.rand(7)
    model.eval()
    return (Notice(f"Looked after epoch {epoch}."), Notice("And once more."))


def test_the_weights_are_the_same_with_and_without(tmp_path: Path):
    without = trained(tmp_path / "without", model=network(Forgetful))
    looked = trained(tmp_path / "with", model=network(Forgetful), after_epoch=careless)
    assert same(looked, without)


def test_what_it_says_comes_after_the_epoch(tmp_path: Path):
    _, events = finish(train_network(inputs(tmp_path, after_epoch=careless), CONFIG))
    said = [event.text for event in events if isinstance(event, Notice)]
    assert said[1:] == [
        "Looked after epoch 0.",
        "And once more.",
        "Looked after epoch 1.",
        "And once more.",
    ]
    epoch = [*[StepFinished] * 3, *[Progress] * 2, EpochFinished, Notice, Notice]
    assert [type(event) for event in events] == [Notice, *epoch, *epoch]


def test_a_training_stopped_while_it_says_so_resumes_to_the_same_weights(tmp_path: Path):
    whole = trained(tmp_path / "whole", model=network(Forgetful))
    first = inputs(tmp_path / "cut", model=network(Forgetful), after_epoch=careless)
    result, events = finish(train_network(first, CONFIG), stop_after(8))
    assert (result.finished, len(events)) == (False, 8)
    assert events[-1] == Notice("Looked after epoch 0.")
    second = inputs(tmp_path / "cut", model=network(Forgetful), after_epoch=careless)
    finish(train_network(second, CONFIG, resume=True))
    assert same(second.model.state_dict(), whole)
