"""New masks of whole images, from a model or an import: stored, and steps of journals."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import LOST, ProjectError, ProtosegError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_codec import PixelChange
from napari_protoseg.project.edit_rows import (
    forget_journal,
    insert_step,
    new_writer,
)
from napari_protoseg.project.edits import Action, Edit, EditKey, EditKind, Step, difference
from napari_protoseg.project.found_masks import FoundMask, HeldMask
from napari_protoseg.project.mask_rows import (
    forget_mask,
    record_sources,
    record_taken,
    write_entries,
)
from napari_protoseg.project.mask_values import leaves_range, others
from napari_protoseg.project.records import (
    MaskSource,
    Origin,
    PredictedMask,
    StoredMask,
    setters_of_model,
)
from napari_protoseg.project.review_rows import replace_review
from napari_protoseg.project.times import recorded_time
from napari_protoseg.schema import UNLABELLED, ClassSchema


@dataclass(frozen=True)
class WrittenMasks:
    """What has become of masks of a model that were to be stored.

    Parameters
    ----------
    left
        Why the current masks of some images are left as they are, by image: they are lost, and
        work of people is in them.
    without_redo
        Images whose masks were lost and are made again, where people can no longer redo what they
        had undone.
    """

    left: Mapping[int, ProtosegError]
    without_redo: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class NewMask:
    """What a model or an import makes the current mask of an image, ready to be stored.

    Parameters
    ----------
    found
        What it was made of.
    entry
        What is to be stored.
    taken
        What edits over classes that are gone have really changed, to be recorded before.
    edit
        Its step in the journal; None without a journal, or where it changes nothing.
    is_lost
        Whether the mask before it is damaged or gone, so that nothing before it can be undone.
    source
        What a mask comes from that an import goes over, which a step of the journal may have
        changed; None leaves what is recorded.
    is_other
        Whether it is another mask than the one that was found.
    """

    found: FoundMask
    entry: MaskArrays
    taken: Mapping[EditKey, PixelChange]
    edit: Edit | None
    is_lost: bool = False
    source: MaskSource | None = None
    is_other: bool = True

    @property
    def image_id(self) -> int:
        """The image."""
        return self.found.image_id

    @classmethod
    def of_model(
        cls,
        found: FoundMask,
        arrays: ArrayFolder,
        mask: PredictedMask,
        source: MaskSource,
        schema: ClassSchema,
        *,
        is_alone: bool,
    ) -> Self:
        """Put what a person has set, or was imported, over a mask of a model.

        A mask that is damaged or gone is given up, with its journal and what was said of it in
        review, unless it is irreplaceable, where it `is_alone`: where nobody can be writing what
        was read.

        Raises
        ------
        ProjectError
            The mask does not fit its image or the schema.
        DamagedError, MissingError
            The one before is damaged or gone.
        StorageError
            That cannot be read.
        """
        _require_fitting(mask, found.shape, schema)
        entry = MaskArrays(mask.mask, mask.confidence, setters_of_model(mask.mask))
        # Only a corrected mask has pixels to keep; another may even be damaged.
        if not (found.is_journaled or found.state.is_corrected or found.is_accepted):
            return cls(found, entry, {}, None)
        try:
            held, is_lost = found.loaded(arrays), False
        except LOST:
            if not is_alone or found.is_irreplaceable:
                raise
            held, is_lost = HeldMask(None, {}), True
        stored = found.seen_of(held.mask)
        entry = _protecting(stored, entry)
        if held.mask is not None and found.heirs:
            stored, entry = held.mask, found.heirs.kept(held.mask, entry, protected=True)
        edit = None
        if found.is_journaled:
            sources = (None if stored is None else stored.source, source)
            edit = _edit_of(EditKind.MODEL, stored, entry, source.created, sources=sources)
        return cls(found, entry, held.edits, edit, is_lost)

    @classmethod
    def of_import(
        cls,
        found: FoundMask,
        arrays: ArrayFolder,
        mask: NDArray[np.uint8],
        person: str,
        now: datetime,
        schema: ClassSchema,
    ) -> Self:
        """Put the labelled pixels of a mask over those there are, except over a person's.

        Errors as by `of_model`.
        """
        is_set = mask != UNLABELLED
        confidence = is_set.astype(np.float16)
        _require_fitting(PredictedMask(found.image_id, mask, confidence), found.shape, schema)
        setters = np.where(is_set, np.uint8(Origin.IMPORTED), np.uint8(Origin.NONE))
        entry = MaskArrays(mask, confidence, setters)
        held = found.loaded(arrays)
        stored = found.seen_of(held.mask)
        if stored is not None:
            entry = _keeping(stored, ~is_set | (stored.origins == Origin.PERSON), entry)
        if held.mask is not None and found.heirs:
            stored, entry = held.mask, found.heirs.kept(held.mask, entry)
        edit = None
        if found.is_journaled:
            edit = _edit_of(EditKind.IMPORT, stored, entry, now, author=person)
        source = None if held.mask is None else held.mask.source
        is_other = stored is None or not (
            np.array_equal(stored.mask, entry.mask)
            and np.array_equal(stored.setters, entry.origins)
        )
        return cls(found, entry, held.edits, edit, source=source, is_other=is_other)

    def enter_journal(self, connection: sqlite3.Connection) -> None:
        """Record what the journal is to know of it, in the caller's transaction."""
        if self.is_lost:
            forget_work(connection, self.image_id)
        record_taken(connection, self.image_id, self.taken)
        if self.edit is not None:
            key, time = self.edit.key, self.edit.time
            step = Step(key=key, action=Action.DO, edit=self.edit, time=time)
            insert_step(connection, self.image_id, step)


