"""The job of the second stage: a segmentation network, taught by the masks of the first.

It then says of each pixel what it is of, and needs no image-level label.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from napari_protoseg.encoders.passes import ReadImage
from napari_protoseg.encoders.registry import licence_of
from napari_protoseg.encoders.weights import Weights, read_weights
from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Job, Notice, Severity
from napari_protoseg.jobs.made_of import MadeOf, learned_images
from napari_protoseg.jobs.models import TrainedModel, trained_model
from napari_protoseg.jobs.muted import with_muted_of_bank
from napari_protoseg.jobs.pseudo_masks import images_to_learn_from, write_pseudo_masks
from napari_protoseg.jobs.records import reader_of, training_images
from napari_protoseg.jobs.split import hold_out_cases
from napari_protoseg.jobs.train import TrainedRound, recorded
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.backbones import DEFAULT_BACKBONE, Backbone, pretrained_weights
from napari_protoseg.network.build import create_model
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Round, RoundStatus, Split, Stage
from napari_protoseg.storage import storage_errors
from napari_protoseg.training.config import SECOND_STAGE, TrainingConfig
from napari_protoseg.training.loop import LAST, TrainingInputs, TrainingResult, train_network
from napari_protoseg.training.pixels import PixelConfig, PixelObjective
from napari_protoseg.training.pseudo_masks import PseudoMasks

_PSEUDO_MASKS = "pseudo-masks"


class Start(StrEnum):
    """Which weights the backbone starts from."""

    FIRST_STAGE = "first-stage"
    """Those that the first stage has trained, where it has trained a network."""
    IMAGENET = "imagenet"


class SegmentRequest(BaseModel):
    """What is asked of the job; a round keeps it, and resuming takes it up again.

    Parameters
    ----------
    config
        How the network is trained; of its losses those of `pixels` count. Its backbone is that of
        the first stage, where that is a network. Each field that a mapping lacks is that of
        `SECOND_STAGE`.
    pixels
        What is learned of the pseudo-masks.
    start
        Which weights the backbone starts from.
    backbone_weights
        Weights file of the backbone, for `Start.IMAGENET`; those of the default one come with the
        installation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrainingConfig = SECOND_STAGE
    pixels: PixelConfig = PixelConfig()
    start: Start = Start.FIRST_STAGE
    backbone_weights: Path | None = None

    @field_validator("config", mode="before")
    @classmethod
    def _of_the_second_stage(cls, given: Any) -> Any:
        return {**SECOND_STAGE.model_dump(), **given} if isinstance(given, dict) else given


@dataclass(frozen=True)
class _Prepared:
    """Everything a round works with: see `SegmentRequest` and `TrainingInputs`."""

    request: SegmentRequest
    teacher: TrainedModel
    training: list[ImageRecord]
    held_out: list[ImageRecord]
    weights: Weights | None
    device: torch.device

    @property
    def images(self) -> list[ImageRecord]:
        return [*self.training, *self.held_out]

    @property
    def record(self) -> ModelRecord:
        classes = self.teacher.record.classes
        return ModelRecord(
            kind=ModelKind.SEGMENTATION,
            classes=classes,
            class_positions=tuple(range(len(classes.ids))),
            backbone=self.request.config.backbone,
            competing=True,
            micrometres_per_pixel=self.teacher.record.micrometres_per_pixel,
            decoder=self.request.pixels.decoder,
        )


def segment_project(
    project: Project,
    request: SegmentRequest,
    recipe: Recipe,
    *,
    device: torch.device,
    now: Callable[[], datetime],
) -> Job[TrainedRound | None]:
    """Train a new round of the second stage, on masks of the newest round of the first.

    Parameters
    ----------
    project
        With a trained round.
    request
        How it is trained.
    recipe
        By which the first stage makes its masks, with the given labels; prototypes are muted that
        are muted in the bank.
    device
        Where it computes.
    now
        Returns the date and time for the records.

    Returns
    -------
    TrainedRound or None
        None where it was stopped before there was anything to keep.

    Raises
    ------
    TrainingError
        Nothing to train on.
    ProjectError
        Nothing was trained yet.
    CheckpointError, ImageError, StorageError, WeightsError
    """
    project.require_writable()
    teacher = trained_model(project)
    yield from teacher.notices()
    prepared = _prepare(project, request, teacher, device)
    bank_version = teacher.round.bank_version
    recipe = with_muted_of_bank(project, recipe, teacher.record.kind, bank_version)
    made_of = MadeOf.of(project, learned_images(project))
    made_of = made_of.taught_by(project, teacher.round, recipe)
    with storage_errors(project.cache):
        project.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pseudo-masks.", dir=project.cache) as temporary:
            made = Path(temporary) / _PSEUDO_MASKS
            ignored = request.pixels.ignored
            images = prepared.images
            if not (
                yield from write_pseudo_masks(
                    project, teacher, images, recipe, made, ignored=ignored, device=device
                )
            ):
                return None
            begun = project.new_round(
                bank_version,
                prepared.request.model_dump_json(),
                created=now(),
                stage=Stage.SEGMENTATION,
                made_of_json=made_of.model_dump_json(),
            )
            with project.placing():
                made.rename(begun.folder / _PSEUDO_MASKS)
    yield Notice(f"Taught by round {teacher.round.id}.")
    training = _train(project, prepared, begun, resume=False)
    return (yield from recorded(project, begun, training, resume=False, now=now))


