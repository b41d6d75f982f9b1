"""Where memory is short a step is taken in pieces, and stays the same step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from driven_jobs import finish, stop_after
from tiny_training import CONFIG, CPU, FORMS, batch, inputs, matcher, network, same, trained
from torch import Tensor

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Notice, Severity
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import Compat, Matching, TrainingConfig
from napari_protoseg.training.loop import LAST, train_network
from napari_protoseg.training.step import Step, StepLosses

REFERENCE = CONFIG.model_copy(
    update={"compat": Compat.REFERENCE, "matching": Matching.REENCODE, "batch_size": 4}
)
FOURS = [form.model_copy(update={"batch_size": 4}) for form in FORMS.values()]
FOUR = FOURS[0]


class Cramped(PrototypeNetwork):
    """A network in a memory for `room` images."""

    room = 2

    def mean_directions(self, images: Tensor) -> tuple[Tensor, ...]:
        self.require_room(images)
        return super().mean_directions(images)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.require_room(images)
        return super().forward(images)

    def require_room(self, images: Tensor) -> None:
        if len(images) > self.room:
            raise torch.OutOfMemoryError(f"no memory for {len(images)} images")


class Tiny(Cramped):
    room = 0


def accumulated(config: TrainingConfig, micro_batch: int) -> tuple[dict[str, Tensor], StepLosses]:
    """Gradients of a batch, which goes through the network in pieces, and its losses."""
    model = network(cosine=config.cosine, competing=config.competing).train()
    step = Step(model, matcher(), config, CPU)
    weighty = replace(batch(), weights=torch.tensor([0.5, 2.0, 1.0, 1.0, 0.3, 1.2]))
    losses = step.accumulate(weighty, micro_batch, lambda loss: loss.backward())
    return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
@pytest.mark.parametrize(
    "change",
    [
        {"matching": Matching.DENSE},
        {"matching": Matching.REENCODE},
        {"matching": Matching.NONE},
        {"matching": Matching.DENSE, "present_weight": 0.0},
        {"matching": Matching.DENSE, "max_pairs": 3},
        {"matching": Matching.REENCODE, "max_pairs": 2, "sparsity_weight": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_pieces_add_up_to_that_of_the_batch(
    form: str, micro_batch: int, change: dict[str, object]
):
    config = FORMS[form].model_copy(update={"matching_weight": 1.0, **change})
    whole, losses = accumulated(config, 6)
    pieces, in_pieces = accumulated(config, micro_batch)
    assert whole.keys() == pieces.keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            pieces[name], gradient, atol=1e-4 * scale + 1e-9, rtol=0, msg=name
        )
    assert (in_pieces.pairs, in_pieces.skipped) == (losses.pairs, losses.skipped)
    for part in ("total", "classification", "matching"):
        assert getattr(in_pieces, part) == pytest.approx(getattr(losses, part), rel=1e-5)


@pytest.mark.parametrize("four", FOURS, ids=FORMS)
def test_a_training_short_of_memory_says_so_and_gives_the_same_weights(
    tmp_path: Path, four: TrainingConfig
):
    given = inputs(tmp_path / "cramped", four, kind=Cramped)
    result, events = finish(train_network(given, four))
    warnings = [e for e in events if isinstance(e, Notice) and e.severity is Severity.WARNING]
    assert len(warnings) == 1
    assert "2 images at once" in warnings[0].text
    assert result.finished
    plenty = trained(tmp_path / "plenty", four)
    # Adam divides by the gradient's size, so that rounding shows where it is all there is.
    for name, weights in given.model.state_dict().items():
        torch.testing.assert_close(weights, plenty[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("four", FOURS, ids=FORMS)
def test_short_memory_is_remembered_by_the_checkpoint(tmp_path: Path, four: TrainingConfig):
    whole = inputs(tmp_path / "whole", four, kind=Cramped)
    finish(train_network(whole, four))

    # Where it says, where it stands: notice, warning, step, or in its place the centre.
    for event in (2, 3, 4):
        folder = tmp_path / str(event)
        first, events = finish(
            train_network(inputs(folder, four, kind=Cramped), four), stop_after(event)
        )
        assert len(events) == event
        assert not first.finished
        state = Checkpoint(folder / "round" / LAST).state
        assert state is not None
        assert state.micro_batch == 2
        given = inputs(folder, four, kind=Cramped)
        _, later = finish(train_network(given, four, resume=True))
        assert sum(isinstance(e, Notice) for e in later) == 1, "it need not find out again"
        assert same(given.model.state_dict(), whole.model.state_dict())


def test_the_released_loss_does_not_split(tmp_path: Path):
    given = inputs(tmp_path, model=network(Cramped))
    with pytest.raises(TrainingError, match="does not split") as caught:
        finish(train_network(given, REFERENCE))
    assert "batch size" in caught.value.remedy
    assert not Step(network(), matcher(), REFERENCE, CPU).divisible
    assert Step(network(), None, REFERENCE, CPU).divisible, "classification alone does"
    without = REFERENCE.model_copy(update={"matching": Matching.NONE})
    assert Step(network(), matcher(), without, CPU).divisible


@pytest.mark.parametrize("four", FOURS, ids=FORMS)
def test_too_little_memory_for_one_image_ends_the_training(tmp_path: Path, four: TrainingConfig):
    job = train_network(inputs(tmp_path, four, kind=Tiny), four)
    with pytest.raises(TrainingError, match="single image"):
        finish(job)


def test_an_odd_batch_is_halved_upwards(tmp_path: Path):
    class Three(Cramped):
        room = 3

    config = CONFIG.model_copy(update={"batch_size": 5})
    _, events = finish(train_network(inputs(tmp_path, model=network(Three)), config))
    texts = [event.text for event in events if isinstance(event, Notice)]
    assert any("3 images at once" in text for text in texts)


@pytest.mark.parametrize("config", [CONFIG, REFERENCE], ids=["splits", "does not split"])
def test_memory_that_is_short_for_held_out_images_alone_halves_them(
    tmp_path: Path, config: TrainingConfig
):
    class InTraining(PrototypeNetwork):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            if len(images) > 1 and not self.training:
                raise torch.OutOfMemoryError("no memory")
            return super().forward(images)

    given = inputs(tmp_path / "short", kind=InTraining)
    result, events = finish(train_network(given, config))
    assert any(isinstance(e, Notice) and "1 image at once" in e.text for e in events)
    enough = inputs(tmp_path / "plenty")
    plenty, _ = finish(train_network(enough, config))
    ours, theirs = result.history[0], plenty.history[0]
    assert ours.held_out_loss == pytest.approx(theirs.held_out_loss, rel=1e-4)
    assert ours.held_out_accuracy == theirs.held_out_accuracy
    if config is REFERENCE:
        assert same(given.model.state_dict(), enough.model.state_dict()), "steps are left whole"
