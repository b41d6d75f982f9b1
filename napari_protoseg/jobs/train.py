"""The job that trains a round: on the project's image-level labels and its newest bank."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_protoseg.encoders.cache import FeatureCache
from napari_protoseg.encoders.encoder import FrozenEncoder, create_encoder
from napari_protoseg.encoders.encoding import ReadImage, encode_dense
from napari_protoseg.encoders.registry import licence_of
from napari_protoseg.encoders.weights import read_weights
from napari_protoseg.errors import ProtosegError, TrainingError
from napari_protoseg.events import Event, Job, Notice, Request, Severity
from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.bank import (
    BATCH_SIZE,
    CACHE_BYTES,
    BuiltBank,
    bank_of_version,
    encode_items,
    latest_bank,
)
from napari_protoseg.jobs.measure import measure
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.jobs.split import case_of, hold_out_cases
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.backbones import pretrained_weights
from napari_protoseg.network.build import create_model
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Round, RoundStatus, Split
from napari_protoseg.training.checkpoint import write_checkpoint
from napari_protoseg.training.config import (
    PAPER_ENCODER,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.training.images import TrainingImage
from napari_protoseg.training.loop import BEST, LAST, TrainingInputs, TrainingResult, train_network
from napari_protoseg.training.quick import fit_evidence
from napari_protoseg.training.step import Matcher


class TrainRequest(BaseModel):
    """What is asked of the job; a round keeps it, and resuming takes it up again.

    Parameters
    ----------
    preset
        `Preset.QUICK` fits the frozen evidence; any other trains a network by `config`.
    config
        Of the network.
    kind
        `ModelKind.PROTOTYPES`, or `ModelKind.PLAIN_CAM` to compare with.
    encoder_weights, backbone_weights
        Weights files; those of the default encoder and backbone come with the installation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Preset.STANDARD
    config: TrainingConfig = TrainingConfig()
    kind: ModelKind = ModelKind.PROTOTYPES
    encoder_weights: Path | None = None
    backbone_weights: Path | None = None


