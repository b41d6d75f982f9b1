"""The quick preset: a scale and a bias for each prototype of the frozen evidence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from driven_jobs import finish, stop_after
from safetensors.torch import save_file
from tiny_training import CONFIG, LABELS, POSITIONS, images

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.encoders.encoding import DenseFeatures, EncodeItem
from napari_protoseg.errors import ImageError, TrainingError
from napari_protoseg.events import Progress
from napari_protoseg.images.reading import read_image
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.quick import fit_evidence


class Case:
    """A model of frozen evidence with images to fit it to."""

    def __init__(self, folder: Path) -> None:
        weights = folder / "encoder.safetensors"
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), weights)
        encoder = create_encoder("test_resnet", weights, device="cpu")
        self.items = []
        for image in images(folder / "images"):
            content_hash = hashlib.sha256(image.path.read_bytes()).hexdigest()
            self.items.append(
                EncodeItem(image.path, content_hash, *read_image(image.path).shape[:2])
            )
        cached = FeatureCache(folder / "cache", 10**6).results(encoder.identity, FeatureKind.DENSE)
        self.dense = DenseFeatures(encoder, cached, read_image)
        pooled = [self.dense.of(item).astype(np.float32).mean((1, 2)) for item in self.items]
        prototypes = torch.from_numpy(np.stack(pooled[:3]))
        self.model = EvidenceModel(encoder, prototypes, POSITIONS, 2)

    def loss(self) -> float:
        """Cross-entropy of the known labels."""
        losses = []
        for item, label in zip(self.items, LABELS, strict=True):
            features = torch.from_numpy(self.dense.of(item).astype(np.float32))[None]
            with torch.no_grad():
                maps = self.model.maps_of(features)
                logits = self.model.class_logits(self.model.prototype_logits(maps))[0]
            target = torch.tensor(label).float()
            known = target >= 0
            losses.append(F.binary_cross_entropy_with_logits(logits[known], target[known]))
        return float(torch.stack(losses).mean())

    def weights(self) -> list[float]:
        return [*self.model.scale.tolist(), *self.model.bias.tolist()]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_evidence_is_the_cosine_of_each_place_to_each_prototype(case: Case):
    pixels = torch.from_numpy(read_image(case.items[0].path).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        (maps,) = case.model(pixels)
        dense = case.model.encoder.dense(pixels)
    assert maps.shape == (1, 3, *dense.shape[2:])
    for p, y, x in ((0, 0, 0), (2, 1, 2)):
        expected = F.cosine_similarity(dense[0, :, y, x], case.model.prototypes[p], dim=0)
        torch.testing.assert_close(maps[0, p, y, x], expected)


def test_fitting_lowers_the_loss_and_says_how_far_it_is(case: Case):
    before = case.loss()
    done, events = finish(fit_evidence(case.model, case.dense, case.items, LABELS, CONFIG))
    assert done is True
    assert case.loss() < 0.9 * before
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (number, 6) for number in range(1, 7)
    ]


def test_each_step_of_the_fit_is_told_with_its_loss(case: Case):
    _, events = finish(fit_evidence(case.model, case.dense, case.items, LABELS, CONFIG))
    told = [event for event in events if isinstance(event, StepFinished)]
    assert [event.step for event in told] == list(range(1, told[0].steps + 1))
    assert [event.epoch for event in told] == list(range(told[0].steps)), "each sees all images"
    assert events[-len(told) :] == told
    assert told[0].loss > told[-1].loss


def test_the_same_images_give_the_same_fit(case: Case, tmp_path: Path):
    finish(fit_evidence(case.model, case.dense, case.items, LABELS, CONFIG))
    other = Case(tmp_path)
    finish(fit_evidence(other.model, other.dense, other.items, LABELS, CONFIG))
    assert case.weights() == other.weights()


def test_unknown_labels_say_nothing(case: Case, tmp_path: Path):
    one_class = [(first, -1) for first, _ in LABELS]
    finish(fit_evidence(case.model, case.dense, case.items, one_class, CONFIG))
    weights = case.weights()
    other = Case(tmp_path)
    # The first class is known everywhere, so its fit does not depend on the second.
    finish(fit_evidence(other.model, other.dense, other.items, [(a, 1) for a, _ in LABELS], CONFIG))
    assert other.weights()[:2] == pytest.approx(weights[:2], rel=1e-3)
    assert other.weights()[5] != pytest.approx(weights[5], rel=1e-3)
    assert weights[2] == 10, "nothing is known of the class of the third prototype"


def test_a_stop_leaves_the_model_as_it_was(case: Case):
    before = case.weights()
    for event in (1, 3, 6, 7, 200):
        done, events = finish(
            fit_evidence(case.model, case.dense, case.items, LABELS, CONFIG), stop_after(event)
        )
        assert done is False
        assert len(events) == event
        assert case.weights() == before


@pytest.mark.parametrize("number", [0, 6])
def test_something_must_be_known(case: Case, number: int):
    before = case.weights()
    with pytest.raises(TrainingError, match="no image with an image-level label"):
        finish(
            fit_evidence(case.model, case.dense, case.items[:number], [(-1, -1)] * number, CONFIG)
        )
    assert case.weights() == before


def test_an_image_that_vanishes_is_named(case: Case):
    case.items[2].path.unlink()
    with pytest.raises(ImageError, match=r"2\.png"):
        finish(fit_evidence(case.model, case.dense, case.items, LABELS, CONFIG))
