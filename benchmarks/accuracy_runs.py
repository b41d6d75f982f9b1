"""What is trained and measured on one tissue with one seed, each part when it is asked for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from configurations import (
    CLUSTERS,
    CONFIGURATIONS,
    SECOND_STAGES,
    SUPERVISED,
    TEACHER,
    Vectors,
)
from supervised import supervise
from tissue import CASE_PATTERN, Tissue, with_project_masks
from torch import Tensor, nn

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
from napari_protoseg.network.classification import STAGES, PrototypeNetwork
from napari_protoseg.network.maps import MapModel
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Stage
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import SECOND_STAGE, TrainingConfig
from napari_protoseg.training.devices import choose_device, describe_device

BATCH = 16

Figures = dict[str, Any]
"""What is written of a run: confusion matrices, image-level F1, and what it was made by."""

Matrices = dict[str, dict[str, list[list[int]]]]
"""For each rule, and each image that tiles were cut from, the confusion matrix with background."""


@contextmanager
def opened_runs(
    tissue: Tissue,
    folder: Path,
    seed: int,
    rate_of: Callable[[str], float | None],
    masks: Path | None,
) -> Iterator[Mapping[str, Callable[[], Figures]]]:
    """Make the projects of a seed, and give what can be measured in them, by its name.

    Parameters
    ----------
    tissue, folder
        Of the tiles; the folder holds those of `train` and `val`, and takes the projects.
    seed
        Of every training.
    rate_of
        Gives the rate of a configuration's backbone, None for its own.
    masks
        Folder that keeps the masks with given labels, None for none.
    """
    terminal = Terminal()
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
        truth = _with_masks(held_project, folder, "val")
        yield _Runs(terminal, project, truth, folder, seed, rate_of, masks).by_name()


@dataclass
class _Runs:
    terminal: Terminal
    project: Project
    truth: Sequence[ImageRecord]
    folder: Path
    seed: int
    rate_of: Callable[[str], float | None]
    masks: Path | None
    device: torch.device = field(default_factory=choose_device)
    clusters: int | None = None
    trained: str | None = None

    def by_name(self) -> dict[str, Callable[[], Figures]]:
        """Return what measures each prediction; those of the same bank stand together."""
        trained: dict[str, Callable[[str], Figures]] = {
            "frozen evidence": self._frozen,
            **dict.fromkeys(CONFIGURATIONS, self._configuration),
            **dict.fromkeys(SECOND_STAGES, self._second_stage),
            "fully supervised": self._supervised,
        }
        return {
            **{f"trivial, {kind.value}": partial(self._trivial, kind) for kind in Trivial},
            **{self._seeded_name(name): partial(make, name) for name, make in trained.items()},
        }

    def _trivial(self, kind: Trivial) -> Figures:
        matrices: Matrices = {"given labels, softmax": {}}
        for image in self.truth:
            guess = TRIVIAL[kind]((image.height, image.width), image.label)
            _count(matrices["given labels, softmax"], image, guess, self.project.schema)
        return {"matrices": matrices}

    def _frozen(self, name: str) -> Figures:
        self._build_bank(CLUSTERS)
        return self._measured(name, frozen_evidence(self.project, device=self.device))

    def _configuration(self, name: str) -> Figures:
        configuration = CONFIGURATIONS[name]
        with ExitStack() as changes:
            if not configuration.centred:
                changes.enter_context(_uncentred())
            if configuration.vectors is not Vectors.ADAPTED:
                changes.enter_context(_without_bank(configuration.vectors))
            request, seconds = self._train(name)
            model = trained_model(self.project).model
        return self._measured(
            name,
            model,
            seconds=seconds,
            config=request.model_dump(mode="json"),
            clusters=configuration.clusters,
            centred=configuration.centred,
            vectors=configuration.vectors.name.lower(),
        )

    def _second_stage(self, name: str) -> Figures:
        if self.trained != TEACHER:
            self._train(TEACHER)
        config = self._seeded(SECOND_STAGE, name)
        request = SegmentRequest(config=config, pixels=SECOND_STAGES[name])
        before = time.perf_counter()
        self.terminal.run(
            segment_project(self.project, request, Recipe(), device=self.device, now=_now)
        )
        return self._measured(
            name,
            trained_model(self.project, Stage.SEGMENTATION).model,
            seconds=time.perf_counter() - before,
            config=request.model_dump(mode="json"),
        )

    def _supervised(self, name: str) -> Figures:
        config = self._seeded(SUPERVISED, name)
        images = _with_masks(self.project, self.folder, "train")
        model = supervise(images, self.project.schema, config, self.device)
        return self._measured(name, model, config=config.model_dump(mode="json"))

    def _train(self, name: str) -> tuple[TrainRequest, float]:
        """Train a configuration in the project; return how, and the seconds that it took."""
        configuration = CONFIGURATIONS[name]
        self._build_bank(configuration.clusters)
        request = TrainRequest(
            kind=configuration.kind,
            preset=configuration.preset,
            config=self._seeded(configuration.config, name),
        )
        before = time.perf_counter()
        self.terminal.run(train_project(self.project, request, device=self.device, now=_now))
        self.trained = name
        return request, time.perf_counter() - before

    def _build_bank(self, clusters: int) -> None:
        if self.clusters != clusters:
            request = BankRequest(config=BankConfig(seed=self.seed, clusters=clusters))
            self.terminal.run(
                build_project_bank(self.project, request, device=self.device, now=_now())
            )
            self.clusters = clusters

    def _measured(self, name: str, model: MapModel, **how: object) -> Figures:
        masks = None if self.masks is None else self.masks / self._seeded_name(name)
        figures = _measured(
            model,
            self.truth,
            self.project.schema,
            self.device,
            masks,
            released="reference" in name,
        )
        return {**figures, **how, "made by": _made_by(self.device)}

    def _seeded(self, config: TrainingConfig, name: str) -> TrainingConfig:
        changes: dict[str, object] = {"seed": self.seed}
        if (rate := self.rate_of(name)) is not None:
            changes["backbone_rate"] = rate
        return config.model_copy(update=changes)

    def _seeded_name(self, name: str) -> str:
        return f"{name}, seed {self.seed}"


def _made_by(device: torch.device) -> dict[str, str]:
    """Say which machine and which code a result is of."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    code = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return {"device": describe_device(device), "code": code, "torch": torch.__version__}


def _uncentred() -> AbstractContextManager[Any]:
    """Keep networks from being centred: they have zeros to take off, as they are made."""
    return patch.object(PrototypeNetwork, "centre_on", lambda *_: None)


class _Learned(nn.Module):
    """Stands where an adapter does, and gives vectors of its own, which are learned."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))

    def forward(self, _: Tensor) -> Tensor:
        return self.vectors


@contextmanager
def _without_bank(vectors: Vectors) -> Iterator[None]:
    """Let networks know of the bank how many prototypes each class has, and noise their lengths."""
    make = PrototypeNetwork.__init__

    def make_without(network: PrototypeNetwork, *args: Any, **options: Any) -> None:
        make(network, *args, **options)
        bank = network.prototypes
        if vectors is Vectors.ADAPTED_NOISE:
            noise = F.normalize(torch.randn_like(bank), dim=1)
            network.register_buffer("prototypes", noise * bank.norm(dim=1, keepdim=True))
        else:
            widths = [network.backbone.widths[stage] for stage in STAGES]
            network.adapters = nn.ModuleList(_Learned(len(bank), width) for width in widths)

    with patch.object(PrototypeNetwork, "__init__", make_without):
        yield


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