class RoundMetrics(BaseModel):
    """What a round measured of itself.

    Parameters
    ----------
    epochs
        One entry for each finished epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: tuple[EpochFinished, ...] = ()


@dataclass(frozen=True)
class TrainedRound:
    """How a round ended.

    Parameters
    ----------
    round
        With its folder.
    checkpoint
        The best model.
    finished
        False after a stop.
    """

    round: Round
    checkpoint: Path
    finished: bool


def train_project(
    project: Project, request: TrainRequest, *, device: torch.device, now: Callable[[], datetime]
) -> Job[TrainedRound | None]:
    """Train a new round.

    Returns
    -------
    TrainedRound or None
        None where it was stopped before there was anything to keep.

    Raises
    ------
    TrainingError
        Nothing to train on, or the preset needs what is not there.
    BankError, WeightsError, CheckpointError, ImageError, StorageError
    """
    bank, summary = latest_bank(project)
    _require_preset(request, bank)
    # Whole paths, since the training may be resumed from another folder.
    encoder, backbone = request.encoder_weights, request.backbone_weights
    weights = {
        "encoder_weights": summary.encoder_weights if encoder is None else encoder.resolve(),
        "backbone_weights": None if backbone is None else backbone.resolve(),
    }
    request = request.model_copy(update=weights)
    prepared = _prepare(project, request, bank, device)
    if request.preset is Preset.QUICK:
        return (yield from _fit_quick(project, prepared, bank.version, now))
    begun = project.new_round(bank.version, request.model_dump_json(), created=now())
    return (yield from _train_round(project, prepared, begun, resume=False, now=now))


def resume_training(
    project: Project, *, device: torch.device, now: Callable[[], datetime]
) -> Job[TrainedRound | None]:
    """Go on with the newest round, where it was stopped, killed or failed, on its own bank.

    A round that was killed before its first checkpoint begins at its first step.

    Raises
    ------
    TrainingError
        There is no such round.
    CheckpointError
        Its checkpoint is damaged, or does not fit any more; the round is left as it was.
    BankError, WeightsError, ImageError, StorageError
    """
    unfinished = project.latest_round()
    if unfinished is None or unfinished.status is RoundStatus.FINISHED:
        raise TrainingError(
            "has no unfinished training",
            where=project.folder,
            remedy=f"Begin one: protoseg train {project.folder}",
        )
    try:
        request = TrainRequest.model_validate_json(unfinished.config_json)
    except ValidationError as error:
        raise TrainingError(
            "the round was begun by another version of this program",
            where=unfinished.folder,
            remedy=f"Begin anew: protoseg train {project.folder}",
        ) from error
    bank = bank_of_version(project, unfinished.bank_version)
    prepared = _prepare(project, request, bank, device)
    if request.preset is Preset.QUICK:
        return (yield from _fit_quick(project, prepared, bank.version, now))
    return (yield from _train_round(project, prepared, unfinished, resume=True, now=now))


def frozen_evidence(project: Project, *, device: torch.device) -> MapModel:
    """Return the model of the newest bank that needs no training.

    Raises
    ------
    BankError, WeightsError
    """
    bank, summary = latest_bank(project)
    encoder = create_encoder(bank.bank.encoder.name, summary.encoder_weights, device=device)
    bank.bank.require(encoder.identity, project.schema)
    positions = bank.bank.positions_in(project.schema).tolist()
    centres = torch.from_numpy(bank.bank.centres)
    return EvidenceModel(encoder, centres, positions, len(project.schema.ids))


@dataclass(frozen=True)
class _Prepared:
    """Everything a round works with, checked before it begins."""

    request: TrainRequest
    record: ModelRecord
    prototypes: torch.Tensor
    model: MapModel
    encoder: FrozenEncoder | None
    training: list[ImageRecord]
    held_out: list[ImageRecord]
    device: torch.device


def _prepare(
    project: Project, request: TrainRequest, bank: BuiltBank, device: torch.device
) -> _Prepared:
    labelled = [i for i in project.images(Split.TRAIN) if any(v != -1 for v in i.label)]
    if not labelled:
        raise TrainingError(
            "no image with an image-level label",
            where=project.folder,
            remedy="Make the project with labelled images: protoseg new --labels FILE.",
        )
    quick = request.preset is Preset.QUICK
    cam = request.kind is ModelKind.PLAIN_CAM
    training, held_out = hold_out_cases(labelled, request.config.held_out, request.config.seed)
    needs_encoder = quick or not (cam or request.config.matching is Matching.NONE)
    encoder = None
    if needs_encoder:
        name = bank.bank.encoder.name
        encoder = create_encoder(name, request.encoder_weights, device=device)
        bank.bank.require(encoder.identity, project.schema)
    weights = None
    if not quick:
        file = request.backbone_weights
        weights = (
            pretrained_weights(request.config.backbone) if file is None else read_weights(file)
        )
    classes = len(project.schema.classes)
    positions = bank.bank.positions_in(project.schema).tolist()
    record = ModelRecord(
        kind=ModelKind.EVIDENCE if quick else request.kind,
        classes=project.schema,
        class_positions=tuple(range(classes)) if cam else tuple(positions),
        backbone=None if quick else request.config.backbone,
        cosine=request.config.cosine,
        encoder=None if cam else bank.bank.encoder,
        bank=None if cam else bank.bank.fingerprint,
        micrometres_per_pixel=_median_pixel_size(training),
    )
    prototypes = torch.from_numpy(bank.bank.centres)
    torch.manual_seed(request.config.seed)
    model = create_model(record, prototypes=prototypes, backbone_weights=weights, encoder=encoder)
    return _Prepared(
        request,
        record,
        prototypes,
        model,
        encoder,
        training,
        held_out,
        device,
    )


def _fit_quick(
    project: Project, prepared: _Prepared, bank_version: int, now: Callable[[], datetime]
) -> Job[TrainedRound | None]:
    """Fit the frozen evidence to the labels; only what has been fitted becomes a round."""
    model = prepared.model
    assert prepared.encoder is not None
    assert isinstance(model, EvidenceModel)
    items = encode_items(tuple(prepared.training))
    cache = FeatureCache(project.cache / "features", CACHE_BYTES)
    dense = yield from encode_dense(
        prepared.encoder, items, cache, batch_size=BATCH_SIZE, read=read_image
    )
    labels = [image.label for image in prepared.training]
    if not (yield from fit_evidence(model, dense, items, labels)):
        return None
    begun = project.new_round(bank_version, prepared.request.model_dump_json(), created=now())
    path = begun.folder / BEST
    try:
        write_checkpoint(path, prepared.record, model)
    except ProtosegError:
        project.update_round(begun.id, RoundStatus.FAILED, finished=now())
        raise
    project.update_round(begun.id, RoundStatus.FINISHED, finished=now())
    return TrainedRound(begun, path, finished=True)


def _train_round(
    project: Project,
    prepared: _Prepared,
    begun: Round,
    *,
    resume: bool,
    now: Callable[[], datetime],
) -> Job[TrainedRound]:
    """Train the network of a round, and record how that ended."""
    try:
        result = yield from _train_network(project, prepared, begun, resume=resume)
    except ProtosegError:
        # One that was only taken up again has what it had: a best state, or a training to resume.
        if not resume:
            project.update_round(begun.id, RoundStatus.FAILED, finished=now())
        raise
    except GeneratorExit:
        project.update_round(begun.id, RoundStatus.STOPPED, finished=now())
        raise
    project.update_round(
        begun.id,
        RoundStatus.FINISHED if result.finished else RoundStatus.STOPPED,
        metrics_json=RoundMetrics(epochs=result.history).model_dump_json(),
        finished=now(),
    )
    return TrainedRound(begun, result.checkpoint, result.finished)


def _train_network(
    project: Project, prepared: _Prepared, begun: Round, *, resume: bool
) -> Job[TrainingResult]:
    config = prepared.request.config
    licence = licence_of(config.backbone)
    severity = Severity.INFO if licence.commercial else Severity.WARNING
    yield Notice(f"Backbone {config.backbone}. {licence.notice}", severity)
    yield from _describe_split(prepared)
    matcher = None
    if prepared.encoder is not None:
        matcher = Matcher(prepared.encoder.dense, prepared.prototypes.to(prepared.device))
    validation = [i for i in project.images(Split.VALIDATION) if i.mask_path is not None]
    inputs = TrainingInputs(
        model=prepared.model,
        record=prepared.record,
        matcher=matcher,
        images=_training_images(prepared.training),
        held_out=_training_images(prepared.held_out),
        read=_reader([*prepared.training, *prepared.held_out]),
        score=_scorer(prepared, validation) if validation else None,
        device=prepared.device,
        folder=begun.folder,
    )
    has_begun = (begun.folder / LAST).exists()
    return (yield from train_network(inputs, config, resume=resume and has_begun))


def _scorer(prepared: _Prepared, validation: Sequence[ImageRecord]) -> Callable[[MapModel], float]:
    """Return what measures a model's mIoU on the project's own masks, with given labels."""
    schema = prepared.record.classes

    def score(model: MapModel) -> float:
        predictor = Predictor(model, schema.ids, Recipe(flip=False), prepared.device)
        return measure(predictor, validation, schema).scores.mean_iou or 0.0

    return score


def _reader(images: Sequence[ImageRecord]) -> ReadImage:
    """Return what reads those of `images` that are as they were when the project was made."""
    recorded = {image.path: image for image in images}
    return lambda path: read_recorded(recorded[path])


def _training_images(images: Sequence[ImageRecord]) -> list[TrainingImage]:
    return [TrainingImage(image.path, image.label, case_of(image)) for image in images]


def _describe_split(prepared: _Prepared) -> Generator[Event, Request | None, None]:
    cases = {case_of(image) for image in prepared.held_out}
    if prepared.held_out:
        yield Notice(
            f"Training on {len(prepared.training)} images; the best epoch is chosen on "
            f"{len(prepared.held_out)} images of {len(cases)} held-out cases."
        )
    else:
        yield Notice(
            f"Training on {len(prepared.training)} images. There are too few cases to hold some "
            "out: without validation masks, the last epoch counts as the best."
        )
    largest = prepared.request.config.max_side
    cut = sum(max(i.height, i.width) > largest for i in prepared.training)
    if cut:
        yield Notice(
            f"{cut} images are larger than {largest} pixels: each epoch sees a part of them, "
            "under the label of the whole.",
            Severity.WARNING,
        )


def _median_pixel_size(images: Sequence[ImageRecord]) -> float | None:
    known = [i.micrometres_per_pixel for i in images if i.micrometres_per_pixel is not None]
    return float(np.median(known)) if known else None


def _require_preset(request: TrainRequest, bank: BuiltBank) -> None:
    """Name all that the released configuration needs and that is not there."""
    if request.preset is not Preset.PAPER:
        return
    needs = []
    if bank.bank.encoder.name != PAPER_ENCODER:
        needs.append(
            f"a bank of the encoder {PAPER_ENCODER} "
            f"(protoseg bank PROJECT --encoder {PAPER_ENCODER} --encoder-weights FILE)"
        )
    if request.backbone_weights is None:
        needs.append(
            f"ImageNet weights of the backbone {request.config.backbone} "
            f"(--backbone-weights FILE; {licence_of(request.config.backbone).notice})"
        )
    if needs:
        raise TrainingError(
            "the released configuration cannot run offline with what is here",
            where="preset paper",
            remedy="It needs " + ", and ".join(needs) + ".",
        )
