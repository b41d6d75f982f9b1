"""What a round of training is made of, checked before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator

from napari_protoseg.encoders.encoder import FrozenEncoder, create_encoder
from napari_protoseg.encoders.registry import licence_of
from napari_protoseg.encoders.weights import read_weights
from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Event, Job
from napari_protoseg.jobs.bank import BuiltBank, latest_bank
from napari_protoseg.jobs.made_of import MadeOf, learned_images
from napari_protoseg.jobs.measure import measuring
from napari_protoseg.jobs.records import reader_of, training_images
from napari_protoseg.jobs.split import hold_out_cases
from napari_protoseg.labels.records import Presence, is_labelled
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import default_recipe
from napari_protoseg.network.backbones import pretrained_weights
from napari_protoseg.network.build import create_model
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.storage import Replacing, replacing
from napari_protoseg.training.config import (
    PAPER_ENCODER,
    PRESETS,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.training.fingerprint import DataFingerprint
from napari_protoseg.training.loop import TrainingInputs
from napari_protoseg.training.step import Matcher


class TrainRequest(BaseModel):
    """What is asked of the job; a round keeps it, and resuming takes it up again.

    Parameters
    ----------
    preset
        `Preset.QUICK` fits the frozen evidence; any other trains a network by `config`.
    config
        How it is trained; that of the preset where it is not given, and so is each field that a
        mapping lacks.
    kind
        `ModelKind.PROTOTYPES`, or `ModelKind.PLAIN_CAM` to compare with.
    encoder_weights, backbone_weights
        Weights files; those of the default encoder and backbone come with the installation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Preset.STANDARD
    config: TrainingConfig = PRESETS[Preset.STANDARD]
    kind: ModelKind = ModelKind.PROTOTYPES
    encoder_weights: Path | None = None
    backbone_weights: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_its_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(given := values.get("config", {}), dict):
            preset = PRESETS[Preset(values.get("preset", Preset.STANDARD))]
            return {**values, "config": {**preset.model_dump(), **given}}
        return values


@dataclass(frozen=True)
class Prepared:
    """Everything a round works with, checked before it begins.

    Parameters
    ----------
    request
        What was asked.
    record, model
        The model, with its initial weights, and what it is.
    prototypes
        ``(P, d)``.
    encoder
        Of the bank, where the round needs it.
    training, held_out
        Images to train on, and to choose the best epoch by: the project's validation images, or
        else some cases of the others.
    masked
        Validation images with masks, whose mIoU then decides instead.
    device
        Where it computes.
    made_of
        The versions that it comes from.
    """

    request: TrainRequest
    record: ModelRecord
    prototypes: torch.Tensor
    model: MapModel
    encoder: FrozenEncoder | None
    training: list[ImageRecord]
    held_out: list[ImageRecord]
    masked: list[ImageRecord]
    device: torch.device
    made_of: MadeOf


def prepare(
    project: Project, request: TrainRequest, bank: BuiltBank, device: torch.device
) -> Prepared:
    """Check that a round can begin, and make its model.

    Raises
    ------
    TrainingError
        Nothing to train on.
    BankError, WeightsError
    """
    learned = learned_images(project)
    made_of = MadeOf.of(project, learned)
    labelled = [image for image in learned if image.split is Split.TRAIN]
    if not labelled:
        raise TrainingError(
            "no image with an image-level label",
            where=project.folder,
            remedy="Label images first, or make the project with labelled ones.",
            on_terminal="protoseg new --labels FILE",
        )
    is_absent = any(Presence.ABSENT in image.label for image in labelled)
    if len(project.schema.classes) == 1 and not is_absent:
        raise TrainingError(
            f"{project.schema.names[0]}, the only class, is absent from no labelled image: there "
            "is nothing to tell it from",
            where=project.folder,
            remedy="Label images without it as such, or add a second class, such as other.",
        )
    quick = request.preset is Preset.QUICK
    cam = request.kind is ModelKind.PLAIN_CAM
    validation = project.images(Split.VALIDATION)
    masked = [i for i in validation if i.mask_path is not None]
    training, held_out = labelled, [i for i in validation if is_labelled(i.label)]
    if not (held_out or masked):  # images to validate on may say nothing
        share, seed = request.config.held_out, request.config.seed
        training, held_out = hold_out_cases(labelled, share, seed)
    needs_encoder = quick or not (cam or request.config.matching is Matching.NONE)
    encoder = None
    if needs_encoder or request.encoder_weights is not None:  # a file that is named is looked at
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
        competing=request.config.competing,
        encoder=None if cam else bank.bank.encoder,
        bank=None if cam else bank.bank.fingerprint,
        micrometres_per_pixel=_median_pixel_size(training),
    )
    prototypes = torch.from_numpy(bank.bank.centres)
    torch.manual_seed(request.config.seed)
    model = create_model(record, prototypes=prototypes, backbone_weights=weights, encoder=encoder)
    return Prepared(
        request,
        record,
        prototypes,
        model,
        encoder,
        training,
        held_out,
        masked,
        device,
        made_of,
    )


