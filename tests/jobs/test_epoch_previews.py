"""The class maps of the open image, after each epoch of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish
from safetensors.torch import load_file
from tiny_project import CPU, NOW, SIZE

from napari_protoseg.events import Event, Notice, Request, Severity
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.previews import ChooseImage, EpochPreview
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.jobs.train import TrainedRound, resume_training, train_project
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Normalisation, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.training.loop import LAST


@pytest.fixture
def project(banked: Path) -> Iterator[Project]:
    with Project.open(banked / "project") as project:
        yield project


def train(
    project: Project, request: TrainRequest, preview: ChooseImage | None
) -> tuple[TrainedRound, list[Event]]:
    job = train_project(project, request, device=CPU, now=lambda: NOW, preview=preview)
    ended, events = finish(job)
    assert ended is not None
    return ended, events


def previews(events: list[Event]) -> list[EpochPreview]:
    return [event for event in events if isinstance(event, EpochPreview)]


def test_each_epoch_shows_the_image_that_is_open_by_then(project: Project, request_: TrainRequest):
    one_class, two_classes = project.images()[0], project.images()[3]
    open_images = iter([one_class, two_classes])
    _, events = train(project, request_, lambda: next(open_images))
    seen = previews(events)
    assert [(s.epoch, s.image_id) for s in seen] == [(0, one_class.id), (1, two_classes.id)]
    for preview, image in zip(seen, (one_class, two_classes), strict=True):
        maps = preview.class_maps
        assert (maps.shape, maps.dtype) == ((4, SIZE, SIZE), np.float32)
        assert maps.min() >= 0
        assert maps.max() <= 1
        present = [position for position, label in enumerate(image.label) if label == 1]
        assert np.flatnonzero(maps.any((1, 2))).tolist() == present, "classes of its given label"
    ends = [k for k, event in enumerate(events) if isinstance(event, EpochFinished)]
    assert [isinstance(events[k + 1], EpochPreview) for k in ends] == [True, True]


def test_the_last_one_is_what_the_kept_network_says(project: Project, request_: TrainRequest):
    image = project.images()[3]
    # With nothing held out, the last epoch is the one that is kept.
    config = request_.config.model_copy(update={"held_out": 0.0})
    request = request_.model_copy(update={"config": config})
    ended, events = train(project, request, lambda: image)
    assert [event.best for event in events if isinstance(event, EpochFinished)] == [True, True]
    trained = trained_model(project)
    assert trained.path == ended.checkpoint
    predictor = Predictor(trained.model, trained.record.classes.ids, Recipe(), CPU)
    pixels, labels = read_recorded(image)[None], np.array([image.label], dtype=np.int8)
    expected = predictor.predict(pixels, labels).class_maps[0]
    np.testing.assert_allclose(previews(events)[-1].class_maps, expected, atol=1e-5)


def test_it_follows_the_recipe_and_the_muted_prototypes_of_the_project(
    project: Project, request_: TrainRequest
):
    image = project.images()[3]
    first, second = (k for k, label in enumerate(image.label) if label == 1)
    recipe = Recipe(normalisation=Normalisation.SIGMOID, labels=LabelCondition.NONE)

    def choose() -> ImageRecord:
        return image

    def mute_and_change(event: Event) -> None:
        if isinstance(event, EpochPreview) and event.epoch == 0:  # a person does, meanwhile
            project.set_muted_prototypes(1, {first})
            project.set_recipe_json(recipe.model_dump_json())

    job = train_project(project, request_, device=CPU, now=lambda: NOW, preview=choose)
    _, events = finish(job, mute_and_change)
    before, after = (preview.class_maps for preview in previews(events))
    assert np.flatnonzero(before.any((1, 2))).tolist() == [first, second]
    assert np.flatnonzero(after.any((1, 2))).tolist() == [k for k in range(4) if k != first]


def test_training_is_the_same_to_the_last_bit_with_and_without(
    project: Project, request_: TrainRequest
):
    plain, _ = train(project, request_, None)
    image = project.images()[0]
    watched, events = train(project, request_, lambda: image)
    assert len(previews(events)) == 2
    first, second = (load_file(ended.round.folder / LAST) for ended in (plain, watched))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_an_open_image_nothing_is_said(project: Project, request_: TrainRequest):
    _, events = train(project, request_, lambda: None)
    assert previews(events) == []
    outside = replace(project.images()[0], id=None)
    _, events = train(project, request_, lambda: outside)
    assert previews(events) == [], "an image that is not of the project"


def test_an_image_that_vanished_is_a_warning_and_training_goes_on(
    project: Project, request_: TrainRequest, tmp_path: Path
):
    missing = replace(project.images()[0], path=tmp_path / "gone.png")
    ended, events = train(project, request_, lambda: missing)
    assert ended.finished
    assert previews(events) == []
    warnings = [e for e in events if isinstance(e, Notice) and "gone.png" in e.text]
    assert [warning.severity for warning in warnings] == [Severity.WARNING] * 2
    assert warnings[0].text.startswith("Training goes on without maps of the open image.")


def test_a_resumed_training_shows_it_as_well(project: Project, request_: TrainRequest):
    image = project.images()[0]
    job = train_project(project, request_, device=CPU, now=lambda: NOW, preview=lambda: image)
    _, events = finish(job, lambda e: Request.STOP if isinstance(e, EpochPreview) else None)
    assert isinstance(events[-1], EpochPreview), "it stops at once"
    job = resume_training(project, device=CPU, now=lambda: NOW, preview=lambda: image)
    ended, events = finish(job)
    assert ended is not None
    assert ended.finished
    assert [preview.epoch for preview in previews(events)] == [1]