def forget_work(connection: sqlite3.Connection, image_id: int) -> None:
    """Let go of the journal of a lost mask, and of its review: nobody has seen the next one."""
    forget_journal(connection, image_id)
    replace_review(connection, image_id, None)


def store_masks(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    made: Sequence[NewMask],
    entries: Mapping[int, MaskArrays],
    sources: Mapping[int, MaskSource],
    created: datetime,
) -> None:
    """Write masks of a model to rows that none uses, then record them, in the caller's transaction.

    `entries` are their own, `staged` or not, by image; `sources` may be of more.

    Raises
    ------
    StorageError
        The disk is full or cannot be written.
    """
    for new in made:
        new.enter_journal(connection)
    write_entries(connection, arrays, entries, created)
    record_sources(connection, {new.image_id: sources[new.image_id] for new in made})


def store_imports(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    made: Sequence[NewMask],
    entries: Mapping[int, MaskArrays],
    *,
    person: str,
    now: datetime,
) -> None:
    """Store masks with what an import has brought, as `store_masks` does.

    Where the import says nothing, nor has anybody else, the image has no mask then.
    """
    for new in made:
        new.enter_journal(connection)
    write_entries(connection, arrays, entries, now)
    record_sources(connection, {new.image_id: new.source for new in made if new.source is not None})
    connection.executemany(
        "UPDATE masks SET corrected_by = ?, corrected = ? WHERE image_id = ?",
        [
            (person, recorded_time(now), new.image_id)
            if new.entry.has_protected
            else (None, None, new.image_id)  # all that was set by hand is taken back
            for new in made
            if new.is_other  # what is imported once more corrects nothing
        ],
    )
    for new in made:
        is_of_model = new.source is not None and new.source.is_of_model
        if not (is_of_model or new.entry.origins.any()):
            forget_mask(connection, new.image_id)  # one of nobody would never be made anew


def _require_fitting(mask: PredictedMask, size: tuple[int, int], schema: ClassSchema) -> None:
    """Make sure that a mask has the size of its image, and values that are class ids."""
    where = f"image {mask.image_id}"
    for name, part, dtype in (
        ("mask", mask.mask, np.uint8),
        ("confidence", mask.confidence, np.float16),
    ):
        if part.shape != size or part.dtype != dtype:
            raise ProjectError(
                f"its {name} is {part.dtype} {part.shape}",
                where=where,
                remedy=f"It must be {np.dtype(dtype)} {size}, as the image is.",
            )
    strange = others(mask.mask, (UNLABELLED, *schema.ids))
    if strange:
        raise ProjectError(
            f"its mask holds {strange}, which are no class ids",
            where=where,
            remedy=f"The class ids are {list(schema.ids)}; 0 is unlabelled.",
        )
    if leaves_range(mask.confidence):
        raise ProjectError(
            "its confidence leaves the range 0..1", where=where, remedy="Normalise it."
        )


def _protecting(stored: StoredMask | None, entry: MaskArrays) -> MaskArrays:
    """Put the protected pixels of the current mask over those of a new one."""
    if stored is None or not stored.is_protected.any():
        return entry
    return _keeping(stored, stored.is_protected, entry)


def _keeping(stored: StoredMask, kept: NDArray[np.bool_], entry: MaskArrays) -> MaskArrays:
    """Put some pixels of the current mask over those of a new one."""
    return MaskArrays(
        np.where(kept, stored.mask, entry.mask),
        np.where(kept, stored.confidence, entry.confidence),
        np.where(kept, stored.setters, entry.origins),
    )


def _edit_of(
    kind: EditKind,
    stored: StoredMask | None,
    entry: MaskArrays,
    time: datetime,
    sources: tuple[MaskSource | None, MaskSource] | None = None,
    author: str | None = None,
) -> Edit | None:
    """Return what a new mask changes; None where nothing."""
    shape = (entry.mask.shape[0], entry.mask.shape[1])
    nothing = np.zeros(shape, dtype=np.uint8)
    before = (nothing, nothing) if stored is None else (stored.mask, stored.setters)
    change = difference(before, (entry.mask, entry.origins))
    if change.positions.size == 0:
        return None
    key = EditKey(new_writer(), 1)
    return Edit.of(
        change, key=key, kind=kind, author=author, time=time, shape=shape, sources=sources
    )
