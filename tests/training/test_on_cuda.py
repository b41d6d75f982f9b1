"""What is trained and predicted on CUDA; without such a device these tests skip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish, stop_after
from PIL import Image
from tiny_training import CONFIG, CPU, FORMS, batch, inputs, matcher, network
from torch import Tensor

from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Notice, Severity
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.training.checkpoint import read_state
from napari_protoseg.training.config import Compat, Matching, TrainingConfig
from napari_protoseg.training.devices import choose_device, describe_device
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.images import TrainingImage
from napari_protoseg.training.loop import LAST, train_network
from napari_protoseg.training.step import Matcher, Step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")

CUDA = torch.device("cuda")
SIDE = 256


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave room for a few large images, not for a batch of them."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((700 << 20) / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def on_cuda(folder: Path, config: TrainingConfig, **changes: object):
    there = matcher()
    moved = Matcher(there.dense.to(CUDA), there.prototypes.to(CUDA))
    return inputs(folder, config, **{"device": CUDA, "matcher": moved} | changes)


def test_cuda_is_chosen_and_named():
    assert choose_device() == CUDA
    assert describe_device(CUDA).startswith("CUDA (")


@pytest.mark.parametrize("form", FORMS)
def test_a_step_computes_in_half_precision_and_close_to_the_processor(form: str):
    config = FORMS[form]
    found = {}
    for device in (CPU, CUDA):
        model = network(cosine=config.cosine, competing=config.competing).train().to(device)
        there = matcher()
        moved = Matcher(there.dense.to(device), there.prototypes.to(device))
        step = Step(model, moved, config, device)
        assert all(stage.dtype == torch.float32 for stage in step.maps(batch().to(device)))
        found[device.type] = step.accumulate(batch().to(device), 6, lambda loss: loss.backward())
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert found["cuda"].total != found["cpu"].total, "half precision rounds"
    assert found["cuda"].total == pytest.approx(found["cpu"].total, rel=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_a_training_that_was_stopped_goes_on(tmp_path: Path, form: str):
    config = FORMS[form]
    whole = on_cuda(tmp_path / "whole", config)
    result, _ = finish(train_network(whole, config))
    assert result.finished
    first, _ = finish(train_network(on_cuda(tmp_path / "again", config), config), stop_after(4))
    assert not first.finished
    assert (tmp_path / "again" / "round" / LAST).exists()
    given = on_cuda(tmp_path / "again", config)
    later, events = finish(train_network(given, config, resume=True))
    assert later.finished
    assert [e.step for e in events if isinstance(e, StepFinished)][-1] == 6
    theirs = whole.model.state_dict()
    for name, weights in given.model.state_dict().items():
        torch.testing.assert_close(weights, theirs[name], atol=0.02, rtol=0.1, msg=name)


def large() -> PrototypeNetwork:
    torch.manual_seed(0)
    return PrototypeNetwork(
        create_backbone("resnet18"), torch.randn(3, 8), (0, 0, 1), 2, cosine=False
    )


def gradients(micro_batch: int) -> dict[str, Tensor]:
    model = large().train().to(CUDA)
    there = matcher()
    moved = Matcher(there.dense.to(CUDA), there.prototypes.to(CUDA))
    step = Step(model, moved, CONFIG, CUDA)
    step.accumulate(batch(8, SIDE).to(CUDA), micro_batch, lambda loss: loss.backward())
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_pieces_of_a_batch_add_up_to_its_gradient():
    whole, pieces = gradients(8), gradients(2)
    learning = {name: gradient for name, gradient in whole.items() if gradient.any()}
    assert learning.keys() == {name for name, gradient in pieces.items() if gradient.any()}
    assert len(learning) > 10, "what an untrained residual network scales by 0 learns nothing"
    for name, gradient in learning.items():
        likeness = torch.cosine_similarity(gradient.flatten(), pieces[name].flatten(), dim=0)
        assert likeness > 0.98, name
        assert float(pieces[name].norm() / gradient.norm()) == pytest.approx(1, abs=0.1), name


LARGE = CONFIG.model_copy(update={"batch_size": 8, "max_side": 512, "epochs": 1})
RELEASED = LARGE.model_copy(update={"compat": Compat.REFERENCE, "matching": Matching.REENCODE})


def of_large_images(folder: Path, config: TrainingConfig):
    """A training on eight images of 512 px, on CUDA."""
    shown = [TrainingImage(folder / f"{number}.png", (1, number % 2)) for number in range(8)]
    for number, image in enumerate(shown):
        pixels = np.random.default_rng(number).integers(0, 255, (512, 512, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image.path)
    return on_cuda(folder, config, model=large(), images=shown, held_out=shown[:2])


def test_memory_that_is_short_halves_the_pieces_of_a_step(tmp_path: Path, little_memory: None):
    result, events = finish(train_network(of_large_images(tmp_path, LARGE), LARGE))
    warnings = [e.text for e in events if isinstance(e, Notice) and e.severity is Severity.WARNING]
    assert result.finished
    assert warnings
    assert all("Memory is short" in warning for warning in warnings)
    state = read_state(tmp_path / "round" / LAST)
    assert state is not None
    assert state.micro_batch < 8


def test_the_released_loss_says_that_memory_is_short(tmp_path: Path, little_memory: None):
    with pytest.raises(TrainingError, match="does not split"):
        finish(train_network(of_large_images(tmp_path, RELEASED), RELEASED))


def test_frozen_features_and_masks_are_those_of_the_processor():
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(28, axis=1).repeat(28, axis=2)
    found, masks = {}, {}
    for device in (CPU, CUDA):
        encoder = create_encoder(device=device)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(device) / 255
        found[device.type] = encoder.embed(images).cpu()
        model = network(cosine=True, competing=True)
        masks[device.type] = Predictor(model, (1, 2), Recipe(), device).predict(pixels).masks
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=1e-2, rtol=1e-2)
    assert (masks["cuda"] == masks["cpu"]).mean() > 0.98
