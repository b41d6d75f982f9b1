"""Real lung and colon tissue: masks learned from image-level labels, beside what bounds them.

    real_tissue.py lung|colon [--seeds 0,1] [--out FOLDER]

Cuts tiles by the protocol of the data's README, trains on the labels of the `train` tiles, and
measures on the `val` tiles: the frozen evidence, a plain class activation map, this project's
standard preset, and a fully supervised network of the same backbone and epochs. Colon trains on a
fixed subset of 1,000 tiles. Figures go to FOLDER/<tissue>.json and, as a table, to the terminal.
Runs that are in that file already are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.evaluation.confusion import confusion_matrix, iou
from napari_protoseg.evaluation.image_level import image_level_f1
from napari_protoseg.evaluation.protocol import MaskCodes, class_positions
from napari_protoseg.evaluation.trivial import Trivial
from napari_protoseg.exports.indexed_png import write_indexed_png
from napari_protoseg.images.reading import read_image, read_mask
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.measure import measure_trivial
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest, frozen_evidence
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Normalisation, Recipe
from napari_protoseg.network.backbones import (
    DEFAULT_BACKBONE,
    Backbone,
    create_backbone,
    pretrained_weights,
)
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import PRESETS, Matching, Preset, TrainingConfig
from napari_protoseg.training.devices import choose_device
from napari_protoseg.training.schedule import poly_factor

CASE_PATTERN = r"^(.+?)-\d+-\d+-\["


@dataclass(frozen=True)
class Tissue:
    """A data set and how its tiles are cut.

    Parameters
    ----------
    classes
        In the order of the masks' values.
    quoted
        Classes whose mean IoU is the headline.
    cut
        Further arguments of the data's `cut_tiles.py`.
    training_tiles
        Size of the fixed subset that is trained on; None for all.
    """

    classes: tuple[str, ...]
    quoted: tuple[str, ...]
    cut: tuple[str, ...] = ()
    training_tiles: int | None = None


TISSUES = {
    "lung": Tissue(("tumor", "stroma", "normal"), ("tumor", "stroma")),
    "colon": Tissue(
        ("other", "benign_gland", "malignant_gland"),
        ("other", "benign_gland", "malignant_gland"),
        ("--tile", "96", "--min-fraction", "0.05", "--stride", "96"),
        1000,
    ),
}
SUBSET_SEED = 20261122
BATCH = 16


class Supervised(MapModel):
    """A linear classifier of each pixel on the last three stages, brought to one size."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(range(classes), classes, [backbone.strides[1]])
        self.backbone = backbone
        self.classifier = nn.Conv2d(sum(backbone.widths[1:]), classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each pixel at stride 8."""
        stages = self.backbone(images)[1:]
        size = stages[0].shape[2:]
        same = [F.interpolate(s, size, mode="bilinear", align_corners=False) for s in stages]
        return (self.classifier(torch.cat(same, 1)),)


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tissue", choices=TISSUES)
    parser.add_argument("--seeds", default="0", help="comma separated")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"))
    options = parser.parse_args()
    data = os.environ.get("PROTOSEG_DATA")
    if not data:
        print("Skipped: set PROTOSEG_DATA to the folder of the real tissue.", file=sys.stderr)
        return 0
    tissue: Tissue = TISSUES[options.tissue]
    results = options.out / f"{options.tissue}.json"
    figures: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split in ("train", "val"):
            _cut(Path(data) / "data", options.tissue, split, tissue, folder / split)
        for seed in map(int, options.seeds.split(",")):
            for name, row in _runs(tissue, folder, seed, done=set(figures)):
                figures[name] = row
                options.out.mkdir(parents=True, exist_ok=True)
                results.write_text(json.dumps(figures, indent=1))
    print(_table(tissue, figures))
    return 0


def _cut(data: Path, name: str, split: str, tissue: Tissue, out: Path) -> None:
    command = [sys.executable, str(data / "cut_tiles.py"), str(data / name / split), str(out)]
    subprocess.run(
        [*command, "--classes", ",".join(tissue.classes), *tissue.cut],
        check=True,
        stdout=sys.stderr,
    )
    if split == "train" and tissue.training_tiles is not None:
        tiles = sorted((out / "images").iterdir())
        chosen = set(random.Random(SUBSET_SEED).sample(tiles, tissue.training_tiles))
        for tile in tiles:
            if tile not in chosen:
                tile.unlink()


def _runs(
    tissue: Tissue, folder: Path, seed: int, done: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the figures of each prediction that is not done yet."""
    terminal = Terminal()
    device = choose_device()
    where = folder / f"project-{seed}"
    request = NewProject(
        folder=where,
        images=folder / "train" / "images",
        classes=tissue.classes,
        case_pattern=CASE_PATTERN,
    )
    terminal.run(new_project(request, now=_now()))
    validation_request = request.model_copy(
        update={"folder": folder / f"val-{seed}", "images": folder / "val" / "images"}
    )
    terminal.run(new_project(validation_request, now=_now()))
    with Project.open(where) as project, Project.open(folder / f"val-{seed}") as held:
        schema = project.schema
        truth = _with_project_masks(held.images(), folder, schema)
        for kind in Trivial:
            scores = measure_trivial(kind, truth, schema)
            yield f"trivial, {kind.value}", {"given": _ious(scores)}
        bank = BankRequest(config=BankConfig(seed=seed))
        terminal.run(build_project_bank(project, bank, device=device, now=_now()))

        def figures(model: MapModel, *, without_gate: bool = False) -> dict[str, Any]:
            return _figures(model, truth, schema, device, without_gate=without_gate)

        config = PRESETS[Preset.STANDARD].model_copy(update={"seed": seed})
        plain = config.model_copy(update={"matching": Matching.NONE})
        if f"frozen evidence, seed {seed}" not in done:
            evidence = frozen_evidence(project, device=device)
            yield f"frozen evidence, seed {seed}", figures(evidence)
        requests = {
            "plain CAM": TrainRequest(kind=ModelKind.PLAIN_CAM, config=plain),
            "ours (standard)": TrainRequest(config=config),
        }
        for name, train in requests.items():
            if f"{name}, seed {seed}" in done:
                continue
            terminal.run(train_project(project, train, device=device, now=_now))
            yield f"{name}, seed {seed}", figures(trained_model(project).model)
        if f"fully supervised, seed {seed}" not in done:
            masked = _with_project_masks(project.images(), folder, schema, "train")
            model = _supervise(masked, schema, config, device)
            yield f"fully supervised, seed {seed}", figures(model, without_gate=True)


def _with_project_masks(
    images: Sequence[ImageRecord], folder: Path, schema: ClassSchema, split: str = "val"
) -> list[ImageRecord]:
    """Give each image its mask, written once more in the codes of a project."""
    out = folder / f"{split}-project-masks"
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[: len(schema.ids)] = schema.ids
    found = []
    for image in images:
        target = out / image.path.name
        if not target.exists():
            values = read_mask(folder / split / "masks" / image.path.name)
            write_indexed_png(target, lookup[values], schema)
        found.append(replace(image, mask_path=target))
    return found


def _figures(
    model: MapModel,
    images: Sequence[ImageRecord],
    schema: ClassSchema,
    device: torch.device,
    *,
    without_gate: bool,
) -> dict[str, Any]:
    """Measure a model with given labels, by both normalisations, and with predicted ones."""
    logits = Recipe(normalisation=Normalisation.SIGMOID)
    none = {"labels": LabelCondition.NONE}
    recipes = {
        "given": Recipe(),
        "given, argmax of logits": logits,
        "predicted": Recipe(labels=LabelCondition.PREDICTED),
    }
    if without_gate:
        recipes = {"given": logits, "predicted": logits.model_copy(update=none)}
    predictors = {n: Predictor(model, schema.ids, r, device) for n, r in recipes.items()}
    matrices = {name: np.zeros((len(schema.ids), len(schema.ids) + 1), int) for name in recipes}
    present, predicted = [], []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        pixels = np.stack([read_image(image.path) for image in batch])
        labels = np.array([image.label for image in batch], dtype=np.int8)
        views = next(iter(predictors.values())).look(pixels)
        for name, predictor in predictors.items():
            prediction = predictor.decide(views, pixels, labels)
            for image, mask in zip(batch, prediction.masks, strict=True):
                matrices[name] += confusion_matrix(
                    _positions(image, schema),
                    class_positions(mask, schema, MaskCodes.PROJECT, where=image.path),
                    len(schema.ids),
                )
        present.append(labels)
        predicted.append((prediction.probabilities > 0.5).astype(np.int8))
    found: dict[str, Any] = {
        name: dict(zip(schema.names, iou(matrix).tolist(), strict=True))
        for name, matrix in matrices.items()
    }
    if not without_gate:
        f1 = image_level_f1(np.concatenate(present), np.concatenate(predicted))
        found["image-level F1"] = f1.tolist()
    return found


def _positions(image: ImageRecord, schema: ClassSchema) -> NDArray[np.uint8]:
    assert image.mask_path is not None
    values = read_mask(image.mask_path)
    return class_positions(values, schema, MaskCodes.PROJECT, where=image.mask_path)


def _supervise(
    images: Sequence[ImageRecord], schema: ClassSchema, config: TrainingConfig, device: torch.device
) -> Supervised:
    """Train on the masks of all images, with the epochs and rates of `config`."""
    torch.manual_seed(config.seed)
    weights = pretrained_weights(DEFAULT_BACKBONE)
    model = Supervised(create_backbone(DEFAULT_BACKBONE, weights), len(schema.ids)).to(device)
    heads = list(model.classifier.parameters())
    rates = (config.backbone_rate, config.head_rate)
    optimiser = torch.optim.AdamW(
        [{"params": list(model.backbone.parameters())}, {"params": heads}],
        weight_decay=config.weight_decay,
    )
    steps = config.epochs * -(-len(images) // config.batch_size)
    step = 0
    model.train()
    for epoch in range(config.epochs):
        draw = np.random.default_rng([config.seed, epoch])
        order = draw.permutation(len(images))
        for start in range(0, len(order), config.batch_size):
            pixels, targets = [], []
            for index in order[start : start + config.batch_size]:
                image = images[index]
                turns, mirror = int(draw.integers(4)), bool(draw.integers(2))
                picture = np.rot90(read_image(image.path), turns)
                truth = _positions(image, schema).astype(np.int64)
                truth = np.rot90(np.where(truth == len(schema.ids), -1, truth), turns)
                pixels.append(picture[:, ::-1] if mirror else picture)
                targets.append(truth[:, ::-1] if mirror else truth)
            batch = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
            target = torch.from_numpy(np.stack(targets)).to(device)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * poly_factor(step, steps)
            (logits,) = model(batch)
            size = (target.shape[1], target.shape[2])
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            loss = F.cross_entropy(logits, target, ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
        print(f"supervised epoch {epoch + 1} of {config.epochs}", file=sys.stderr)
    return model


def _ious(scores: Any) -> dict[str, float | None]:
    return {c.name: c.iou for c in scores.classes}


def _table(tissue: Tissue, figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"| prediction | protocol | {' | '.join(tissue.classes)} | mean of "
        f"{', '.join(tissue.quoted)} |",
        "|---" * (len(tissue.classes) + 3) + "|",
    ]
    for name, row in figures.items():
        for protocol, ious in row.items():
            if protocol == "image-level F1":
                continue
            values = [ious[c] for c in tissue.classes]
            mean = np.mean([ious[c] or 0.0 for c in tissue.quoted])
            cells = " | ".join("-" if v is None else f"{v:.3f}" for v in values)
            lines.append(f"| {name} | {protocol} | {cells} | {mean:.3f} |")
    return "\n".join(lines)


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
