"""What the recorder of steps tells of."""

from __future__ import annotations

from dataclasses import dataclass

from napari_protoseg.errors import ProtosegError, StorageError


@dataclass(frozen=True)
class RecordingFailed:
    """Steps cannot be recorded; they are kept in memory, and tried again.

    Parameters
    ----------
    error
        Why.
    waiting
        How many steps.
    """

    error: ProtosegError
    waiting: int


class UnexpectedFailure(StorageError):  # noqa: N818 (it stands for the error that is its cause)
    """Recording has raised what nobody has foreseen; that is its cause."""


@dataclass(frozen=True)
class RecordingResumed:
    """Steps that could not be recorded before have been, and none waits."""


@dataclass(frozen=True)
class StoringFailed:
    """A mask cannot be stored, for a reason that may pass; it is tried again.

    Parameters
    ----------
    error
        Why.
    """

    error: ProtosegError


@dataclass(frozen=True)
class StoringResumed:
    """Masks that could not be stored before have been, and none waits."""


@dataclass(frozen=True)
class MaskMoved:
    """Others have changed the mask of an image, or the classes, while it was edited.

    What was drawn is recorded over what they have left, but the mask in memory does not hold
    their pixels: the image is to be opened again.

    Parameters
    ----------
    image_id
        The image.
    """

    image_id: int


@dataclass(frozen=True)
class FoldFailed:
    """The mask of an image is damaged or gone on disk; its steps are recorded nonetheless.

    Parameters
    ----------
    image_id
        The image.
    error
        What is lost, and its remedy.
    """

    image_id: int
    error: ProtosegError


@dataclass(frozen=True)
class Folded:
    """The mask of an image is stored with steps that it did not hold before.

    Parameters
    ----------
    image_id
        The image.
    """

    image_id: int


RecorderEvent = (
    RecordingFailed
    | RecordingResumed
    | StoringFailed
    | StoringResumed
    | MaskMoved
    | FoldFailed
    | Folded
)