def resume_segmentation(
    project: Project, *, device: torch.device, now: Callable[[], datetime]
) -> Job[TrainedRound | None]:
    """Go on with the newest round of the second stage, where it was stopped, killed or failed.

    It learns from the masks that it began with. Parameters are those of `segment_project`.

    Raises
    ------
    TrainingError
        There is no such round.
    CheckpointError
        What it has saved is damaged, or does not fit any more; the round is left as it was.
    ProjectError, ImageError, StorageError, WeightsError
    """
    project.require_writable()
    unfinished = project.latest_round(stage=Stage.SEGMENTATION)
    if unfinished is None or unfinished.status is RoundStatus.FINISHED:
        raise TrainingError(
            "has no unfinished training of a segmentation network",
            where=project.folder,
            remedy="Begin one.",
            on_terminal=f"protoseg segment {project.folder}",
        )
    try:
        request = SegmentRequest.model_validate_json(unfinished.config_json)
    except ValidationError as error:
        raise TrainingError(
            "the round was begun by another version of this program",
            where=unfinished.folder,
            remedy="Begin anew.",
            on_terminal=f"protoseg segment {project.folder}",
        ) from error
    prepared = _prepare(project, request, trained_model(project), device)
    training = _train(project, prepared, unfinished, resume=True)
    return (yield from recorded(project, unfinished, training, resume=True, now=now))


def _prepare(
    project: Project, request: SegmentRequest, teacher: TrainedModel, device: torch.device
) -> _Prepared:
    """Check that a round can begin; its request has the backbone that it is to have."""
    positions = project.schema.positions_of(teacher.record.classes)
    training = images_to_learn_from(project, project.images(Split.TRAIN), positions)
    if not training:
        raise TrainingError(
            "no image with an image-level label",
            where=project.folder,
            remedy="Label images first.",
        )
    held_out = images_to_learn_from(project, project.images(Split.VALIDATION), positions)
    config = request.config
    if not held_out:  # images to validate on may say nothing
        training, held_out = hold_out_cases(training, config.held_out, config.seed)
    taught_backbone = teacher.record.backbone
    config = config.model_copy(update={"backbone": taught_backbone or DEFAULT_BACKBONE})
    weights = None
    if request.start is Start.IMAGENET or taught_backbone is None:
        file = request.backbone_weights
        weights = pretrained_weights(config.backbone) if file is None else read_weights(file)
    file = None if request.backbone_weights is None else request.backbone_weights.resolve()
    request = request.model_copy(update={"config": config, "backbone_weights": file})
    return _Prepared(request, teacher, training, held_out, weights, device)


def _train(
    project: Project, prepared: _Prepared, begun: Round, *, resume: bool
) -> Job[TrainingResult]:
    request, device = prepared.request, prepared.device
    licence = licence_of(request.config.backbone)
    severity = Severity.INFO if licence.commercial else Severity.WARNING
    yield Notice(f"Backbone {request.config.backbone}. {licence.notice}", severity)
    masks = PseudoMasks(begun.folder / _PSEUDO_MASKS)
    # What was labelled since the training began is not learned from.
    training, held_out = (
        [image for image in images if masks.holds(image.known_id)]
        for images in (prepared.training, prepared.held_out)
    )
    yield Notice(
        f"Training on {len(training)} images; the best epoch is chosen by the "
        f"pseudo-masks of {len(held_out)} others."
        if held_out
        else f"Training on {len(training)} images; the last epoch counts as the best."
    )
    torch.manual_seed(request.config.seed)
    model = create_model(prepared.record, backbone_weights=prepared.weights)
    if prepared.weights is None:
        backbone, taught = model.get_submodule("backbone"), prepared.teacher.model
        backbone.load_state_dict(_backbone_of(taught).state_dict())
    inputs = TrainingInputs(
        model=model,
        record=prepared.record,
        matcher=None,
        images=training_images(training),
        held_out=training_images(held_out),
        read=_layered([*training, *held_out], masks),
        device=device,
        folder=begun.folder,
        writing=project.replacing,
        objective=lambda network: PixelObjective(network, request.pixels, device),
    )
    has_begun = (begun.folder / LAST).exists()
    return (yield from train_network(inputs, request.config, resume=resume and has_begun))


def _backbone_of(model: torch.nn.Module) -> torch.nn.Module:
    backbone = model.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    return backbone


def _layered(images: list[ImageRecord], masks: PseudoMasks) -> ReadImage:
    """Return what reads images with what is believed of their pixels as further channels."""
    read = reader_of(images)
    id_of = {image.path: image.known_id for image in images}
    return lambda path: masks.of(id_of[path]).laid_on(read(path))
