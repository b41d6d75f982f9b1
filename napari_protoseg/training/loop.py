"""The training loop: a job that can be stopped, paused, killed and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_protoseg.encoders.passes import ReadImage
from napari_protoseg.errors import (
    CheckpointError,
    ProjectLockedError,
    ProtosegError,
    StorageError,
    TrainingError,
)
from napari_protoseg.events import Event, Job, Notice, Request
from napari_protoseg.network.classification import PrototypeNetwork
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelRecord
from napari_protoseg.storage import Replacing, replacing
from napari_protoseg.training.centring import centre
from napari_protoseg.training.checkpoint import Checkpoint, TrainingState, write_checkpoint
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.devices import describe_device, gradient_scaler, out_of_memory
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.fingerprint import DataFingerprint
from napari_protoseg.training.images import Batch, TrainingImage, epoch_batches
from napari_protoseg.training.objective import balancing_weights
from napari_protoseg.training.passes import Pieces, look_through
from napari_protoseg.training.schedule import average_decay, poly_factor
from napari_protoseg.training.step import Matcher, Measured, Objective, Step, StepLosses

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class TrainingInputs:
    """What a training works on.

    Parameters
    ----------
    model
        With its initial weights, on the CPU; trained in place.
    record
        What it is, for its checkpoints.
    matcher
        Encoder and prototypes of the matching loss, on `device`; None for no matching.
    images, held_out
        Trained on, and looked at after each epoch.
    read
        Reads an image; called from threads.
    score
        Returns a job that measures the mIoU of a model on masks, to choose the best epoch by, or
        None after a stop; None for the held-out loss.
    after_epoch
        Looks at the model after each epoch, of which it gets the number from 0, and returns what
        there is to say of it; the training is the same with and without.
    device
        Where it computes.
    folder
        Where the checkpoints go.
    writing
        Writes each checkpoint, or refuses to: the training ends with its error then.
    data
        What `images`, `held_out` and `score` are of: a training goes on with nothing else. None
        to go on with whatever is given.
    objective
        Makes of the model, once it is on `device`, what it is trained for; None for image-level
        labels, with `matcher`.
    clock
        Seconds from any start; decides when a checkpoint is due.
    checkpoint_seconds
        Most time between two checkpoints.
    """

    model: MapModel
    record: ModelRecord
    matcher: Matcher | None
    images: Sequence[TrainingImage]
    held_out: Sequence[TrainingImage]
    read: ReadImage
    device: torch.device
    folder: Path
    writing: Replacing = replacing
    data: DataFingerprint | None = None
    score: Callable[[MapModel], Job[float | None]] | None = None
    after_epoch: Callable[[MapModel, int], Sequence[Event]] | None = None
    objective: Callable[[MapModel], Objective] | None = None
    clock: Callable[[], float] = field(default=time.monotonic)
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Parameters
    ----------
    checkpoint
        The best epoch's; the last state where no epoch has ended.
    history
        What each finished epoch measured.
    finished
        False after a stop.
    """

    checkpoint: Path
    history: tuple[EpochFinished, ...]
    finished: bool


def train_network(
    inputs: TrainingInputs, config: TrainingConfig, *, resume: bool = False
) -> Job[TrainingResult]:
    """Train a network, and write its last and its best state to `inputs.folder`.

    On a CPU, a training that was stopped anywhere and resumed gives the same weights as one
    that was not.

    Parameters
    ----------
    inputs, config
        What is trained how.
    resume
        Go on from the last checkpoint in the folder.

    Raises
    ------
    TrainingError
        There is nothing to train on, a loss is not finite, or memory is not enough.
    CheckpointError
        There is no checkpoint to resume, or it was begun with another configuration, or on other
        data.
    ProjectLockedError
        Where `inputs.writing` refuses to write to a project that another program has taken over.
    StorageError, ImageError
    """
    if not inputs.images:
        raise TrainingError(
            "no image with an image-level label",
            where="training",
            remedy="Label some images, each with the classes that it holds and does not hold.",
        )
    loop = _Loop(inputs, config)
    if resume:
        loop.resume()
    return (yield from loop.run())


