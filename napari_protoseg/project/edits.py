"""An edit of a mask: which pixels it has changed, from what to what, and on whose behalf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.edit_codec import (
    JournalError,
    PixelChange,
    covers,
    differ,
    packed,
    require_given,
    unpacked,
)
from napari_protoseg.project.heirs import Heirs
from napari_protoseg.project.records import (
    MaskSource,
    Origin,
    are_protected,
    origins_of,
    setters_of_model,
)

Name = TypeVar("Name")

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Mask and setters of an image, each ``(height, width)``."""


class EditKind(StrEnum):
    """What has changed a mask."""

    STROKE = "stroke"
    """A person's hand."""
    MODEL = "model"
    IMPORT = "import"
    PROPAGATION = "propagation"
    RELEASE = "release"
    """A person has given pixels back to the model; their classes stay."""


class Unnamed(StrEnum):
    """Who has made an edit that is on behalf of no person by name."""

    MODEL = "a model"
    UNKNOWN = "somebody unknown"
    """The edit itself is missing."""


class Action(StrEnum):
    """What a step does with an edit."""

    DO = "do"
    UNDO = "undo"
    REDO = "redo"


@dataclass(frozen=True)
class EditKey:
    """What tells an edit or a step from every other of its image.

    Parameters
    ----------
    writer
        Random name of whoever has made it; one for each time that an image is opened.
    serial
        Its place among what this writer has made.
    """

    writer: str
    serial: int


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One thing that can be undone.

    Parameters
    ----------
    key
        Tells it from the others of its image.
    kind
        What it is.
    author
        Name of the person on whose behalf it was made; None for a model's.
    round_id
        Training whose mask a model's edit shows; else None.
    time
        When.
    shape
        Height and width of the image.
    pixels
        The pixels that it changes, packed; see `change`.
    sources
        What the mask came from before and after a model's edit; None for others, and within
        where no model had made a mask before.
    heirs
        Of an edit that was read: what stands in the place of classes that are gone, and which
        classes were ever there.
    """

    key: EditKey
    kind: EditKind
    author: str | None
    round_id: int | None
    time: datetime
    shape: tuple[int, int]
    pixels: bytes
    sources: tuple[MaskSource | None, MaskSource] | None = None
    heirs: Heirs | None = None

    @classmethod
    def of(
        cls,
        change: PixelChange,
        *,
        key: EditKey,
        kind: EditKind,
        author: str | None,
        time: datetime,
        shape: tuple[int, int],
        sources: tuple[MaskSource | None, MaskSource] | None = None,
    ) -> Edit:
        """Make an edit of pixels that were found to change."""
        return cls(
            key=key,
            kind=kind,
            author=author,
            round_id=None if sources is None else sources[1].round_id,
            time=time,
            shape=shape,
            pixels=packed(change, shape),
            sources=sources,
        )

    @property
    def change(self) -> PixelChange:
        """The pixels that it changes: none where they were of classes that are gone.

        Raises
        ------
        JournalError
            They are damaged.
        """
        change = unpacked(self.pixels, self.shape)
        if self.heirs is None:
            return change
        require_given(change, self.heirs.given)
        return self.heirs.seen_change(change) if self.heirs else change

    def covers(self, row: int, column: int) -> bool:
        """Tell whether it changes a pixel.

        Raises
        ------
        JournalError
            Its pixels are damaged.
        """
        return covers(self.pixels, self.shape, row * self.shape[1] + column)


@dataclass(frozen=True, kw_only=True)
class Step:
    """An edit that is made, undone or redone: what a journal records.

    Parameters
    ----------
    key
        Its own; that of the edit where it is made.
    action
        What is done with the edit.
    edit
        The edit.
    time
        When.
    """

    key: EditKey
    action: Action
    edit: Edit
    time: datetime

    @property
    def change(self) -> PixelChange:
        """What the step does to the mask, from what it is before to what it is after."""
        change = self.edit.change
        return change.reversed if self.action is Action.UNDO else change

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the pixels that change, in the order of `change`."""
        rows, columns = np.divmod(self.edit.change.positions, self.edit.shape[1])
        return rows, columns

    @property
    def source_after(self) -> MaskSource | None:
        """What the mask comes from after a step with a model's edit; None where from no model."""
        assert self.edit.sources is not None
        return self.edit.sources[0 if self.action is Action.UNDO else 1]


