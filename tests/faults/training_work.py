"""Networks are trained, with a checkpoint at the end of each epoch; what was cut short goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from driven_jobs import finish
from tiny_backbone import TINY, tiny_weights
from torch import Tensor

from napari_protoseg.events import Event
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import TrainedRound, resume_training, train_project
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import Matching, Preset, TrainingConfig
from napari_protoseg.training.events import EpochFinished

BASE = "banked"
EPOCHS = 5
CPU = torch.device("cpu")
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def prepare(workspace: Path) -> None:
    tiny_weights(workspace)


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    config = TrainingConfig(
        backbone=TINY,
        epochs=EPOCHS,
        batch_size=16,
        max_side=32,
        matching=Matching.NONE,
    )
    request = TrainRequest(config=config, backbone_weights=workspace / "backbone.safetensors")

    def answer(event: Event) -> None:
        if isinstance(event, EpochFinished):
            acknowledge(f"epoch {event.epoch}")

    with Project.open(workspace / "project") as project:
        latest = project.latest_round()
        if latest is not None and latest.status is not RoundStatus.FINISHED:
            ended, _ = finish(resume_training(project, device=CPU, now=lambda: NOW), answer)
        else:
            ended, _ = finish(train_project(project, request, device=CPU, now=lambda: NOW), answer)
        _acknowledge_end(ended, acknowledge)
        quick = TrainRequest(preset=Preset.QUICK)
        ended, _ = finish(train_project(project, quick, device=CPU, now=lambda: NOW))
        _acknowledge_end(ended, acknowledge)


def _acknowledge_end(ended: TrainedRound | None, acknowledge: Callable[[object], None]) -> None:
    assert ended is not None
    assert ended.finished
    acknowledge(f"round {ended.round.id}")


def state(workspace: Path) -> dict[str, object]:
    """Return status, finished epochs and weights of each round.

    What a checkpoint holds is in it under the number of epochs, for the best and for the last.
    """
    found: dict[str, object] = {}
    with Project.open(workspace / "project") as project:
        for row in project.rounds():
            found[f"{row.id}"] = row.status.value
            for path in sorted(row.folder.glob("*.safetensors")):
                checkpoint = Checkpoint(path)
                checkpoint.restore()
                found[f"{row.id}/{path.stem}"] = _digest(checkpoint.part("model/"))
                if checkpoint.state is not None:
                    found[f"{row.id}/epochs"] = checkpoint.state.epoch
    return found


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def holds(found: dict[str, object], states: tuple[dict[str, object], ...], count: int) -> bool:
    """Tell whether all is there after `count` acknowledgements.

    A checkpoint may already be that of the next epoch, be it the best or the last. A round that
    has not ended may say that it was stopped, or has failed.
    """
    least, most = states[count], states[min(count + 1, len(states) - 1)]
    return found.keys() <= most.keys() and all(
        found.get(key) in (least.get(key), most[key])
        or (key.isdecimal() and least.get(key) != RoundStatus.FINISHED.value)
        for key in most
    )
