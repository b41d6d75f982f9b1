"""What a training will take is measured before it begins, and follows it while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from driven_jobs import finish
from tiny_backbone import TINY, tiny_weights
from tiny_project import CPU, NOW, tree

from napari_protoseg.errors import BankError, TrainingError
from napari_protoseg.events import Progress, Request
from napari_protoseg.jobs.estimate import (
    Estimate,
    estimate_training,
    spoken,
    spoken_range,
    time_left,
)
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import PRESETS, Preset, TrainingConfig
from napari_protoseg.training.events import StepFinished

QUICK = TrainRequest(preset=Preset.QUICK, config=PRESETS[Preset.QUICK])


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> TrainRequest:
    """Five epochs of a small network, four steps each."""
    weights = tiny_weights(tmp_path_factory.mktemp("weights"))
    config = TrainingConfig(backbone=TINY, epochs=5, batch_size=4, held_out=0)
    return TrainRequest(config=config, backbone_weights=weights)


@pytest.fixture
def project(banked: Path) -> Iterator[Project]:
    with Project.open(banked / "project") as project:
        yield project


def ticking(seconds: float) -> Callable[[], float]:
    """Return a clock that goes on by so much each time it is read."""
    return (seconds * number for number in count()).__next__


def step(number: int, epoch: int, steps: int = 20) -> StepFinished:
    return StepFinished(number, steps, epoch, 0.5, 0.5, 0.0, 1, 0)


def steps_at(times: list[float], per_epoch: int = 10) -> list[tuple[float, StepFinished]]:
    return [(at, step(n, (n - 1) // per_epoch)) for n, at in enumerate(times, 1)]


def test_a_network_is_timed_by_steps_and_nothing_is_kept(project: Project, request_: TrainRequest):
    before = tree(project.folder)
    job = estimate_training(project, request_, device=CPU, clock=ticking(0.5))
    estimate, events = finish(job)
    assert isinstance(estimate, Estimate)
    assert (estimate.images, estimate.steps) == (16, 20)
    low, high = estimate.seconds
    assert low == pytest.approx(21 * 0.5), "half a second to begin with, and to each step"
    assert high > low
    assert {type(event) for event in events} == {Progress}, "no curve takes these for training"
    assert tree(project.folder) == before
    assert project.latest_round() is None


def test_held_out_images_cost_as_well(project: Project, request_: TrainRequest):
    config = request_.config.model_copy(update={"held_out": 0.5})
    request = request_.model_copy(update={"config": config})
    estimate, _ = finish(estimate_training(project, request, device=CPU, clock=ticking(0.5)))
    assert estimate is not None
    assert estimate.images == 8
    assert estimate.steps == 10
    assert estimate.seconds[0] > 11 * 0.5


def test_steps_that_are_very_slow_are_not_waited_for(project: Project, request_: TrainRequest):
    _, events = finish(estimate_training(project, request_, device=CPU, clock=ticking(60)))
    quick_ones = finish(estimate_training(project, request_, device=CPU, clock=ticking(0.01)))[1]
    assert len(events) < len(quick_ones)


def test_the_quick_preset_takes_less_once_its_features_are_cached(project: Project):
    shutil.rmtree(project.cache)
    estimate, events = finish(estimate_training(project, QUICK, device=CPU, clock=ticking(0.5)))
    assert estimate is not None
    assert {type(event) for event in events} == {Progress}, "no curve takes these for training"
    assert (estimate.images, estimate.steps) == (16, 0)
    finish(train_project(project, QUICK, device=CPU, now=lambda: NOW))
    again = finish(estimate_training(project, QUICK, device=CPU, clock=ticking(0.5)))[0]
    assert again is not None
    assert again.seconds < estimate.seconds


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.STANDARD])
@pytest.mark.parametrize("event", [1, 2, 3])
def test_it_stops_when_it_is_asked_to(
    project: Project, request_: TrainRequest, preset: Preset, event: int
):
    request = QUICK if preset is Preset.QUICK else request_
    seen = count(1)
    estimate, events = finish(
        estimate_training(project, request, device=CPU),
        lambda _: Request.STOP if next(seen) == event else None,
    )
    assert estimate is None
    assert len(events) == event


def test_what_could_not_be_trained_is_refused(made: Path):
    with Project.open(made / "project") as project, pytest.raises(BankError):
        finish(estimate_training(project, QUICK, device=CPU))


def test_a_preset_that_lacks_something_says_what(project: Project):
    request = TrainRequest(preset=Preset.PAPER, config=PRESETS[Preset.PAPER])
    with pytest.raises(TrainingError, match="ImageNet weights of the backbone") as refused:
        finish(estimate_training(project, request, device=CPU))
    assert "--encoder-weights FILE" in (refused.value.on_terminal or "")


def test_before_the_second_step_nothing_is_known():
    assert time_left([]) is None
    assert time_left(steps_at([3.0])) is None
    assert time_left(steps_at([3.0, 5.0])) == pytest.approx(18 * 2.0)


def test_a_pause_hardly_counts():
    steady = [2.0 * number for number in range(8)]
    paused = [*steady[:5], *(at + 3600 for at in steady[5:])]
    assert time_left(steps_at(paused)) == time_left(steps_at(steady)) == pytest.approx(12 * 2.0)


def test_the_end_of_an_epoch_counts_as_often_as_it_will_come():
    first = [float(n) for n in range(5)]
    second = [first[-1] + 31 + n for n in range(3)]
    left = time_left(steps_at(first + second, per_epoch=5))
    assert left == pytest.approx(12 * 1.0 + 3 * 30.0)


def test_a_resumed_training_counts_what_it_still_has_to_do():
    resumed = [(float(at), step(number, 1)) for at, number in enumerate(range(15, 18))]
    assert time_left(resumed) == pytest.approx(3.0)
    assert time_left([(9.0, step(19, 1)), (11.0, step(20, 1))]) == 0


def test_one_step_an_epoch():
    assert time_left(steps_at([0.0, 4.0, 8.0], per_epoch=1)) == pytest.approx(17 * 4.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 second"),
        (4, "about 4 seconds"),
        (33, "about 30 seconds"),
        (58, "about 1 minute"),
        (235, "about 4 minutes"),
        (25 * 60 + 70, "about 25 minutes"),
        (3 * 3600 + 500, "about 3 hours"),
        (80 * 3600, "about 3 days"),
    ],
)
def test_a_time_is_spoken_in_round_numbers(seconds: float, words: str):
    assert spoken(seconds) == words


def test_a_range_of_times_is_spoken_without_saying_the_unit_twice():
    assert spoken_range(118, 235) == "about 2 to 4 minutes"
    assert spoken_range(230, 245) == "about 4 minutes"
    assert spoken_range(40, 70) == "about 40 seconds to 1 minute"


def test_an_estimate_is_said_in_a_few_words():
    estimate = Estimate((118.0, 235.0), images=120, steps=40, peak_bytes=3 * 2**29)
    assert estimate.words == "about 2 to 4 minutes: 120 images, 40 steps, 1.5 GiB of GPU memory"
    quick = Estimate((4.0, 4.2), images=120, steps=0, peak_bytes=None)
    assert quick.words == "about 4 seconds: 120 images"