@dataclass(frozen=True, kw_only=True)
class NewStep(Step):
    """A step that is to be recorded, and what whoever made it knew of the image.

    Parameters
    ----------
    since
        Number of the last step in the journal when they opened the image; None where it had no
        journal then.
    schema
        Version of the class schema by which they saw its mask.
    confidence
        Of a model's mask, ``(height, width)``, 0..1; no part of the journal, but stored with the
        mask when it is folded next.
    """

    since: int | None
    schema: int
    confidence: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Recorded:
    """A step as a journal holds it.

    Parameters
    ----------
    number
        Its place in the journal of its image, from 1.
    step
        The step.
    """

    number: int
    step: Step


@contextmanager
def journal_of(image_id: int) -> Iterator[None]:
    """Name the image whose journal is found damaged within."""
    try:
        yield
    except JournalError as error:
        raise JournalError(error.what, f"image {image_id}") from error


def difference(
    before: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    after: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> PixelChange:
    """Return the pixels in which mask or setters differ, each ``(height, width)``."""
    positions = np.flatnonzero(differ(before, after))
    return PixelChange(
        positions,
        (before[0].take(positions), before[1].take(positions)),
        (after[0].take(positions), after[1].take(positions)),
    )


def histories(steps: Iterable[Step]) -> tuple[list[Edit], list[Edit]]:
    """Return the edits that hold, oldest first, and those to redo, the next one last.

    Raises
    ------
    JournalError
        Steps contradict each other.
    """
    edits = {}
    done: list[EditKey] = []
    undone: list[EditKey] = []
    for step in steps:
        edits[step.edit.key] = step.edit
        move(done, undone, step.action, step.edit.key)
    return [edits[key] for key in done], [edits[key] for key in undone]


def move(done: list[Name], undone: list[Name], action: Action, edit: Name) -> None:
    """Let one step change what is next to be undone and redone, by any name of its edit.

    A new edit drops what was undone before it.

    Raises
    ------
    JournalError
        The edit is not next.
    """
    if action is Action.DO:
        undone.clear()
        done.append(edit)
        return
    source, target = (done, undone) if action is Action.UNDO else (undone, done)
    if not source or source[-1] != edit:
        raise JournalError(f"the journal of edits is damaged (edit {edit} was not next)")
    target.append(source.pop())


def may_set(kind: EditKind, setters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which pixels an edit of this kind may change, by who has set them."""
    match kind:
        case EditKind.STROKE:
            return np.ones(setters.shape, dtype=np.bool_)
        case EditKind.IMPORT:
            return np.asarray(origins_of(setters) != Origin.PERSON)
        case EditKind.RELEASE:
            return are_protected(setters)
        case EditKind.MODEL | EditKind.PROPAGATION:
            return ~are_protected(setters)


def rebased(edit: Edit, heirs: Heirs, held: Arrays) -> tuple[Edit | None, bool]:
    """Return an edit over another mask than it was made on, and whether it may do all that is left.

    What it sets it sets, where it may; what it takes back when undone is what stands there now.
    Others may have changed the mask, or the classes, by which it looks otherwise.

    Parameters
    ----------
    edit
        The edit.
    heirs
        What stood in the place of classes that were gone when it was made.
    held
        Mask and setters as the project holds them now.

    Returns
    -------
    Edit or None
        None where nothing is left to do.
    bool
        False where it may not set a pixel that it would.
    """
    change = edit.change
    before = (held[0].take(change.positions), held[1].take(change.positions))
    after, may = change.after, may_set(edit.kind, before[1])
    if edit.kind is EditKind.RELEASE:  # what others have set since is theirs to give back
        may &= ~differ(heirs.seen(*before), change.before)
        after = (before[0], setters_of_model(before[0]))
    is_left = differ(before, after)
    kept = may & is_left
    may_all = bool(may[is_left].all())
    if not kept.any():
        return None, may_all
    over = PixelChange(change.positions, before, after).only(kept)
    return replace(edit, pixels=packed(over, edit.shape)), may_all
