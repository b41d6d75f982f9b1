"""Training on pseudo-masks: whom it believes, what it ignores, and that it can be taken up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish, stop_after
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.errors import CheckpointError
from napari_protoseg.images.reading import read_image
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.network.segmentation import Decoder, SegmentationNetwork
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.images import Batch, TrainingImage, plain_batches
from napari_protoseg.training.loop import TrainingInputs, train_network
from napari_protoseg.training.pixels import (
    PixelConfig,
    PixelLoss,
    PixelObjective,
    PixelTargets,
    pixel_losses,
)
from napari_protoseg.training.pseudo_masks import (
    CERTAIN,
    NO_CLASS,
    PseudoMask,
    PseudoMasks,
    PseudoMaskWriter,
    believed,
)

CPU = torch.device("cpu")
SIDE = 64
RECORD = ModelRecord(
    kind=ModelKind.SEGMENTATION,
    classes=ClassSchema.from_names(["tumour", "stroma"]),
    class_positions=(0, 1),
    backbone="test_efficientnet",
    decoder=Decoder.SEGFORMER,
)
CONFIG = TrainingConfig(
    backbone="test_efficientnet", epochs=2, batch_size=2, head_rate=3e-3, held_out=0
)
BOTH = (-1, -1)
LEFT = np.arange(SIDE) < SIDE // 2


def network(decoder: Decoder = Decoder.SEGFORMER) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(create_backbone("test_efficientnet"), decoder, 2)


def halves(number: int) -> NDArray[np.uint8]:
    """Return noise that is red on the left and blue on the right."""
    pixels = np.random.default_rng(number).integers(0, 60, (SIDE, SIDE, 3))
    pixels[:, LEFT, 0] += 150
    pixels[:, ~LEFT, 2] += 150
    return pixels.astype(np.uint8)


def all_first(confidence: float) -> PseudoMask:
    """Return what a model says that takes everything for the first class."""
    positions = np.zeros((SIDE, SIDE), np.uint8)
    return believed(positions, np.full((SIDE, SIDE), confidence, np.float32), 2)


def right_side_set(mask: PseudoMask, share: float) -> PseudoMask:
    """Let a person set the upper share of the right side to the second class."""
    is_set = (np.arange(SIDE) < share * SIDE)[:, None] & ~LEFT
    return PseudoMask(
        np.where(is_set, np.uint8(1), mask.positions),
        np.where(is_set, np.uint8(CERTAIN), mask.weights),
    )


def inputs(
    folder: Path, masks: list[PseudoMask], pixels: PixelConfig, label: tuple[int, ...] = BOTH
) -> TrainingInputs:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    of_path = {}
    for number, mask in enumerate(masks):
        path = folder / "images" / f"{number}.png"
        Image.fromarray(halves(number)).save(path)
        of_path[path] = mask
    images = [TrainingImage(path, label) for path in of_path]
    return TrainingInputs(
        model=network(),
        record=RECORD,
        matcher=None,
        images=images,
        held_out=images[:2],
        read=lambda path: of_path[path].laid_on(read_image(path)),
        device=CPU,
        folder=folder / "round",
        objective=lambda model: PixelObjective(model, pixels, CPU),
    )


def predicted(model: SegmentationNetwork) -> NDArray[np.int64]:
    """Return the positions that a network gives an image that it was not trained on."""
    images = torch.from_numpy(halves(99)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        (logits,) = model.eval()(images)
    return logits.argmax(1)[0].repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()


def shares(model: SegmentationNetwork) -> tuple[float, float]:
    """Return how much of either side is taken for the second class."""
    second = predicted(model) == 1
    return float(second[:, LEFT].mean()), float(second[:, ~LEFT].mean())


@pytest.mark.parametrize(
    "loss", [PixelLoss.SHARED, pytest.param(PixelLoss.SYMMETRIC, marks=pytest.mark.slow)]
)
def test_pixels_that_a_person_set_win_over_a_model_that_is_wrong_about_many_more(
    tmp_path: Path, loss: PixelLoss
):
    config = CONFIG.model_copy(update={"epochs": 16})
    wrong = [all_first(0.5)] * 8
    corrected = [right_side_set(mask, 0.5) for mask in wrong[:4]] + wrong[4:]
    outcomes = []
    for name, masks in (("wrong", wrong), ("corrected", corrected)):
        given = inputs(tmp_path / name, masks, PixelConfig(loss=loss))
        finish(train_network(given, config))
        outcomes.append(shares(given.model))
    (left_before, right_before), (left, right) = outcomes
    assert (left_before, right_before) == (0, 0), "nobody spoke against the model"
    # A quarter of what looks like the right side was set; of the rest the model says the contrary.
    assert right > 0.8
    assert left < 0.1


def test_the_least_confident_pixels_of_each_class_are_ignored(tmp_path: Path):
    positions = np.repeat(np.array([[0, 1]], np.uint8), 100, 0)
    confidence = np.stack([np.linspace(0.01, 0.5, 100), np.linspace(0.5, 0.98, 100)], 1)
    writer = PseudoMaskWriter(tmp_path, 2)
    writer.add(7, believed(positions, confidence.astype(np.float32), 2))
    writer.finish(0.2)
    mask = PseudoMasks(tmp_path).of(7)
    for position in (0, 1):
        assert (mask.weights[:, position] == 0).sum() == pytest.approx(20, abs=2)
        assert (mask.weights[:18, position] == 0).all()


def test_what_label_or_person_decides_is_never_ignored(tmp_path: Path):
    writer = PseudoMaskWriter(tmp_path, 2)
    sure = right_side_set(all_first(1.0), 1.0)
    doubted = all_first(0.3)
    writer.add(1, sure)
    writer.add(2, doubted)
    writer.finish(0.9)
    kept = PseudoMasks(tmp_path).of(1)
    assert np.array_equal(kept.weights, sure.weights)
    assert np.array_equal(kept.positions, sure.positions)


def test_ignored_and_unlabelled_pixels_change_no_gradient(tmp_path: Path):
    model = network()
    objective = PixelObjective(model, PixelConfig(absence_weight=0), CPU)
    image = halves(0)
    ignored = all_first(0.8)
    ignored.weights[:, ~LEFT] = 0
    nothing = PseudoMask(ignored.positions.copy(), ignored.weights)
    nothing.positions[:, ~LEFT] = NO_CLASS
    other = PseudoMask(ignored.positions.copy(), ignored.weights)
    other.positions[:, ~LEFT] = 1
    gradients = []
    for mask in (ignored, nothing, other):
        model.zero_grad()
        objective.accumulate(batch_of(image, mask), 1, lambda loss: loss.backward())
        gradients.append(model.classifier.weight.grad.clone())
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients[1:])
    assert gradients[0].abs().sum() > 0


def batch_of(image: NDArray[np.uint8], mask: PseudoMask, label: tuple[int, ...] = BOTH) -> Batch:
    (batch,) = plain_batches(
        [TrainingImage(Path("any"), label)],
        lambda path: mask.laid_on(image),
        batch_size=1,
        max_side=SIDE,
    )
    return batch


def test_a_label_excludes_a_class_even_where_the_model_is_ignored():
    model = network()
    mask = all_first(0.5)
    mask.weights[:] = 0
    objective = PixelObjective(model, PixelConfig(), CPU)
    with torch.no_grad():
        model.classifier.bias[:] = torch.tensor([0.0, 5.0])
    losses = {}
    for label in ((1, 0), (-1, -1), (1, 1)):
        labels = torch.tensor([label])
        with torch.no_grad():
            sums = objective.look(batch_of(halves(0), mask, label), labels)
        losses[label] = objective.measured(sums, labels).loss
    assert losses[1, 0] > 1
    assert losses[-1, -1] == losses[1, 1] == pytest.approx(0, abs=1e-6)


def test_a_batch_in_pieces_gives_the_gradient_of_the_whole():
    model = network(Decoder.DEEPLABV3PLUS).train()
    objective = PixelObjective(model, PixelConfig(), CPU)
    masks = [all_first(0.2), right_side_set(all_first(0.9), 0.5), all_first(0.6)]
    parts = [batch_of(halves(n), mask, (1, 0)) for n, mask in enumerate(masks)]
    whole = Batch(
        *(torch.cat([getattr(part, name) for part in parts]) for name in Batch.__annotations__)
    )
    found = []
    for size in (3, 1):
        model.zero_grad()
        losses = objective.accumulate(whole, size, lambda loss: loss.backward())
        found.append((losses.total, model.classifier.weight.grad.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)


def pull(loss: PixelLoss, logits: list[float], confidence: float, labels: list[int]):
    """Return the gradient of the logits of a pixel that is said to be of the first class."""
    each = torch.tensor(logits, requires_grad=True)
    log_probabilities = each.log_softmax(0)[None, :, None, None]
    weight = round(confidence * 253) + 1
    layers = torch.tensor([0.0, 0.0, 0.0, 0.0, weight / 255])[None, :, None, None]
    batch = Batch(layers, torch.tensor([labels]), torch.ones(1))
    targets = PixelTargets.of(batch)
    pixel_losses(log_probabilities, targets, batch.labels, loss).sum().backward()
    assert each.grad is not None
    return each.grad


def test_a_robust_loss_is_pulled_less_by_pixels_that_the_network_disagrees_with():
    pulls = {loss: abs(float(pull(loss, [-3.0, 0.0], 1, [1, 1])[0])) for loss in PixelLoss}
    assert pulls[PixelLoss.GENERALISED] < 0.3 * pulls[PixelLoss.CROSS_ENTROPY]
    assert pulls[PixelLoss.SYMMETRIC] < 0.5 * pulls[PixelLoss.CROSS_ENTROPY]


def test_what_confidence_lacks_is_shared_by_the_other_classes_that_the_label_allows():
    logits, allowed = [0.3, -0.2, 1.0, 0.5], [1, 1, 1, 0]
    share = (1 + (round(0.7 * 253) + 1) / 254) / 2
    probabilities = torch.tensor(logits).softmax(0)
    others = probabilities * torch.tensor([0.0, 1.0, 1.0, 0.0])
    wanted = share * torch.tensor([1.0, 0.0, 0.0, 0.0]) + (1 - share) * others / others.sum()
    found = pull(PixelLoss.SHARED, logits, 0.7, allowed)
    assert torch.allclose(found, probabilities - wanted, atol=1e-6)


def test_where_classes_are_alike_none_of_them_is_spoken_for():
    for logits in ([2.0, 0.0], [0.0, 2.0]):
        found = pull(PixelLoss.SHARED, logits, 0, [1, 1])
        assert torch.allclose(found, torch.tensor(logits).softmax(0) - 0.5, atol=3e-3)


def test_the_only_class_that_the_label_allows_takes_all_of_it():
    logits = [0.3, -0.2, 1.0]
    found = pull(PixelLoss.SHARED, logits, 0.4, [1, 0, 0])
    expected = torch.tensor(logits).softmax(0) - torch.tensor([1.0, 0.0, 0.0])
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("event", [1, 3, 6])
def test_it_is_stopped_at_any_event_and_resumes_to_the_same_weights(tmp_path: Path, event: int):
    masks = [right_side_set(all_first(0.7), n / 4) for n in range(4)]
    whole = inputs(tmp_path / "whole", masks, PixelConfig())
    finish(train_network(whole, CONFIG))
    stopped = inputs(tmp_path / "stopped", masks, PixelConfig())
    _, events = finish(train_network(stopped, CONFIG), stop_after(event))
    assert len(events) == event
    again = inputs(tmp_path / "stopped", masks, PixelConfig())
    result, _ = finish(train_network(again, CONFIG, resume=True))
    assert result.finished
    expected = whole.model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in again.model.state_dict().items())
    assert all(epoch.held_out_loss is not None for epoch in result.history)


def test_damaged_pseudo_masks_are_refused(tmp_path: Path):
    writer = PseudoMaskWriter(tmp_path, 2)
    writer.add(1, all_first(0.5))
    writer.finish(0.0)
    masks = PseudoMasks(tmp_path)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="damaged"):
        masks.of(1)