def prepare_new(
    project: Project, request: TrainRequest, device: torch.device
) -> tuple[Prepared, int]:
    """Check that a new round can begin on the newest bank, and make its model.

    Returns
    -------
    Prepared, int
        Its request has whole paths, since the training may be resumed from another folder; and
        the version of the bank.

    Raises
    ------
    TrainingError
        Nothing to train on, or the preset needs what is not there.
    BankError, WeightsError
    """
    bank, summary = latest_bank(project)
    require_preset(request, bank.bank.encoder.name)
    encoder, backbone = request.encoder_weights, request.backbone_weights
    weights = {
        "encoder_weights": summary.encoder_weights if encoder is None else encoder.resolve(),
        "backbone_weights": None if backbone is None else backbone.resolve(),
    }
    request = request.model_copy(update=weights)
    return prepare(project, request, bank, device), bank.version


def training_inputs(
    prepared: Prepared,
    folder: Path,
    after_epoch: Callable[[MapModel, int], Sequence[Event]] | None = None,
    *,
    writing: Replacing = replacing,
) -> TrainingInputs:
    """Return what the training of a network works on.

    Parameters
    ----------
    prepared
        Of any preset but quick.
    folder
        Where the checkpoints go.
    after_epoch, writing
        As in `TrainingInputs`.
    """
    matcher = None
    if prepared.encoder is not None:
        matcher = Matcher(prepared.encoder.dense, prepared.prototypes.to(prepared.device))
    return TrainingInputs(
        model=prepared.model,
        record=prepared.record,
        matcher=matcher,
        images=training_images(prepared.training),
        held_out=training_images(prepared.held_out),
        read=reader_of([*prepared.training, *prepared.held_out]),
        score=scorer_of(prepared) if prepared.masked else None,
        after_epoch=after_epoch,
        device=prepared.device,
        folder=folder,
        writing=writing,
        data=DataFingerprint.of(
            [(image.content_hash, image.label) for image in prepared.training],
            [(image.content_hash, image.label) for image in prepared.held_out],
            [image.content_hash for image in prepared.masked],
        ),
    )


def require_preset(request: TrainRequest, encoder: str) -> None:
    """Make sure that a preset has what it needs.

    Parameters
    ----------
    request
        With its preset and weights files.
    encoder
        Name of the encoder of the bank.

    Raises
    ------
    TrainingError
        Names all that the released configuration needs and that is not there.
    """
    if request.preset is not Preset.PAPER:
        return
    needs, commands = [], []
    if encoder != PAPER_ENCODER:
        needs.append(f"a bank of the encoder {PAPER_ENCODER}")
        commands.append(f"protoseg bank PROJECT --encoder {PAPER_ENCODER} --encoder-weights FILE")
    if request.backbone_weights is None:
        needs.append(
            f"a file with ImageNet weights of the backbone {request.config.backbone} "
            f"({licence_of(request.config.backbone).notice.rstrip('.')})"
        )
        commands.append("protoseg train PROJECT --preset paper --backbone-weights FILE")
    if needs:
        raise TrainingError(
            "the released configuration cannot run offline with what is here",
            where="preset paper",
            remedy="It needs " + ", and ".join(needs) + ".",
            on_terminal="; ".join(commands),
        )


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


def scorer_of(prepared: Prepared) -> Callable[[MapModel], Job[float | None]]:
    """Return the job that measures a model's mIoU on the project's own masks, with given labels.

    After a stop it returns None.
    """
    schema = prepared.record.classes
    recipe = default_recipe(prepared.request.config.compat)
    # One view of each image is enough to compare epochs by.
    recipe = recipe.model_copy(update={"flip": False, "intensities": (1.0,)})

    def score(model: MapModel) -> Job[float | None]:
        predictor = Predictor(model, schema.ids, recipe, prepared.device)
        measured = yield from measuring(predictor, prepared.masked, schema)
        return None if measured is None else measured.scores.mean_iou or 0.0

    return score


def _median_pixel_size(images: Sequence[ImageRecord]) -> float | None:
    known = [i.micrometres_per_pixel for i in images if i.micrometres_per_pixel is not None]
    return float(np.median(known)) if known else None
