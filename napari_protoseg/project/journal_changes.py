"""Steps that enter the journal of an image, and the stored mask that catches up with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from napari_protoseg.errors import LOST
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_rows import (
    begin_journal,
    has_moved,
    insert_step,
    next_to_go,
    number_of,
    select_steps,
    select_unfolded,
    set_folded,
)
from napari_protoseg.project.edits import Action, Arrays, NewStep, Recorded, journal_of, rebased
from napari_protoseg.project.found_masks import (
    FoundMask,
    HeldMask,
    MaskState,
    find_mask,
    keep_taken,
)
from napari_protoseg.project.image_rows import require_image
from napari_protoseg.project.mask_rows import (
    forget_mask,
    record_sources,
    record_taken,
    write_entries,
)
from napari_protoseg.project.people_rows import select_people
from napari_protoseg.project.records import FreshConfidence, StoredMask
from napari_protoseg.project.schema_rows import select_heirs


class Outcome(Enum):
    """What has become of a step that was to be recorded."""

    AS_MADE = "as made"
    OVER_OTHERS = "over others"
    """Others have changed the mask or the classes meanwhile: the edit was made over what they have
    left."""
    THERE = "there"
    """Others have changed the mask meanwhile, and left nothing to do."""
    REFUSED = "refused"
    """Others have made an edit meanwhile, so this one is not the next to undo or redo, or nothing
    of it may be done any more."""


@dataclass(frozen=True)
class OpenedJournal:
    """The mask of an image that is opened to be edited, and all that can be undone.

    Parameters
    ----------
    image_id
        The image.
    shape
        Its height and width.
    stored
        Its mask with every step of the journal; None where it has none.
    steps
        The whole journal, in order.
    folded
        Number of the last step that the mask on disk holds.
    last
        Number of the last step.
    is_begun
        Whether the image has a journal, in which others tell what they change.
    people
        Setter of each person, by name.
    schema
        Version of the class schema by which the mask is seen.
    """

    image_id: int
    shape: tuple[int, int]
    stored: StoredMask | None
    steps: tuple[Recorded, ...]
    folded: int
    last: int
    is_begun: bool
    people: dict[str, int]
    schema: int


def find_journal(connection: sqlite3.Connection, found: FoundMask) -> OpenedJournal:
    """Return the journal of an image that is found in the same transaction, its mask not yet read.

    Raises
    ------
    ProjectError
        The journal is damaged.
    """
    with journal_of(found.image_id):
        steps = tuple(select_steps(connection, found.image_id, found.shape, found.heirs))
    folded, last = found.ends or (0, 0)
    return OpenedJournal(
        image_id=found.image_id,
        shape=found.shape,
        stored=None,
        steps=steps,
        folded=folded,
        last=last,
        is_begun=found.is_journaled,
        people=select_people(connection),
        schema=found.state.schema,
    )


def record_steps(
    connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int, steps: Sequence[NewStep]
) -> list[Outcome]:
    """Append steps to the journal of an image, in the caller's transaction.

    A step that is there already is not recorded again.

    Raises
    ------
    ProjectError
        There is no such image, or a step names a round that the project does not have.
    StorageError
        The disk is full or cannot be written.
    """
    require_image(connection, image_id)
    begin_journal(connection, image_id)
    outcomes = []
    for step in steps:
        if number_of(connection, image_id, step.key) is not None:
            outcomes.append(Outcome.AS_MADE)
        elif step.action is Action.DO:
            outcomes.append(_record_edit(connection, arrays, image_id, step))
        else:
            outcomes.append(_record_return(connection, image_id, step))
    return outcomes


@dataclass(frozen=True, eq=False)
class Fold:
    """The mask of an image with the steps of its journal, ready to be stored.

    Parameters
    ----------
    found
        What it was made of.
    held
        What that gives.
    entry
        What is to be stored; None where nothing is left of the mask.
    """

    found: FoundMask
    held: HeldMask
    entry: MaskArrays | None

    @classmethod
    def of(
        cls, found: FoundMask, arrays: ArrayFolder, confidence: FreshConfidence | None = None
    ) -> Fold:
        """Read the mask, and let it hold its later steps; it needs no transaction.

        Parameters
        ----------
        confidence
            Of a prediction that is among the steps; None keeps what is known.

        Raises
        ------
        ProjectError, StorageError
            As by `FoundMask.loaded`.
        """
        held = found.loaded(arrays, confidence)
        stored = held.mask
        if stored is None or stored.is_of_nobody:
            return cls(found, held, None)  # all that was drawn is undone again
        return cls(found, held, MaskArrays(stored.mask, stored.confidence, stored.setters))

    def store(
        self, connection: sqlite3.Connection, arrays: ArrayFolder, entry: MaskArrays | None
    ) -> bool:
        """Store it in the caller's transaction, `entry` being its own, `staged` or not.

        Returns
        -------
        bool
            False where others have stored another mask since, or changed the classes: it is to be
            made anew.

        Raises
        ------
        StorageError
            The disk is full or cannot be written.
        """
        image_id, last = self.found.image_id, self.found.last
        if MaskState.of(connection, image_id) != self.found.state:
            return False
        record_taken(connection, image_id, self.held.edits)
        if entry is None:
            forget_mask(connection, image_id)
            set_folded(connection, image_id, last)
            return True
        assert self.held.mask is not None
        source = self.held.mask.source
        write_entries(connection, arrays, {image_id: entry}, source.created, {image_id: last})
        record_sources(connection, {image_id: source})
        return True


def keep_all_taken(connection: sqlite3.Connection, arrays: ArrayFolder) -> None:
    """Let all edits know what they have really taken away, before the classes change."""
    for image_id in select_unfolded(connection):
        try:
            keep_taken(connection, arrays, image_id)
        except LOST:
            continue  # whoever opens the image is told that it is lost, and no other waits


def _record_edit(
    connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int, step: NewStep
) -> Outcome:
    if not has_moved(connection, image_id, step):
        insert_step(connection, image_id, step)
        return Outcome.AS_MADE
    found = find_mask(connection, image_id)
    held = found.loaded(arrays).mask
    heirs = select_heirs(connection, step.schema)
    edit, may_all = rebased(step.edit, heirs, _arrays(held, found.shape))
    if edit is None:
        return Outcome.THERE if may_all else Outcome.REFUSED
    if edit.sources is not None:
        edit = replace(edit, sources=(None if held is None else held.source, edit.sources[1]))
    insert_step(connection, image_id, replace(step, edit=edit))
    is_as_made = step.since is None and edit.pixels == step.edit.pixels
    return Outcome.AS_MADE if is_as_made else Outcome.OVER_OTHERS


def _arrays(mask: StoredMask | None, shape: tuple[int, int]) -> Arrays:
    if mask is not None:
        return mask.mask, mask.setters
    nothing = np.zeros(shape, dtype=np.uint8)
    return nothing, nothing


def _record_return(connection: sqlite3.Connection, image_id: int, step: NewStep) -> Outcome:
    """Append an undo or a redo, if its edit is the next one."""
    number = number_of(connection, image_id, step.edit.key)
    with journal_of(image_id):
        is_next = number is not None and number == next_to_go(connection, image_id, step.action)
    if not is_next:
        return Outcome.REFUSED
    insert_step(connection, image_id, step)
    return Outcome.AS_MADE
