"""From a folder to the masks of the quick preset each image goes through the encoder once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish
from tiny_project import CPU, NOW
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.jobs import records
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.batches import predict_batches
from napari_protoseg.jobs.make_masks import make_masks
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import StoredMask
from napari_protoseg.training.config import Preset

PLAIN = Recipe(flip=False)


class Encoded:
    """Counts the images that networks are given; blank ones, to measure a network, are none."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            self.images += int((inputs[0].flatten(1).std(1) > 0).sum())


@pytest.fixture
def encoded() -> Iterator[Encoded]:
    counted = Encoded()
    hook = register_module_forward_hook(counted)
    yield counted
    hook.remove()


def bank(project: Project, clusters: int = 1) -> None:
    request = BankRequest(config=BankConfig(clusters=clusters))
    finish(build_project_bank(project, request, device=CPU, now=NOW))


def masks(project: Project, recipe: Recipe = PLAIN) -> list[StoredMask]:
    finish(make_masks(project, recipe, device=CPU, now=NOW))
    stored = [project.read_mask(image.known_id) for image in project.images()]
    return [mask for mask in stored if mask is not None]


def test_bank_training_and_masks_encode_each_image_once(made: Path, encoded: Encoded) -> None:
    with Project.open(made / "project") as project:
        bank(project)
        train = TrainRequest(preset=Preset.QUICK)
        finish(train_project(project, train, device=CPU, now=lambda: NOW))
        assert len(masks(project)) == encoded.images == 16


def test_the_mirror_image_is_the_only_one_that_masks_encode(
    trained: Path, encoded: Encoded
) -> None:
    with Project.open(trained / "project") as project:
        assert len(masks(project, Recipe(flip=True))) == encoded.images == 16


def test_masks_are_the_same_with_and_without_cached_features(
    trained: Path, encoded: Encoded
) -> None:
    with Project.open(trained / "project") as project:
        from_cache = masks(project)
        assert encoded.images == 0
        shutil.rmtree(project.cache)
        computed = masks(project)
        assert encoded.images == 16
    for one, other in zip(from_cache, computed, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=2e-3)


def test_a_bank_reads_each_image_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    decode = records.read_image
    monkeypatch.setattr(records, "read_image", lambda path: (read.append(path), decode(path))[1])
    with Project.open(made / "project") as project:
        bank(project)
        paths = sorted(image.path for image in project.images())
        assert sorted(read) == paths
        bank(project, clusters=2)
        assert sorted(read[len(paths) :]) == paths, "cached embeddings do not tell of glass"


class ShortOfMemory(Predictor):
    """Has memory for so many images at once."""

    fits = 2

    def predict(self, images, labels=None, dense=None):
        if len(images) > self.fits:
            raise torch.OutOfMemoryError
        return super().predict(images, labels, dense)


def test_what_does_not_fit_in_memory_at_once_is_predicted_in_parts(trained: Path) -> None:
    with Project.open(trained / "project") as project:
        model, images = trained_model(project).model, project.images()
        ids = project.schema.ids
        whole = list(predict_batches(Predictor(model, ids, PLAIN, CPU), images))
        parts = list(predict_batches(ShortOfMemory(model, ids, PLAIN, CPU), images))
    assert [image for batch, _ in parts for image in batch] == list(images)
    assert max(len(batch) for batch, _ in parts) == 2
    np.testing.assert_array_equal(
        np.concatenate([prediction.masks for _, prediction in whole]),
        np.concatenate([prediction.masks for _, prediction in parts]),
    )
