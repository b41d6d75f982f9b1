"""Typed errors: each names what is wrong, where, and the way out."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 3000


class ProtosegError(Exception):
    """Base of every error that this package raises for a person to read.

    Parameters
    ----------
    what
        What is wrong, as a clause without a final full stop.
    where
        The file, folder, class or option concerned.
    remedy
        What to do about it, as a sentence that holds in the window and on a terminal.
    on_terminal
        What to type there for it: a command or an option.
    """

    def __init__(
        self, what: str, *, where: str | Path, remedy: str, on_terminal: str | None = None
    ) -> None:
        # What a file says of itself is quoted, and it may say much.
        self.what = _shortened(what)
        self.where = _shortened(str(where))
        self.remedy = _shortened(remedy)
        super().__init__(f"{self.where}: {self.what}. {self.remedy}")
        self.on_terminal = on_terminal


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


class Stopped(ProtosegError):  # noqa: N818 (that a person stops it is no error)
    """A job was asked to stop where half of its work is no result: nothing of it was kept."""

    @property
    def sentence(self) -> str:
        """What a person reads who has stopped it, and knows where."""
        return f"{self.what[0].upper()}{self.what[1:]}. {self.remedy}"


class SchemaError(ProtosegError):
    """A class schema is malformed, or two schemas do not fit together."""


class ImageError(ProtosegError):
    """An image cannot be read, or is not what the method works on."""


class LabelError(ProtosegError):
    """Image-level labels are missing, malformed or ambiguous."""


class ProjectError(ProtosegError):
    """A project folder is missing, damaged, newer than this program, or incomplete."""


class DamagedError(ProjectError):
    """What a project has stored is not what was stored, or a part of it is missing."""


class ProjectLockedError(ProjectError):
    """Another process writes to the project, or has taken it over: here it is read-only."""


class ProjectClosedError(ProjectError):
    """The project is closed in this program, or just being closed."""


class WeightsError(ProtosegError):
    """Weights of a network are missing, unsafe to read, or of another network."""


class BankError(ProtosegError):
    """A prototype bank cannot be built, or does not fit its use."""


class CheckpointError(ProtosegError):
    """A checkpoint is damaged, or belongs to another schema, bank or configuration."""


class TrainingError(ProtosegError):
    """Training cannot start or go on."""


class EvaluationError(ProtosegError):
    """Predictions and masks cannot be compared."""


class ExportError(ProtosegError):
    """An export would overwrite something, or cannot express the masks."""


class StorageError(ProtosegError):
    """The disk is full, or a place cannot be written or read."""


class MissingError(StorageError):
    """What a project has stored is gone, while the place that it belongs to can be read."""


LOST = (DamagedError, MissingError)
"""Of what a project has stored: that it is lost, which no other try mends. Who goes on without it
names it; of any other error nothing is known but that it cannot be read just then."""


def with_command(sentence: str, command: str | None) -> str:
    """Return a sentence that holds everywhere with what it means on a terminal."""
    return sentence if command is None else f"{sentence} On a terminal: {command}"
