"""The job that trains a round: on the project's image-level labels and its newest bank."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_protoseg.encoders.encoding import encode_dense
from napari_protoseg.encoders.registry import licence_of
from napari_protoseg.errors import ProjectLockedError, ProtosegError, TrainingError
from napari_protoseg.events import Event, Job, Notice, Progress, Request, Severity
from napari_protoseg.jobs.bank import (
    BATCH_SIZE,
    bank_of_version,
    encode_items,
)
from napari_protoseg.jobs.features import CACHE_BYTES, feature_cache
from napari_protoseg.jobs.muted import with_muted_of_bank
from napari_protoseg.jobs.preparation import (
    Prepared,
    TrainRequest,
    prepare,
    prepare_new,
    scorer_of,
    training_inputs,
)
from napari_protoseg.jobs.previews import ChooseImage, epoch_previews
from napari_protoseg.jobs.recipes import chosen_recipe
from napari_protoseg.jobs.records import reader_of
from napari_protoseg.jobs.split import case_of, cases_on_both_sides
from napari_protoseg.masks.recipe import Recipe, default_recipe
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, RoundStatus
from napari_protoseg.training.checkpoint import write_checkpoint
from napari_protoseg.training.config import Preset
from napari_protoseg.training.devices import out_of_memory
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.training.loop import BEST, LAST, TrainingResult, train_network
from napari_protoseg.training.quick import fit_evidence

_UNMEASURED = "The round is trained, but was not measured."


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
    score, masked
        mIoU of the best model on the images with masks to validate on, and how many these are;
        None where there are none, or where it was stopped before.
    """

    round: Round
    checkpoint: Path
    finished: bool
    score: float | None = None
    masked: int = 0