class _Loop:
    """State of one training between its steps."""

    def __init__(self, inputs: TrainingInputs, config: TrainingConfig) -> None:
        self.inputs = inputs
        self.config = config
        self.images = _balanced(inputs.images) if config.balanced else inputs.images
        torch.manual_seed(config.seed)
        self.model = inputs.model.to(inputs.device).train()
        self.rates = (config.backbone_rate, config.head_rate)
        in_backbone = {
            whether: [p for n, p in self.model.named_parameters() if _is_backbone(n) is whether]
            for whether in (True, False)
        }
        self.optimiser = torch.optim.AdamW(
            [{"params": in_backbone[True]}, {"params": in_backbone[False]}],
            weight_decay=config.weight_decay,
        )
        self.scaler = gradient_scaler(inputs.device)
        self.steps_per_epoch = -(-len(inputs.images) // config.batch_size)
        self.average = _average_of(self.model, config, config.epochs * self.steps_per_epoch)
        self.objective = self._objective_of(self.model)
        self.judge = self.objective if self.average is None else self._objective_of(self.kept)
        self.epoch, self.batch = 0, 0
        self.pieces = Pieces(config.batch_size, inputs.device)
        self.loss_sum = 0.0
        self.best: float | None = None
        self.history: tuple[EpochFinished, ...] = ()
        self.saved_at = inputs.clock()

    @property
    def kept(self) -> MapModel:
        """The model that is looked at after an epoch, and kept."""
        if self.average is None:
            return self.model
        return cast(MapModel, self.average.module)

    def _objective_of(self, model: MapModel) -> Objective:
        inputs = self.inputs
        if inputs.objective is not None:
            return inputs.objective(model)
        return Step(model, inputs.matcher, self.config, inputs.device)

    def resume(self) -> None:
        """Take up the state of the last checkpoint."""
        path = self.inputs.folder / LAST
        if not path.exists():
            raise CheckpointError(
                "there is no training to resume",
                where=path,
                remedy="Begin one: train without resuming.",
            )
        checkpoint = Checkpoint(path)
        state = checkpoint.state
        fits = self.inputs.record.goes_on(checkpoint.record)
        if state is None or state.config != self.config or not fits:
            raise CheckpointError(
                "begun with another configuration, bank or class schema",
                where=checkpoint.path,
                remedy="Resume with the options that it was begun with, or train anew.",
            )
        now, then = self.inputs.data, state.data
        changes = [] if now is None or then is None else now.changes_since(then)
        if changes:
            raise CheckpointError(
                f"begun on other data: what has changed since is {' and '.join(changes)}",
                where=checkpoint.path,
                remedy="Undo that and resume, or train anew.",
            )
        checkpoint.load_model(self.model)
        if self.average is not None:
            checkpoint.load_average(self.average)
        checkpoint.load_optimiser(self.optimiser)
        self.epoch, self.batch = state.epoch, state.batch
        self.pieces.size, self.loss_sum = state.micro_batch, state.loss_sum
        self.best, self.history = state.best, state.history
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)

    def run(self) -> Job[TrainingResult]:
        """Train to the end, or to a stop."""
        try:
            notice = Notice(f"Training on {describe_device(self.inputs.device)}.")
            is_stopped = (yield notice) is Request.STOP or not (yield from self._centre())
            while not is_stopped and self.epoch < self.config.epochs:
                is_stopped = (yield from self._epoch()) is Request.STOP
        except torch.OutOfMemoryError as error:
            self._save()
            raise out_of_memory(self.inputs.device) from error
        except (GeneratorExit, ProtosegError) as ending:
            # Closed by its caller, or something failed between two steps: nothing is lost.
            if not isinstance(ending, StorageError | ProjectLockedError):
                self._save()
            raise
        self._save()
        return self._result(finished=not is_stopped)

    def _centre(self) -> Job[bool]:
        """Centre a model whose classes compete before its first step; False after a stop."""
        model, has_begun = self.model, (self.epoch, self.batch) != (0, 0)
        if has_begun or not isinstance(model, PrototypeNetwork) or not model.competing:
            return True
        return (yield from centre(model, self.images, self.inputs.read, self.pieces, self.config))

    def _epoch(self) -> Job[Request | None]:
        self.model.train()
        batches = epoch_batches(
            self.images,
            self.inputs.read,
            batch_size=self.config.batch_size,
            max_side=self.config.max_side,
            seed=self.config.seed,
            epoch=self.epoch,
            first=self.batch,
        )
        for batch in batches:
            losses = yield from self._optimise(batch.to(self.inputs.device))
            if losses is None:
                return Request.STOP
            self.batch += 1
            self.loss_sum += losses.total
            event = StepFinished(
                step=self.epoch * self.steps_per_epoch + self.batch,
                steps=self.config.epochs * self.steps_per_epoch,
                epoch=self.epoch,
                loss=losses.total,
                classification=losses.classification,
                matching=losses.matching,
                pairs=losses.pairs,
                skipped=losses.skipped,
            )
            if (yield event) is Request.STOP:
                return Request.STOP
            if self.inputs.clock() - self.saved_at > self.inputs.checkpoint_seconds:
                self._save()
        finished = yield from self._finish_epoch()
        if finished is None or (yield finished) is Request.STOP:
            return Request.STOP
        for said in self._look_back(finished.epoch):
            if (yield said) is Request.STOP:
                return Request.STOP
        return None

    def _look_back(self, epoch: int) -> Sequence[Event]:
        """Let whoever wants to look at the model, without a trace in what follows."""
        if self.inputs.after_epoch is None:
            return ()
        devices = [self.inputs.device] if self.inputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            return self.inputs.after_epoch(self.kept, epoch)

    def _optimise(self, batch: Batch) -> Job[StepLosses | None]:
        """Take one step, in smaller pieces where memory is short; None after a stop before it."""
        step = self.epoch * self.steps_per_epoch + self.batch
        steps = self.config.epochs * self.steps_per_epoch
        factor = poly_factor(step, steps, self.config.warmup_steps)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        losses = None
        while losses is None:
            self.optimiser.zero_grad(set_to_none=True)
            try:
                losses = self.objective.accumulate(batch, self.pieces.size, self._backward)
            except torch.OutOfMemoryError as error:
                self._require_divisible(error)
                notice = self.pieces.halve(len(batch.images), error)
            if losses is None and (yield notice) is Request.STOP:
                return None
        if not torch.isfinite(torch.tensor(losses.total)):
            raise TrainingError(
                f"the loss is {losses.total} at step {step + 1}",
                where="training",
                remedy="Lower the learning rate, then train again.",
            )
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return losses

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _require_divisible(self, error: torch.OutOfMemoryError) -> None:
        """Raise where a batch cannot go through the network in pieces."""
        if not self.objective.divisible:
            raise TrainingError(
                "out of memory, and the loss of compat=reference does not split",
                where=str(self.inputs.device),
                remedy="Choose a smaller batch size, or the default mode.",
            ) from error

    def _finish_epoch(self) -> Job[EpochFinished | None]:
        """Look at what an epoch has brought; None after a stop, as if it had not ended."""
        self.kept.eval()
        held_out = yield from self._held_out()
        if held_out is None:
            return None
        score = None
        if self.inputs.score is not None:
            score = yield from self.inputs.score(self.kept)
            if score is None:
                return None
        criterion = held_out.loss if score is None else -score
        is_best = criterion is None or self.best is None or criterion < self.best
        event = EpochFinished(
            epoch=self.epoch,
            epochs=self.config.epochs,
            loss=self.loss_sum / self.steps_per_epoch,
            held_out_loss=held_out.loss,
            held_out_accuracy=held_out.accuracy,
            score=score,
            best=is_best,
        )
        self.history = (*self.history, event)
        self.epoch, self.batch, self.loss_sum = self.epoch + 1, 0, 0.0
        if is_best:
            # One that is not a number would never be beaten.
            self.best = None if criterion is None or math.isnan(criterion) else criterion
            path, record = self.inputs.folder / BEST, self.inputs.record
            write_checkpoint(path, record, self.kept, writing=self.inputs.writing)
        self._save()
        return event

    def _held_out(self) -> Job[Measured | None]:
        """Measure the model on the held-out images; None after a stop."""
        images, read, stage = self.inputs.held_out, self.inputs.read, "Looking at held-out images"
        labels = torch.tensor([image.label for image in images])

        def look(piece: Batch) -> tuple[float, ...]:
            return self.judge.look(piece, labels)

        # A step that does not split is not to be split because of what is only looked at.
        pieces = self.pieces
        if not self.objective.divisible:
            pieces = Pieces(pieces.size, pieces.device)
        seen = yield from look_through(images, read, look, pieces, self.config, stage=stage)
        if seen is None:
            return None
        return self.judge.measured([sum(part) for part in zip(*seen, strict=True)], labels)

    def _save(self) -> None:
        state = TrainingState(
            config=self.config,
            epoch=self.epoch,
            batch=self.batch,
            micro_batch=self.pieces.size,
            loss_sum=self.loss_sum,
            best=self.best,
            history=self.history,
            scaler={k: float(v) for k, v in self.scaler.state_dict().items()},
            data=self.inputs.data,
        )
        path, record = self.inputs.folder / LAST, self.inputs.record
        write_checkpoint(
            path,
            record,
            self.model,
            state,
            self.optimiser,
            self.average,
            writing=self.inputs.writing,
        )
        self.saved_at = self.inputs.clock()

    def _result(self, *, finished: bool) -> TrainingResult:
        has_best = any(event.best for event in self.history)
        path = self.inputs.folder / (BEST if has_best else LAST)
        return TrainingResult(path, self.history, finished)


def _balanced(images: Sequence[TrainingImage]) -> list[TrainingImage]:
    weights = balancing_weights([image.label for image in images])
    return [replace(i, weight=weight) for i, weight in zip(images, weights, strict=True)]


def _average_of(model: MapModel, config: TrainingConfig, steps: int) -> AveragedModel | None:
    """Return the exponential average of the weights, none yet; None where none is kept."""
    if not config.averaged:
        return None
    decay = average_decay(config.averaged, steps)
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average)


def _is_backbone(parameter: str) -> bool:
    return parameter.startswith("backbone.")
