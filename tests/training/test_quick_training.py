"""The quick preset: prototypes that move among frozen features."""

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
from tiny_training import CONFIG, LABELS, POSITIONS, images, same
from torch import Tensor

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.encoders.encoding import DenseFeatures
from napari_protoseg.encoders.passes import EncodeItem
from napari_protoseg.errors import ImageError, TrainingError
from napari_protoseg.events import Progress
from napari_protoseg.images.reading import read_image
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.objective import balancing_weights, label_loss
from napari_protoseg.training.quick import fit_evidence

MEANS = CONFIG.model_copy(update={"epochs": 6, "head_rate": 0.02})
COMPETING = MEANS.model_copy(update={"competing": True, "balanced": True})


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
        self.model = EvidenceModel(encoder, prototypes, POSITIONS, 2, competing=True)

    def loss(self, config: TrainingConfig = COMPETING) -> float:
        """Loss of all places of all images."""
        losses = []
        for item, label in zip(self.items, LABELS, strict=True):
            features = torch.from_numpy(self.dense.of(item).astype(np.float32))[None]
            target = torch.tensor([label]).float()
            with torch.no_grad():
                maps = (self.model.maps_of(features),)
                losses.append(
                    label_loss(self.model, maps, target, torch.ones(1), config, of=target)
                )
        return float(torch.stack(losses).mean())

    def weights(self) -> dict[str, Tensor]:
        return {
            name: values.clone()
            for name, values in self.model.state_dict().items()
            if not name.startswith("encoder.")
        }


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_evidence_is_a_cosine_seen_from_the_middle_of_the_prototypes(case: Case):
    """The middle in which both classes count alike, though one has two prototypes."""
    pixels = torch.from_numpy(read_image(case.items[0].path).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        (maps,) = case.model(pixels)
        dense = case.model.encoder.dense(pixels)
    assert maps.shape == (1, 3, *dense.shape[2:])
    unit = F.normalize(case.model.prototypes, dim=1)
    middle = (unit[0] / 2 + unit[1] / 2 + unit[2]) / 2
    for p, y, x in ((0, 0, 0), (2, 1, 2)):
        place = F.normalize(dense[0, :, y, x], dim=0)
        expected = F.cosine_similarity(place - middle, unit[p] - middle, dim=0) / 0.07
        torch.testing.assert_close(maps[0, p, y, x], expected, rtol=1e-4, atol=1e-4)


def test_another_centre_gives_other_directions_to_the_same_prototypes(case: Case):
    fixed = case.model.prototypes.clone()
    centre = torch.randn(case.model.centre.shape, generator=torch.Generator().manual_seed(0))
    case.model.centre_on(centre)
    expected = F.normalize(F.normalize(fixed, dim=1) - centre, dim=1)
    torch.testing.assert_close(case.model.directions.detach(), expected)
    torch.testing.assert_close(case.model.prototypes, fixed)


@pytest.mark.parametrize("config", [MEANS, COMPETING])
def test_fitting_lowers_the_loss_and_says_how_far_it_is(case: Case, config: TrainingConfig):
    before = case.loss(config)
    done, events = finish(fit_evidence(case.model, case.dense, case.items, LABELS, config))
    assert done is True
    assert case.loss(config) < 0.9 * before
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (number, 6) for number in range(1, 7)
    ]


def test_the_prototypes_move_and_the_encoder_does_not(case: Case):
    before, encoder = case.weights(), case.model.encoder.state_dict()
    kept = {name: values.clone() for name, values in encoder.items()}
    finish(fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING))
    after = case.weights()
    assert torch.equal(before["prototypes"], after["prototypes"])
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert set(moved) == {"centre", "directions", "scale", "bias"}
    assert all(torch.equal(values, kept[name]) for name, values in encoder.items())


@pytest.mark.parametrize("balanced", [False, True])
def test_the_centre_is_the_mean_of_the_images(case: Case, balanced: bool):
    config = COMPETING.model_copy(update={"balanced": balanced})
    finish(fit_evidence(case.model, case.dense, case.items, LABELS, config))
    of_images = torch.stack(
        [
            F.normalize(torch.from_numpy(case.dense.of(i).astype(np.float32)), dim=0).mean((1, 2))
            for i in case.items
        ]
    )
    weights = torch.tensor(balancing_weights(LABELS) if balanced else [1.0] * 6)[:, None]
    torch.testing.assert_close(case.model.centre, (weights * of_images).sum(0) / weights.sum())


def test_each_step_of_the_fit_is_told_with_its_epoch_and_loss(case: Case):
    _, events = finish(fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING))
    told = [event for event in events if isinstance(event, StepFinished)]
    assert [event.step for event in told] == list(range(1, told[0].steps + 1))
    assert [event.epoch for event in told] == [e for e in range(COMPETING.epochs) for _ in range(3)]
    assert events[-len(told) :] == told
    assert told[0].loss > told[-1].loss


def test_each_step_tells_how_many_labels_were_right(case: Case):
    longer = COMPETING.model_copy(update={"epochs": 10})
    _, events = finish(fit_evidence(case.model, case.dense, case.items, LABELS, longer))
    right = [event.accuracy for event in events if isinstance(event, StepFinished)]
    assert all(part is not None and 0 <= part <= 1 for part in right)
    first, last = right[:3], right[-3:]
    assert sum(filter(None, first)) < sum(filter(None, last))


def test_the_same_images_give_the_same_fit(case: Case, tmp_path: Path):
    finish(fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING))
    other = Case(tmp_path)
    finish(fit_evidence(other.model, other.dense, other.items, LABELS, COMPETING))
    assert same(case.weights(), other.weights())


def test_unknown_labels_say_nothing(case: Case):
    """Where nothing is known of the class of the third prototype, that one stays."""
    one_class = [(first, -1) for first, _ in LABELS]
    finish(fit_evidence(case.model, case.dense, case.items, one_class, MEANS))
    start = case.model.seen_from_centre(case.model.prototypes)
    moved = (case.model.directions - start).abs().amax(1)
    assert moved[2] == 0
    assert (moved[:2] > 0).all()
    assert case.model.bias[2] == 0


def test_a_stop_leaves_the_model_as_it_was(case: Case):
    before = case.weights()
    for event in (1, 3, 6, 7, 15):
        job = fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING)
        done, events = finish(job, stop_after(event))
        assert done is False
        assert len(events) == event
        assert same(before, case.weights())


def test_one_whose_job_is_dropped_stays_as_it_was(case: Case):
    before = case.weights()
    job = fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING)
    for _ in range(9):
        next(job)
    job.close()
    assert same(before, case.weights())


@pytest.mark.parametrize("number", [0, 6])
def test_something_must_be_known(case: Case, number: int):
    before = case.weights()
    with pytest.raises(TrainingError, match="no image with an image-level label"):
        finish(
            fit_evidence(case.model, case.dense, case.items[:number], [(-1, -1)] * number, CONFIG)
        )
    assert same(before, case.weights())


def test_an_image_that_vanishes_is_named(case: Case):
    case.items[2].path.unlink()
    with pytest.raises(ImageError, match=r"2\.png"):
        finish(fit_evidence(case.model, case.dense, case.items, LABELS, COMPETING))
