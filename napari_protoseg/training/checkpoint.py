"""Checkpoints: everything that a model, or an interrupted training, is taken up from.

One safetensors file: tensors of the model, the optimiser and the random generator, and in its
metadata the record of the model and the state of the training as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_protoseg.errors import CheckpointError, WeightsError
from napari_protoseg.network.build import empty_model
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.record import ModelRecord
from napari_protoseg.storage import Replacing, replacing, require_file, storage_errors
from napari_protoseg.training.config import TrainingConfig
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.training.fingerprint import DataFingerprint

_FORMAT = 1
_MODEL, _AVERAGE, _OPTIMISER, _RANDOM = "model/", "average/", "optimiser/", "random/"


class TrainingState(BaseModel):
    """Where a training stands.

    Parameters
    ----------
    config
        As it was begun.
    epoch, batch
        The next batch to be trained on.
    micro_batch
        Images that go through the network at once.
    loss_sum
        Of the steps of this epoch.
    best
        Criterion of the best epoch so far, lower is better; None before the first.
    history
        What each finished epoch measured.
    scaler
        State of the gradient scaler.
    data
        What it was begun on; None where it was begun before that was kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: TrainingConfig
    epoch: int = 0
    batch: int = 0
    micro_batch: int
    loss_sum: float = 0.0
    best: float | None = None
    history: tuple[EpochFinished, ...] = ()
    scaler: dict[str, float] = {}
    data: DataFingerprint | None = None


class _Version(BaseModel):
    format: int


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    record: ModelRecord
    state: TrainingState | None


def write_checkpoint(
    path: Path,
    record: ModelRecord,
    model: nn.Module,
    state: TrainingState | None = None,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
    *,
    writing: Replacing = replacing,
) -> None:
    """Write a model, and, to go on from it, the state of its training.

    `average` is the model with the average of its weights so far, where one is kept; `writing`
    writes the file, or refuses to.

    Raises
    ------
    StorageError
        The disk is full or cannot be written; what stood there before is untouched.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {_AVERAGE + name: tensor for name, tensor in average.state_dict().items()}
    if optimiser is not None:
        for number, values in optimiser.state_dict()["state"].items():
            tensors |= {f"{_OPTIMISER}{number}/{key}": value for key, value in values.items()}
        tensors[_RANDOM + "cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors[_RANDOM + "cuda"] = torch.cuda.get_rng_state()
    header = _Header(format=_FORMAT, record=record, state=state)
    with writing(path) as temporary:
        temporary.write_bytes(
            save(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                metadata={"checkpoint": header.model_dump_json()},
            )
        )


def read_state(path: Path) -> TrainingState | None:
    """Return the state of the training in a checkpoint, without reading its weights.

    Raises
    ------
    StorageError, CheckpointError
        As for a `Checkpoint`.
    """
    require_file(path)
    with storage_errors(path):
        try:
            with safe_open(path, framework="pt") as file:
                return _header(file.metadata(), path).state
        except SafetensorError as error:
            raise _damaged(path) from error


def _require_fit(
    optimiser: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Raise `ValueError` where a state is not one of AdamW for these parameters.

    Torch itself takes tensors of any names and shapes, and fails at the next step.
    """
    parameters = [found for group in optimiser.param_groups for found in group["params"]]
    for number, held in state.items():
        if number >= len(parameters) or held.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"no state of parameter {number}")
        shape = parameters[number].shape
        if (
            held["step"].numel() != 1
            or held["exp_avg"].shape != shape
            or (held["exp_avg_sq"].shape != shape)
        ):
            raise ValueError(f"the state of parameter {number} has another shape")


def _header(metadata: dict[str, str] | None, path: Path) -> _Header:
    content = (metadata or {}).get("checkpoint", "{}")
    try:
        version = _Version.model_validate_json(content).format
        if version <= _FORMAT:
            return _Header.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(path) from error
    raise CheckpointError(
        f"written by a later version of this program (format {version})",
        where=path,
        remedy="Install the current version of napari-protoseg.",
    )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        "not a checkpoint of this program, or a damaged one",
        where=path,
        remedy="Train again, or name another round's checkpoint.",
    )


class Checkpoint:
    """A checkpoint that has been read.

    Parameters
    ----------
    path
        Its file.

    Raises
    ------
    StorageError
        The file cannot be read.
    CheckpointError
        It is damaged, not a checkpoint, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_file(path)
        with storage_errors(path):
            try:
                with safe_open(path, framework="pt") as file:
                    header = _header(file.metadata(), path)
                    self._tensors = {
                        # Copied, for the file to be replaced while they are in use.
                        name: file.get_tensor(name).clone()
                        for name in file.keys()  # noqa: SIM118
                    }
            except SafetensorError as error:
                raise _damaged(path) from error
        self.record = header.record
        self.state = header.state

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose name begins with `prefix`, without it."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self._tensors.items()
            if name.startswith(prefix)
        }

    def restore(self) -> MapModel:
        """Build the model that this is a checkpoint of, with its weights, on the CPU.

        Raises
        ------
        CheckpointError
            Its record names no model that can be built, or its weights are those of another.
        """
        weights = self.part(_MODEL)
        try:
            model = empty_model(self.record, weights)
        except (CheckpointError, WeightsError) as error:
            raise CheckpointError(
                f"{error.where}: {error.what}", where=self.path, remedy=error.remedy
            ) from error
        except (RuntimeError, ValueError, TypeError, LookupError, AssertionError) as error:
            raise self._of_another_model() from error
        self.load_model(model)
        return model.eval()

    def load_model(self, model: nn.Module) -> None:
        """Load the weights into `model`.

        Raises
        ------
        CheckpointError
            They are those of another model.
        """
        self._load(model, _MODEL)

    def load_average(self, model: nn.Module) -> None:
        """Load the average of the weights so far into `model`.

        Raises
        ------
        CheckpointError
            It holds none, or that of another model.
        """
        self._load(model, _AVERAGE)

    def _load(self, model: nn.Module, prefix: str) -> None:
        try:
            model.load_state_dict(self.part(prefix))
        except RuntimeError as error:
            raise self._of_another_model() from error

    def _of_another_model(self) -> CheckpointError:
        return CheckpointError(
            "its weights are not those of the model that it names",
            where=self.path,
            remedy="Train again, or name another round's checkpoint.",
        )

    def load_optimiser(self, optimiser: torch.optim.Optimizer) -> None:
        """Load the state of the optimiser and of the random generators.

        Raises
        ------
        CheckpointError
            It holds none, or that of another optimiser.
        """
        fresh = optimiser.state_dict()
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in self.part(_OPTIMISER).items():
            number, _, key = name.partition("/")
            if not number.isdecimal():
                raise _damaged(self.path)
            state.setdefault(int(number), {})[key] = tensor
        random = self.part(_RANDOM)
        if "cpu" not in random:
            raise CheckpointError(
                "holds a model, but not the state of its training",
                where=self.path,
                remedy="Resume from the checkpoint called last, or train again.",
            )
        try:
            _require_fit(optimiser, state)
            optimiser.load_state_dict({**fresh, "state": state})
            torch.set_rng_state(random["cpu"])
            if "cuda" in random and torch.cuda.is_available():
                torch.cuda.set_rng_state(random["cuda"])
        except (ValueError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                "the state of its optimiser does not fit the model",
                where=self.path,
                remedy="Train again.",
            ) from error