def train_project(
    project: Project,
    request: TrainRequest,
    *,
    device: torch.device,
    now: Callable[[], datetime],
    preview: ChooseImage | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Job[TrainedRound | None]:
    """Train a new round.

    Parameters
    ----------
    project, request
        What is trained on, and how.
    device
        Where it computes.
    now
        Returns the date and time for the records.
    preview
        Called in the job's thread after each epoch; of the image that it returns, the job yields
        an `EpochPreview`, by the recipe and without the prototypes that a person has chosen and
        muted by then. The quick preset has no epochs.
    cache_bytes
        Size that the cache of features may grow to, which the quick preset fills.

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
    project.require_writable()
    prepared, bank_version = prepare_new(project, request, device)
    request = prepared.request
    if request.preset is Preset.QUICK:
        return (yield from _fit_quick(project, prepared, bank_version, now, cache_bytes))
    begun = project.new_round(
        bank_version,
        request.model_dump_json(),
        created=now(),
        made_of_json=prepared.made_of.model_dump_json(),
    )
    return (
        yield from _train_round(project, prepared, begun, resume=False, now=now, preview=preview)
    )


def resume_training(
    project: Project,
    *,
    device: torch.device,
    now: Callable[[], datetime],
    preview: ChooseImage | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Job[TrainedRound | None]:
    """Go on with the newest round, where it was stopped, killed or failed, on its own bank.

    A round that was killed before its first checkpoint begins at its first step. Parameters are
    those of `train_project`.

    Raises
    ------
    TrainingError
        There is no such round.
    CheckpointError
        Its checkpoint is damaged, or does not fit any more; the round is left as it was.
    BankError, WeightsError, ImageError, StorageError
    """
    project.require_writable()
    unfinished = project.latest_round()
    if unfinished is None or unfinished.status is RoundStatus.FINISHED:
        raise TrainingError(
            "has no unfinished training",
            where=project.folder,
            remedy="Begin one.",
            on_terminal=f"protoseg train {project.folder}",
        )
    try:
        request = TrainRequest.model_validate_json(unfinished.config_json)
    except ValidationError as error:
        raise TrainingError(
            "the round was begun by another version of this program",
            where=unfinished.folder,
            remedy="Begin anew.",
            on_terminal=f"protoseg train {project.folder}",
        ) from error
    bank = bank_of_version(project, unfinished.bank_version)
    prepared = prepare(project, request, bank, device)
    if request.preset is Preset.QUICK:
        return (yield from _fit_quick(project, prepared, bank.version, now, cache_bytes))
    return (
        yield from _train_round(
            project, prepared, unfinished, resume=True, now=now, preview=preview
        )
    )


def _fit_quick(
    project: Project,
    prepared: Prepared,
    bank_version: int,
    now: Callable[[], datetime],
    cache_bytes: int,
) -> Job[TrainedRound | None]:
    """Fit the frozen evidence to the labels; only what has been fitted becomes a round."""
    model = prepared.model
    assert prepared.encoder is not None
    assert isinstance(model, EvidenceModel)
    items = encode_items(tuple(prepared.training))
    cache = feature_cache(project, cache_bytes)
    dense = yield from encode_dense(
        prepared.encoder, items, cache, batch_size=BATCH_SIZE, read=reader_of(prepared.training)
    )
    labels = [image.label for image in prepared.training]
    if not (yield from fit_evidence(model, dense, items, labels, prepared.request.config)):
        return None
    begun = project.new_round(
        bank_version,
        prepared.request.model_dump_json(),
        created=now(),
        made_of_json=prepared.made_of.model_dump_json(),
    )
    path = begun.folder / BEST
    try:
        write_checkpoint(path, prepared.record, model, writing=project.replacing)
    except ProjectLockedError:
        raise  # whoever has the project now has this round, too
    except ProtosegError:
        project.update_round(begun.id, RoundStatus.FAILED, finished=now())
        raise
    project.update_round(begun.id, RoundStatus.FINISHED, finished=now())
    score = yield from _score(prepared)
    return TrainedRound(begun, path, True, score, len(prepared.masked))


def _score(prepared: Prepared) -> Job[float | None]:
    """Measure what was fitted; that it cannot be measured is no reason to lose it."""
    if not prepared.masked:
        return None
    count = len(prepared.masked)
    if (yield Progress(f"Measuring on {count} masks", 0, count)) is Request.STOP:
        return None
    try:
        score = yield from scorer_of(prepared)(prepared.model)
    except ProtosegError as error:
        yield Notice(f"{_UNMEASURED} {error}", Severity.WARNING)
        return None
    except torch.OutOfMemoryError:
        yield Notice(f"{_UNMEASURED} {out_of_memory(prepared.device)}", Severity.WARNING)
        return None
    if score is None:
        return None
    yield Notice(f"mIoU {score:.3f} on {count} images with masks.")
    return score


def _train_round(
    project: Project,
    prepared: Prepared,
    begun: Round,
    *,
    resume: bool,
    now: Callable[[], datetime],
    preview: ChooseImage | None,
) -> Job[TrainedRound]:
    training = _train_network(project, prepared, begun, resume=resume, preview=preview)
    masked = len(prepared.masked)
    return (yield from recorded(project, begun, training, resume=resume, now=now, masked=masked))


def recorded(
    project: Project,
    begun: Round,
    training: Job[TrainingResult],
    *,
    resume: bool,
    now: Callable[[], datetime],
    masked: int = 0,
) -> Job[TrainedRound]:
    """Train the network of a round, and record how that ended.

    Parameters
    ----------
    project, begun
        Whose round it is, which is running.
    training
        The job; not started yet.
    resume
        Whether the round goes on that was stopped.
    now
        Returns the date and time for the records.
    masked
        Number of masks that each epoch is measured on.
    """
    try:
        result = yield from training
    except ProjectLockedError:
        raise  # whoever has the project now has this round, too
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
    scores = [epoch.score for epoch in result.history if epoch.score is not None]
    best = max(scores, default=None)
    return TrainedRound(begun, result.checkpoint, result.finished, best, masked)


def _train_network(
    project: Project,
    prepared: Prepared,
    begun: Round,
    *,
    resume: bool,
    preview: ChooseImage | None,
) -> Job[TrainingResult]:
    config, kind = prepared.request.config, prepared.request.kind
    licence = licence_of(config.backbone)
    severity = Severity.INFO if licence.commercial else Severity.WARNING
    yield Notice(f"Backbone {config.backbone}. {licence.notice}", severity)
    yield from _describe_split(prepared)
    after_epoch = None
    if preview is not None:

        def recipe() -> Recipe:
            chosen = chosen_recipe(project) or default_recipe(config.compat)
            return with_muted_of_bank(project, chosen, kind, begun.bank_version)

        after_epoch = epoch_previews(preview, prepared.record.classes, recipe, prepared.device)
    inputs = training_inputs(prepared, begun.folder, after_epoch, writing=project.replacing)
    has_begun = (begun.folder / LAST).exists()
    return (yield from train_network(inputs, config, resume=resume and has_begun))


def _describe_split(prepared: Prepared) -> Generator[Event, Request | None, None]:
    cases = {case_of(image) for image in prepared.held_out}
    if prepared.masked:
        yield Notice(
            f"Training on {len(prepared.training)} images; the best epoch is chosen by the mIoU "
            f"on {len(prepared.masked)} images with masks."
        )
    elif prepared.held_out:
        yield Notice(
            f"Training on {len(prepared.training)} images; the best epoch is chosen on "
            f"{len(prepared.held_out)} images of {len(cases)} held-out cases."
        )
    else:
        yield Notice(
            f"Training on {len(prepared.training)} images. There are too few cases to hold some "
            "out: without validation masks, the last epoch counts as the best."
        )
    split = cases_on_both_sides(prepared.training, [*prepared.held_out, *prepared.masked])
    if split:
        yield Notice(
            f"{len(split)} cases have images to train on and images to validate on (such as "
            f"{split[0]}): what is measured on these is better than on a new case. To part them, "
            "give a split of whole cases.",
            Severity.WARNING,
            on_terminal="protoseg new --split FILE",
        )
    largest = prepared.request.config.max_side
    cut = sum(max(i.height, i.width) > largest for i in prepared.training)
    if cut:
        yield Notice(
            f"{cut} images are larger than {largest} pixels: each epoch sees a part of them, "
            "under the label of the whole.",
            Severity.WARNING,
        )
