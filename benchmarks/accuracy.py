"""How good masks from image-level labels are: named configurations, several seeds.

    accuracy.py lung|colon|generated [--seeds 0,1,2] [--only "ours;plain CAM"] [--fold 0|1|2]
                [--rate 3e-5] [--out FOLDER] [--masks FOLDER]
    accuracy.py report [--out FOLDER]
    accuracy.py sheets --masks FOLDER [--seeds 0]

Makes tiles, real ones by the protocol of the data's README, trains each configuration on the
labels of the `train` tiles, and measures it on the `val` tiles. Colon trains on a fixed subset of
1,000 tiles. Each run is written to ``FOLDER/<tissue>/<configuration>, seed N.json`` as soon as it
is measured, and is not made again. With ``--fold`` a third of the images to train on is measured
on instead of those of `val`, for choices to be made. With ``--rate`` every backbone learns at that
rate instead of its own. ``--masks`` keeps the masks with given labels.

``report`` sets what is there as tables into ``docs/benchmarks.md``; ``sheets`` draws contact
sheets of kept masks beside them, which hold images of the data, so that they are not to be passed
on where the data is not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from accuracy_report import write_report
from accuracy_sheets import write_sheets
from supervised import supervise
from tissue import (
    CASE_PATTERN,
    FOLDS,
    TISSUES,
    Tissue,
    fold_of_training,
    make_tiles,
    with_project_masks,
)

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.evaluation.confusion import confusion_matrix
from napari_protoseg.evaluation.image_level import image_level_f1
from napari_protoseg.evaluation.protocol import Background, MaskCodes, class_positions
from napari_protoseg.evaluation.trivial import TRIVIAL, Trivial
from napari_protoseg.exports.indexed_png import write_indexed_png
from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest, frozen_evidence
from napari_protoseg.jobs.segment import SegmentRequest, segment_project
from napari_protoseg.jobs.train import train_project
from napari_protoseg.jobs.truth import true_positions
from napari_protoseg.masks.prediction import Predictor, View
from napari_protoseg.masks.recipe import REFERENCE, LabelCondition, Normalisation, Recipe
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Stage
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import (
    PLAIN,
    PRESETS,
    RELEASED,
    SECOND_STAGE,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.training.devices import choose_device, describe_device
from napari_protoseg.training.pixels import PixelConfig, PixelLoss

BATCH = 16
CLUSTERS = 3
RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
STANDARD = PRESETS[Preset.STANDARD]

Matrices = dict[str, dict[str, list[list[int]]]]
"""For each rule, and each image that tiles were cut from, the confusion matrix with background."""


@dataclass(frozen=True)
class Configuration:
    """Something to train.

    Parameters
    ----------
    config
        Of the training, beside its seed.
    kind, preset
        Of the model.
    clusters
        Prototypes of each class.
    centred
        False to see pixels as they are, and not from the centre of the training images.
    """

    config: TrainingConfig = STANDARD
    kind: ModelKind = ModelKind.PROTOTYPES
    preset: Preset = Preset.STANDARD
    clusters: int = CLUSTERS
    centred: bool = True


def _standard(**changes: object) -> TrainingConfig:
    return STANDARD.model_copy(update=changes)


_MEANS = _standard(competing=False, matching=Matching.DENSE, cosine=False)
_REFERENCE = _standard(**RELEASED, max_pairs=8)

CONFIGURATIONS = {
    "plain CAM": Configuration(PLAIN, ModelKind.PLAIN_CAM),
    "quick": Configuration(PRESETS[Preset.QUICK], preset=Preset.QUICK),
    "reference, re-encoding": Configuration(_REFERENCE),
    "reference, dense matching": Configuration(_MEANS),
    "ours": Configuration(),
    "ours, a mean map for each class": Configuration(_standard(competing=False)),
    "ours, without what classes are present": Configuration(_standard(presence_weight=0.0)),
    "ours, combinations of labels as they come": Configuration(_standard(balanced=False)),
    "ours, with dense matching": Configuration(_standard(matching=Matching.DENSE)),
    "ours, linear classifier for prototypes": Configuration(STANDARD, ModelKind.PLAIN_CAM),
    "ours, prototypes of any length": Configuration(_standard(cosine=False)),
    "ours, pixels not seen from a centre": Configuration(centred=False),
    "ours, one prototype a class": Configuration(clusters=1),
    "ours, six prototypes a class": Configuration(clusters=6),
}

CHOSEN_RATES = {
    "plain CAM": {"lung": 3e-5},
    "reference, dense matching": {"lung": 1e-4, "colon": 1e-4},
}
"""Of the backbone, where another one than the configuration's was better on fold 0 of a tissue."""

