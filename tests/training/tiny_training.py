"""A training of a second: what the tests of this folder train, and a child process to kill.

``python tiny_training.py FOLDER FORM`` trains in FOLDER, and says after each step how far it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from napari_protoseg.images.reading import read_image
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import PLAIN, Matching, TrainingConfig
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.images import Batch, TrainingImage
from napari_protoseg.training.loop import TrainingInputs, train_network
from napari_protoseg.training.step import Matcher

CPU = torch.device("cpu")
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
POSITIONS = (0, 0, 1)
WIDTH = 8
RECORD = ModelRecord(
    kind=ModelKind.PROTOTYPES,
    classes=SCHEMA,
    class_positions=POSITIONS,
    backbone="test_efficientnet",
    bank="of the tests",
)
CONFIG = PLAIN.model_copy(
    update={
        "matching": Matching.DENSE,
        "backbone": "test_efficientnet",
        "epochs": 2,
        "batch_size": 2,
        "max_side": 32,
        "warmup_steps": 1,
        "seed": 3,
    }
)
COMPETING = CONFIG.model_copy(update={"competing": True, "balanced": True, "cosine": True})
AVERAGED = CONFIG.model_copy(update={"averaged": 0.5})
FORMS = {"mean maps": CONFIG, "competing": COMPETING, "averaged": AVERAGED}
"""Ways to train: what a model is trained for, what it is made of, and which weights are kept."""

STEPS = 6
LABELS = ((1, 0), (0, 1), (1, 1), (1, -1), (-1, 1), (0, 1))


def images(folder: Path, labels: Sequence[tuple[int, ...]] = LABELS) -> list[TrainingImage]:
    """Write coloured noise, reddish where the first class is, bluish where the second is.

    A folder that is there stays as it is.
    """
    missing = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, label in enumerate(labels):
        path = folder / f"{number}.png"
        if missing:
            pixels = np.random.default_rng(number).integers(0, 120, (40, 36 + number, 3))
            pixels[..., 0] += 120 * (label[0] > 0)
            pixels[..., 2] += 120 * (label[1] > 0)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        made.append(TrainingImage(path, label))
    return made


def network(
    kind: type[PrototypeNetwork] = PrototypeNetwork,
    *,
    cosine: bool = False,
    competing: bool = False,
):
    torch.manual_seed(0)
    prototypes = torch.randn(len(POSITIONS), WIDTH)
    backbone = create_backbone("test_efficientnet")
    return kind(backbone, prototypes, POSITIONS, 2, cosine=cosine, competing=competing)


def matcher() -> Matcher:
    """A frozen encoder of one layer."""
    torch.manual_seed(1)
    encoder = nn.Conv2d(3, WIDTH, 16, stride=16).requires_grad_(False)
    return Matcher(encoder, torch.randn(len(POSITIONS), WIDTH))


def inputs(
    folder: Path,
    config: TrainingConfig = CONFIG,
    *,
    kind: type[PrototypeNetwork] = PrototypeNetwork,
    model: PrototypeNetwork | None = None,
    **changes: object,
) -> TrainingInputs:
    """Return what a training by `config` works on: a network of a kind, unless one is given."""
    given = images(folder / "images")
    form = {"cosine": config.cosine, "competing": config.competing}
    return TrainingInputs(
        **{
            "model": network(kind, **form) if model is None else model,
            "record": RECORD.model_copy(update=form),
            "matcher": matcher(),
            "images": given,
            "held_out": given[:3],
            "read": read_image,
            "device": CPU,
            "folder": folder / "round",
        }
        | changes
    )


def unweighted(images: Tensor, labels: Tensor) -> Batch:
    return Batch(images, labels, torch.ones(len(images)))


def batch(number: int = 6, side: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(number)
    labels = torch.tensor([LABELS[i % len(LABELS)] for i in range(number)], dtype=torch.float32)
    return unweighted(torch.rand(number, 3, side, side, generator=generator), labels)


def trained(folder: Path, config: TrainingConfig = CONFIG, **changes: object) -> dict[str, Tensor]:
    """Train without interruption, and return the weights."""
    given = inputs(folder, config, **changes)
    for _ in train_network(given, config):
        pass
    return given.model.state_dict()


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Tell whether two sets of weights are equal to the last bit."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def main(folder: Path, form: str) -> None:
    torch.set_num_threads(1)
    config = FORMS[form]
    for event in train_network(inputs(folder, config, checkpoint_seconds=0.0), config):
        if isinstance(event, StepFinished):
            print(event.step, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
