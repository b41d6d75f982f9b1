"""The second stage in a project: what it learns from, how it is stopped, and what it needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import draw
from driven_jobs import finish
from tiny_project import CPU, NOW

from napari_protoseg.errors import ProjectError, TrainingError
from napari_protoseg.events import Event, Progress, Request
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.predict import predict_images
from napari_protoseg.jobs.segment import SegmentRequest, resume_segmentation, segment_project
from napari_protoseg.jobs.train import TrainedRound
from napari_protoseg.labels.records import is_labelled
from napari_protoseg.masks.recipe import SEGMENTATION, Recipe
from napari_protoseg.network.record import ModelKind
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus, Split, Stage
from napari_protoseg.training.config import SECOND_STAGE
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.pixels import PixelConfig
from napari_protoseg.training.pseudo_masks import CERTAIN, NO_CLASS, PseudoMasks

REQUEST = SegmentRequest(
    config=SECOND_STAGE.model_copy(update={"epochs": 2, "batch_size": 8}),
    pixels=PixelConfig(decoder=Decoder.SEGFORMER),
)
Answer = Callable[[Event], Request | None]


def segment(
    workspace: Path, answer: Answer = lambda event: None, request: SegmentRequest = REQUEST
) -> TrainedRound | None:
    with Project.open(workspace / "project") as project:
        job = segment_project(project, request, Recipe(), device=CPU, now=lambda: NOW)
        return finish(job, answer)[0]


@pytest.fixture(scope="module")
def segmented_workspace(trained_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("segmented") / "workspace"
    shutil.copytree(trained_workspace, workspace)
    segment(workspace)
    return workspace


@pytest.fixture
def segmented(segmented_workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(segmented_workspace, tmp_path / "segmented"))


def test_its_round_stands_beside_those_of_the_first_stage(segmented: Path):
    with Project.open(segmented / "project") as project:
        first, second = trained_model(project), trained_model(project, Stage.SEGMENTATION)
        assert (first.record.kind, second.record.kind) == (
            ModelKind.EVIDENCE,
            ModelKind.SEGMENTATION,
        )
        assert first.round.id < second.round.id
        assert first.newer is None, "a round of the other stage is no newer state of this one"
        assert second.round.status is RoundStatus.FINISHED
        assert second.record.classes == project.schema


def test_masks_come_of_it_without_any_label(segmented: Path, tmp_path: Path):
    images = tmp_path / "unnamed"
    images.mkdir()
    for number, path in enumerate(sorted((segmented / "validation" / "images").iterdir())):
        shutil.copy(path, images / f"{number}.png")
    with Project.open(segmented / "project") as project:
        job = predict_images(
            project,
            images,
            tmp_path / "masks",
            SEGMENTATION,
            stage=Stage.SEGMENTATION,
            label_file=None,
            device=CPU,
            now=NOW,
        )
        written, _ = finish(job)
    assert written is not None
    assert written.images == 4


def test_what_a_person_set_is_certain_and_what_was_erased_is_of_no_class(trained: Path):
    with Project.open(trained / "project") as project:
        image = next(i for i in project.images(Split.TRAIN) if sum(i.label) == 1)
        absent = project.schema.ids[image.label.index(0)]
        mask = np.full((image.height, image.width), project.schema.ids[image.label.index(1)])
        mask = mask.astype(np.uint8)
        mask[:8], mask[8:16], mask[16:] = absent, 1, 0
        draw(project, image.known_id, mask, now=NOW)
        erased = mask.copy()
        erased[8:16] = 0
        draw(project, image.known_id, erased, now=NOW)
        ended = segment(trained)
        assert ended is not None
        found = PseudoMasks(ended.round.folder / "pseudo-masks").of(image.known_id)
        assert (found.weights[:8] == CERTAIN).all()
        assert (found.positions[:8] == project.schema.ids.index(absent)).all()
        assert (found.positions[8:16] == NO_CLASS).all()
        assert (found.weights[8:16] == 0).all()
        # Of the rest the model says that it is of the one class that the label leaves.
        assert (found.positions[16:] == image.label.index(1)).all()
        assert (found.weights[16:] > 0).all()


def test_classes_that_a_label_excludes_are_in_no_pseudo_mask(segmented: Path):
    with Project.open(segmented / "project") as project:
        newest = project.latest_round(stage=Stage.SEGMENTATION)
        assert newest is not None
        masks = PseudoMasks(newest.folder / "pseudo-masks")
        images = [i for i in project.images(Split.TRAIN) if is_labelled(i.label)]
        assert images
        for image in images:
            found = set(np.unique(masks.of(image.known_id).positions).tolist()) - {NO_CLASS}
            assert found <= {n for n, presence in enumerate(image.label) if presence}


def test_stopped_before_its_first_step_it_leaves_nothing(trained: Path):
    def stop(event: Event) -> Request | None:
        return Request.STOP if isinstance(event, Progress) else None

    assert segment(trained, stop) is None
    with Project.open(trained / "project") as project:
        assert project.latest_round(stage=Stage.SEGMENTATION) is None
        assert not list(project.cache.glob(".pseudo*"))


def test_stopped_it_goes_on_to_the_same_network(trained: Path, segmented: Path):
    def stop(event: Event) -> Request | None:
        return Request.STOP if isinstance(event, StepFinished) and event.step == 3 else None

    stopped = segment(trained, stop)
    assert stopped is not None
    assert not stopped.finished
    with Project.open(trained / "project") as project:
        resumed, events = finish(resume_segmentation(project, device=CPU, now=lambda: NOW))
        assert resumed.finished
        assert sum(isinstance(event, EpochFinished) for event in events) == 1, "one was done"
        ours = trained_model(project, Stage.SEGMENTATION).model.state_dict()
        with pytest.raises(TrainingError, match="no unfinished training"):
            finish(resume_segmentation(project, device=CPU, now=lambda: NOW))
    with Project.open(segmented / "project") as project:
        theirs = trained_model(project, Stage.SEGMENTATION).model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_before_the_first_stage_is_trained_it_says_what_it_needs(banked: Path):
    with pytest.raises(ProjectError, match=r"no trained model yet\. Train one"):
        segment(banked)
    with (
        Project.open(banked / "project") as project,
        pytest.raises(ProjectError, match="segmentation without labels"),
    ):
        trained_model(project, Stage.SEGMENTATION)