SUPERVISED = _standard(backbone_rate=1e-4)
"""Of a network that sees the true masks."""

TEACHER = "ours"
"""Configuration whose masks teach the second stage."""

SECOND_STAGES = {
    "second stage": PixelConfig(),
    "second stage, DeepLabV3+": PixelConfig(decoder=Decoder.DEEPLABV3PLUS),
    "second stage, symmetric cross-entropy": PixelConfig(loss=PixelLoss.SYMMETRIC, ignored=0.2),
    "second stage, DeepLabV3+, symmetric cross-entropy": PixelConfig(
        decoder=Decoder.DEEPLABV3PLUS, loss=PixelLoss.SYMMETRIC, ignored=0.2
    ),
    "second stage, cross-entropy": PixelConfig(loss=PixelLoss.CROSS_ENTROPY, ignored=0.2),
    "second stage, generalised cross-entropy": PixelConfig(loss=PixelLoss.GENERALISED, ignored=0.2),
}


def main() -> int:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*TISSUES, "report", "sheets"])
    parser.add_argument("--seeds", default="0", help="comma separated")
    parser.add_argument("--only", help="predictions, separated by semicolons; all without it")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="of the training images")
    parser.add_argument("--rate", type=float, help="of every backbone, instead of its own")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument("--masks", type=Path, help="folder of masks to keep")
    options = parser.parse_args()
    if options.what == "report":
        write_report(options.out, DOCUMENT)
        return 0
    data = os.environ.get("PROTOSEG_DATA", "")
    if not data and options.what != "generated":
        print("Skipped: set PROTOSEG_DATA to the folder of the real tissue.", file=sys.stderr)
        return 0
    if options.what == "sheets":
        if options.masks is None:
            parser.error("name the folder of the masks: --masks FOLDER")
        seed = int(options.seeds.split(",")[0])
        print(*write_sheets(Path(data) / "data", options.masks, seed), sep="\n")
        return 0
    suffix = "" if options.fold is None else f", fold {options.fold}"
    if options.rate is not None:
        suffix += f", rate {options.rate:g}"
    results: Path = options.out / f"{options.what}{suffix}"
    results.mkdir(parents=True, exist_ok=True)
    masks = None if options.masks is None else options.masks / results.name
    only = None if options.only is None else {name.strip() for name in options.only.split(";")}

    def missing(name: str) -> bool:
        wanted = only is None or name.split(", seed ")[0] in only
        return wanted and not (results / f"{name}.json").exists()

    def rate_of(name: str) -> float | None:
        return options.rate or CHOSEN_RATES.get(name, {}).get(options.what)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split in ("train", "val") if options.fold is None else ("train",):
            make_tiles(Path(data) / "data", options.what, split, folder / split)
        if options.fold is not None:
            fold_of_training(folder, options.fold)
        for seed in map(int, options.seeds.split(",")):
            tissue = TISSUES[options.what]
            for name, figures in _runs(tissue, folder, seed, missing, masks, rate_of):
                partial = results / f"{name}.part"
                partial.write_text(json.dumps(figures))
                partial.rename(results / f"{name}.json")
    return 0


