"""Hostile checkpoints."""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import torch
from fuzzed_reader import FuzzedReader
from harm import Harm
from mutations import changed_safetensors, json_text, parts_of_safetensors, placed, safetensors

from napari_protoseg.encoders.encoder import empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.record import ModelKind
from napari_protoseg.training.checkpoint import (
    Checkpoint,
    TrainingState,
    read_state,
    write_checkpoint,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny_training import CONFIG, POSITIONS, RECORD, network

_BACKBONES = (
    "", "test_resnet", "resnet50", "vit_giant_patch14_dinov2", "eva_giant_patch14_224", "mit_b5",
    "mit_b9", "hf_hub:someone/model", "hf-hub:someone/model", "local-dir:/etc", "os.system", "\0",
    "resnet50.a1_in1k", "vgg16", "swin_tiny_patch4_window7_224",
)  # fmt: skip


_SMALL_ENCODER = {"name": "test_efficientnet", "std": [0.2] * 3, "width": 256, "stride": 16}


def _optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


@cache
def _valid() -> tuple[bytes, ...]:
    model = network()
    optimiser = _optimiser(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    state = TrainingState(config=CONFIG, micro_batch=2, best=0.5, scaler={"scale": 2.0})
    identity = EncoderIdentity(**_encoder(Random(0)) | _SMALL_ENCODER)
    encoder = empty_encoder(identity)
    evidence = EvidenceModel(encoder, torch.ones(3, identity.width), POSITIONS, 2)
    of_evidence = RECORD.model_copy(
        update={"kind": ModelKind.EVIDENCE, "backbone": None, "encoder": identity}
    )
    with tempfile.TemporaryDirectory() as place:
        write_checkpoint(Path(place, "model"), RECORD, model)
        write_checkpoint(Path(place, "last"), RECORD, model, state, optimiser)
        write_checkpoint(Path(place, "evidence"), of_evidence, evidence)
        return tuple(Path(place, name).read_bytes() for name in ("model", "last", "evidence"))


def _changed(random: Random, metadata: dict[str, str]) -> None:
    header = json.loads(metadata["checkpoint"])
    match random.randrange(10):
        case 0:
            metadata.pop("checkpoint")
            return
        case 1:
            header["format"] = random.choice((0, 2, -1, 10**30, None, "1", 1.5, float("nan")))
        case 2:
            header["record"]["backbone"] = random.choice((*_BACKBONES, None, None, None))
        case 3 | 4 | 5:
            header["record"]["kind"] = random.choice(tuple(ModelKind)).value
            header["record"]["encoder"] = random.choice((None, _encoder(random)))
            header["record"]["decoder"] = random.choice((None, "deeplabv3+", "segformer", "none"))
        case 6:
            header["record"]["class_positions"] = random.choice(
                ([], [0], [0, 0, 9], [-1, 0, 1], [0] * 5, [10**6] * 3, [0, 0, 1, 1])
            )
        case _:
            metadata["checkpoint"] = json_text(random, header).decode("utf-8", "replace")
            return
    metadata["checkpoint"] = json.dumps(header)


def _encoder(random: Random) -> dict[str, object]:
    return {
        "name": random.choice(_BACKBONES),
        "weights_sha256": "0" * 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [random.choice((0.2, 0.0)), 0.2, 0.2],
        "width": random.choice((8, 0, -1, 2**40)),
        "stride": random.choice((16, 0, -1)),
        "licence": "none",
    }


def _make(random: Random, folder: Path) -> Path:
    content = random.choice(_valid())
    if random.random() < 0.02:
        content = pickle.dumps(Harm())
    elif random.random() < 0.95:
        try:
            change = random.choice((_with_foreign_state, *[_with_changed_record] * 3, _damaged))
            content = change(random, content)
        except (KeyError, ValueError):  # there are no such records
            content = content[: random.randrange(len(content))]
    return placed(random, folder, ".safetensors", content)


def _damaged(random: Random, content: bytes) -> bytes:
    return changed_safetensors(random, content, _changed)


def _with_changed_record(random: Random, content: bytes) -> bytes:
    """Change what a checkpoint says of itself; the rest is as it was written."""
    header, data = parts_of_safetensors(content)
    _changed(random, header["__metadata__"])
    return safetensors(json.dumps(header).encode(), data)


def _with_foreign_state(random: Random, content: bytes) -> bytes:
    """Give what stands under the optimiser another number or name."""
    header, data = parts_of_safetensors(content)
    name = random.choice([name for name in header if name.startswith("optimiser/")] or ["none"])
    _, number, key = name.split("/", 2)
    number = random.choice((number, "", "x", "-1", "10000", "\u0663"))
    header["/".join(("optimiser", number, random.choice((key, "", "step"))))] = header.pop(name)
    return safetensors(json.dumps(header).encode(), data)


def _read(path: Path, random: Random) -> None:
    if random.random() < 0.3:
        read_state(path)
        return
    checkpoint = Checkpoint(path)
    model = checkpoint.restore() if random.random() < 0.6 else network()
    if random.random() < 0.3:
        checkpoint.load_optimiser(_optimiser(model))


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=6_000,
    code={
        "napari_protoseg/training/checkpoint.py": (
            "read_state", "_header", "_damaged", "Checkpoint.__init__", "Checkpoint.part",
            "Checkpoint.restore", "Checkpoint.load_model", "Checkpoint.load_optimiser",
        ),
        "napari_protoseg/network/build.py": (),
    },
)  # fmt: skip
