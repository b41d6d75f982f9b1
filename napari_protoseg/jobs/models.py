"""The models that a project has: the one that its training left, and the one to look with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_protoseg.errors import CheckpointError, ProjectError
from napari_protoseg.events import Notice, Severity
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelRecord
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, RoundStatus, Stage
from napari_protoseg.storage import storage_errors
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.loop import BEST, LAST

_COMMANDS = {Stage.PROTOTYPES: "train", Stage.SEGMENTATION: "segment"}


@dataclass(frozen=True)
class ModelKey:
    """Tells one state of one model of a project from another, without opening it.

    Parameters
    ----------
    round_id
        Training that it came from; None for the frozen evidence of a bank.
    finished
        When that ended last.
    bank_version
        Whose prototypes it has.
    """

    round_id: int | None
    finished: datetime | None
    bank_version: int

    @classmethod
    def of(cls, trained: Round) -> ModelKey:
        """Return that of a round that has left a model."""
        return cls(trained.id, trained.finished, trained.bank_version)

    def __str__(self) -> str:
        if self.round_id is None:
            return f"bank {self.bank_version}, not trained yet"
        return f"round {self.round_id}"


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model as a round of training left it.

    Parameters
    ----------
    model, record
        The model, and what it is, with the names and colours that the project gives its classes
        now.
    path, sha256
        Its checkpoint, and the hash of that file.
    round
        The round.
    newer
        A round that was begun later and did not end, so that its model is not this one.
    """

    model: MapModel
    record: ModelRecord
    path: Path
    sha256: str
    round: Round
    newer: Round | None

    def notices(self) -> Iterator[Notice]:
        """Say what a person should know who expects the newest model."""
        if self.newer is not None:
            yield Notice(
                f"Round {self.newer.id} has not ended: this is the model of round "
                f"{self.round.id}. Resume the training to go on with the other.",
                Severity.WARNING,
                on_terminal=f"protoseg {_COMMANDS[self.round.stage]} PROJECT --resume",
            )


def newest_trained_round(project: Project, stage: Stage = Stage.PROTOTYPES) -> Round | None:
    """Return the newest round of a stage that has left a model, or None.

    One that was stopped before its first epoch had ended has hardly learned anything: it does not
    take the place of an earlier one, and counts where there is no other.
    """
    ended = [
        known
        for known in project.rounds()
        if known.stage is stage and known.status in (RoundStatus.FINISHED, RoundStatus.STOPPED)
    ]
    ripe = [
        known
        for known in ended
        if known.status is RoundStatus.FINISHED or (known.folder / BEST).is_file()
    ]
    return next(reversed(ripe or ended), None)


def can_go_on(newest: Round) -> bool:
    """Tell whether a round can be resumed; one that failed only where it has saved something."""
    if newest.status is RoundStatus.FAILED:
        return (newest.folder / LAST).is_file()
    return newest.status in (RoundStatus.STOPPED, RoundStatus.RUNNING)


def model_at_hand(project: Project) -> ModelKey | None:
    """Return the model to look with: of the newest round, or of a bank that is newer still.

    Returns
    -------
    ModelKey or None
        None before the first bank.
    """
    bank = project.latest_bank()
    ended = newest_trained_round(project)
    if bank is None:
        return None
    if ended is None or ended.bank_version < bank.version:
        return ModelKey(None, None, bank.version)
    return ModelKey.of(ended)


def untrained(project: Project, stage: Stage) -> ProjectError:
    """Return what to raise, or to show, where no round of a stage has left a model yet."""
    of_stage = "" if stage is Stage.PROTOTYPES else " for segmentation without labels"
    return ProjectError(
        f"has no trained model{of_stage} yet",
        where=project.folder,
        remedy="Train one.",
        on_terminal=_command(project, stage),
    )


def trained_model(project: Project, stage: Stage = Stage.PROTOTYPES) -> TrainedModel:
    """Return the best model of the project's newest round of a stage that has one.

    Raises
    ------
    ProjectError
        Nothing was trained yet.
    CheckpointError
        The checkpoint is damaged, or of another schema.
    """
    ended = newest_trained_round(project, stage)
    if ended is None:
        raise untrained(project, stage)
    command = _command(project, stage)
    path = next((p for p in (ended.folder / BEST, ended.folder / LAST) if p.exists()), None)
    if path is None:
        raise CheckpointError(
            "the round's checkpoint is missing",
            where=ended.folder,
            remedy="Train again.",
            on_terminal=command,
        )
    checkpoint = Checkpoint(path)
    if not project.schema.extends(checkpoint.record.classes):
        gone = {of.known.id for of in project.removed_classes()}
        is_removed = not gone.isdisjoint(checkpoint.record.classes.ids)
        raise CheckpointError(
            f"made for the classes {', '.join(checkpoint.record.classes.names)}, "
            f"not for {', '.join(project.schema.names)}",
            where=path,
            remedy="Build a bank and train again, or bring back the class that was removed."
            if is_removed
            else "Train again.",
            on_terminal=f"protoseg bank, or protoseg classes undo {project.folder}"
            if is_removed
            else command,
        )
    with storage_errors(path), path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    newest = project.latest_round(stage=stage)
    newer = newest if newest is not None and newest.id > ended.id else None
    classes = project.schema.those_of(checkpoint.record.classes)
    record = checkpoint.record.model_copy(update={"classes": classes})
    return TrainedModel(checkpoint.restore(), record, path, sha256, ended, newer)


def _command(project: Project, stage: Stage) -> str:
    return f"protoseg {_COMMANDS[stage]} {project.folder}"