def _runs(
    tissue: Tissue,
    folder: Path,
    seed: int,
    missing: Callable[[str], bool],
    masks: Path | None,
    rate_of: Callable[[str], float | None],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the figures of each prediction that is missing."""
    terminal = Terminal()
    device = choose_device()
    request = NewProject(
        folder=folder / f"train-{seed}",
        images=folder / "train" / "images",
        classes=tissue.classes,
        case_pattern=CASE_PATTERN,
    )
    held = request.model_copy(
        update={"folder": folder / f"val-{seed}", "images": folder / "val" / "images"}
    )
    for each in (request, held):
        terminal.run(new_project(each, now=_now()))
    with Project.open(request.folder) as project, Project.open(held.folder) as held_project:
        schema = project.schema
        truth = _with_masks(held_project, folder, "val")
        for kind in Trivial:
            name = f"trivial, {kind.value}"
            if missing(name):
                yield name, {"matrices": _trivial(kind, truth, schema)}
        clusters, trained = None, None

        made_by = _made_by(device)

        def measured(name: str, model: MapModel, **how: object) -> dict[str, Any]:
            kept = None if masks is None else masks / name
            figures = _measured(model, truth, schema, device, kept, released="reference" in name)
            return {**figures, **how, "made by": made_by}

        def build_bank(number: int) -> None:
            nonlocal clusters
            if clusters != number:
                config = BankConfig(seed=seed, clusters=number)
                bank = BankRequest(config=config)
                terminal.run(build_project_bank(project, bank, device=device, now=_now()))
                clusters = number

        name = f"frozen evidence, seed {seed}"
        if missing(name):
            build_bank(CLUSTERS)
            yield name, measured(name, frozen_evidence(project, device=device))
        for configuration_name, configuration in CONFIGURATIONS.items():
            name = f"{configuration_name}, seed {seed}"
            if not missing(name):
                continue
            print(name, file=sys.stderr, flush=True)
            build_bank(configuration.clusters)
            train = _request(configuration, seed, rate_of(configuration_name))
            before = time.perf_counter()
            with nullcontext() if configuration.centred else _uncentred():
                terminal.run(train_project(project, train, device=device, now=_now))
            seconds = time.perf_counter() - before
            trained = configuration_name
            yield (
                name,
                measured(
                    name,
                    trained_model(project).model,
                    seconds=seconds,
                    config=train.model_dump(mode="json"),
                    clusters=configuration.clusters,
                    centred=configuration.centred,
                ),
            )
        for second_name, pixels in SECOND_STAGES.items():
            name = f"{second_name}, seed {seed}"
            if not missing(name):
                continue
            print(name, file=sys.stderr, flush=True)
            if trained != TEACHER:
                build_bank(CLUSTERS)
                taught = _request(CONFIGURATIONS[TEACHER], seed, rate_of(TEACHER))
                terminal.run(train_project(project, taught, device=device, now=_now))
                trained = TEACHER
            config = _seeded(SECOND_STAGE, seed, rate_of(second_name))
            second = SegmentRequest(config=config, pixels=pixels)
            before = time.perf_counter()
            terminal.run(segment_project(project, second, Recipe(), device=device, now=_now))
            seconds = time.perf_counter() - before
            model = trained_model(project, Stage.SEGMENTATION).model
            said = second.model_dump(mode="json")
            yield name, measured(name, model, seconds=seconds, config=said)
        name = f"fully supervised, seed {seed}"
        if missing(name):
            print(name, file=sys.stderr, flush=True)
            config = _seeded(SUPERVISED, seed, rate_of("fully supervised"))
            model = supervise(_with_masks(project, folder, "train"), schema, config, device)
            yield name, measured(name, model, config=config.model_dump(mode="json"))


def _made_by(device: torch.device) -> dict[str, str]:
    """Say which machine and which code a result is of."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
    code = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return {"device": describe_device(device), "code": code, "torch": torch.__version__}


def _request(configuration: Configuration, seed: int, rate: float | None) -> TrainRequest:
    return TrainRequest(
        kind=configuration.kind,
        preset=configuration.preset,
        config=_seeded(configuration.config, seed, rate),
    )


def _uncentred() -> AbstractContextManager[Any]:
    """Keep networks from being centred: they have zeros to take off, as they are made."""
    return patch.object(PrototypeNetwork, "centre_on", lambda *_: None)


def _seeded(config: TrainingConfig, seed: int, rate: float | None) -> TrainingConfig:
    changes = {"seed": seed} if rate is None else {"seed": seed, "backbone_rate": rate}
    return config.model_copy(update=changes)


def _with_masks(project: Project, folder: Path, split: str) -> list[ImageRecord]:
    masks, out = folder / split / "masks", folder / f"{split}-project-masks"
    return with_project_masks(project.images(), masks, out, project.schema)


def _measured(
    model: MapModel,
    images: Sequence[ImageRecord],
    schema: ClassSchema,
    device: torch.device,
    masks: Path | None,
    *,
    released: bool,
) -> dict[str, Any]:
    """Measure a model under each label condition, by both ways to make its maps comparable.

    With `masks` those with given labels are kept there. With `released` masks are made as the
    released code does, too.
    """
    recipes = {
        f"{labels.value} labels, {normalisation.value}": Recipe(
            labels=labels, normalisation=normalisation
        )
        for labels in LabelCondition
        for normalisation in (Normalisation.SOFTMAX, Normalisation.MIN_MAX)
    }
    if released:
        for condition in LabelCondition:
            recipe = REFERENCE.model_copy(update={"labels": condition})
            recipes[f"{condition.value} labels, released"] = recipe
    predictors = {
        name: Predictor(model, schema.ids, recipe, device) for name, recipe in recipes.items()
    }
    matrices: Matrices = {name: {} for name in recipes}
    present, predicted = [], []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        pixels = np.stack([read_image(image.path) for image in batch])
        labels = np.array([image.label for image in batch], dtype=np.int8)
        views: dict[tuple[float, ...], tuple[View, ...]] = {}
        for name, predictor in predictors.items():
            intensities = recipes[name].intensities  # all that recipes look at differently
            if intensities not in views:
                views[intensities] = predictor.look(pixels)
            prediction = predictor.decide(views[intensities], pixels, labels)
            for image, mask in zip(batch, prediction.masks, strict=True):
                if masks is not None and recipes[name].labels is LabelCondition.GIVEN:
                    (masks / name).mkdir(parents=True, exist_ok=True)
                    write_indexed_png(masks / name / image.path.name, mask, schema)
                found = class_positions(mask, schema, MaskCodes.PROJECT, where=image.path)
                _count(matrices[name], image, found, schema)
        present.append(labels)
        predicted.append((prediction.probabilities > 0.5).astype(np.int8))
    f1 = image_level_f1(np.concatenate(present), np.concatenate(predicted))
    return {"matrices": matrices, "image-level F1": f1.tolist()}


def _trivial(kind: Trivial, images: Sequence[ImageRecord], schema: ClassSchema) -> Matrices:
    matrices: Matrices = {"given labels, softmax": {}}
    for image in images:
        guess = TRIVIAL[kind]((image.height, image.width), image.label)
        _count(matrices["given labels, softmax"], image, guess, schema)
    return matrices


def _count(
    matrices: dict[str, list[list[int]]], image: ImageRecord, found: Any, schema: ClassSchema
) -> None:
    """Add the confusion of a tile to that of the image that it was cut from."""
    matrix = confusion_matrix(
        true_positions(image, schema), found, len(schema.ids), Background.COUNT
    )
    assert image.case is not None
    before = matrices.get(image.case)
    matrices[image.case] = (matrix if before is None else matrix + np.array(before)).tolist()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
