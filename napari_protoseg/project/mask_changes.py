"""New masks of whole images, from a model, a person or an import: stored, and steps of journals."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_rows import (
    forget_journal,
    insert_step,
    journal_ends,
    new_writer,
)
from napari_protoseg.project.edits import Action, Edit, EditKey, EditKind, Step, difference
from napari_protoseg.project.mask_rows import (
    is_corrected,
    keep_taken,
    load_held,
    load_mask,
    record_sources,
    require_fitting,
    write_entries,
)
from napari_protoseg.project.people_rows import person_setter
from napari_protoseg.project.records import (
    Correction,
    MaskSource,
    Origin,
    PredictedMask,
    StoredMask,
    setters_of_model,
)
from napari_protoseg.project.schema_rows import select_heirs
from napari_protoseg.project.times import recorded_time
from napari_protoseg.schema import ClassSchema


def of_model(mask: PredictedMask) -> MaskArrays:
    """Return what is stored of a mask that fits its image, where nobody has set a pixel."""
    return MaskArrays(mask.mask, mask.confidence, setters_of_model(mask.mask))


def store_masks(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    masks: Sequence[PredictedMask],
    made: Mapping[int, MaskArrays],
    *,
    schema: ClassSchema | None,
    source: MaskSource,
    labels: Mapping[int, str] | None = None,
) -> None:
    """Write `masks` to rows that none uses, then record them, in the caller's transaction.

    Pixels that a person has set, or that were imported, stay as they are. `made` is what
    `of_model` makes of each mask, by image. `schema` is None where all are known to fit.

    Raises
    ------
    ProjectError
        A mask does not fit its image or the schema.
    StorageError
        The disk is full or cannot be written.
    """
    entries: dict[int, MaskArrays] = {}
    sources = {m.image_id: source for m in masks}
    if labels is not None:
        sources = {i: replace(source, labels=labels.get(i)) for i in sources}
    for mask in masks:
        if schema is not None:
            require_fitting(connection, mask, schema)
        entry = made[mask.image_id]
        journaled = journal_ends(connection, mask.image_id) is not None
        # Only a corrected mask has pixels to keep; another may even be damaged.
        if journaled or is_corrected(connection, mask.image_id):
            stored = _replaceable(connection, arrays, mask.image_id)
            keep_taken(connection, arrays, mask.image_id)
            entry = _protecting(stored, entry)
            if stored is not None:
                stored, entry = _with_gone(
                    connection, arrays, mask.image_id, stored, entry, protected=True
                )
            if journaled:
                before = None if stored is None else stored.source
                _insert_edit(
                    connection,
                    mask.image_id,
                    EditKind.MODEL,
                    stored,
                    entry,
                    source.created,
                    sources=(before, sources[mask.image_id]),
                )
        entries[mask.image_id] = entry
    write_entries(connection, arrays, entries, source.created)
    record_sources(connection, sources)


def store_corrections(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    corrections: Sequence[Correction],
    *,
    schema: ClassSchema,
    person: str,
    now: datetime,
) -> None:
    """Store masks that a person has set pixels of, in the caller's transaction.

    An import leaves the pixels that a person has set as they are. A mask that holds no pixel of a
    person or an import any more is not a corrected one; where no model has made it either, and
    it has no journal, the image has no mask then.

    Raises
    ------
    ProjectError
        A mask does not fit its image or the schema.
    StorageError
        The disk is full or cannot be written.
    """
    entries: dict[int, MaskArrays] = {}
    setter = person_setter(connection, person)
    for correction in corrections:
        mask, is_set = correction.mask, correction.is_set
        confidence = np.where(is_set, np.float16(1), np.float16(0))
        of_set = setter if correction.origin is Origin.PERSON else correction.origin
        setters = np.where(is_set, np.uint8(of_set), np.uint8(Origin.NONE))
        if correction.base is not None:
            confidence = np.where(is_set, confidence, correction.base.confidence)
            setters = np.where(is_set, setters, correction.base.setters)
        fitting = PredictedMask(correction.image_id, mask, confidence)
        require_fitting(connection, fitting, schema)
        entry = MaskArrays(mask, confidence, setters)
        is_import = correction.origin is Origin.IMPORTED
        journaled = journal_ends(connection, correction.image_id) is not None
        stored = None
        if is_import or journaled:
            stored = load_mask(connection, arrays, correction.image_id)
            keep_taken(connection, arrays, correction.image_id)
        if is_import and stored is not None:  # which may have changed since the base was read
            entry = _keeping(stored, ~is_set | (stored.origins == Origin.PERSON), entry)
        stored, entry = _with_gone(connection, arrays, correction.image_id, stored, entry)
        if journaled:
            kind = EditKind.IMPORT if is_import else EditKind.STROKE
            _insert_edit(connection, correction.image_id, kind, stored, entry, now, author=person)
        entries[correction.image_id] = entry
    write_entries(connection, arrays, entries, now)
    connection.executemany(
        "UPDATE masks SET corrected_by = ?, corrected = ? WHERE image_id = ?",
        [
            (person, recorded_time(now), image_id)
            if entry.has_protected
            else (None, None, image_id)  # all that was set by hand is taken back
            for image_id, entry in entries.items()
        ],
    )
    # No model has made what is left then: a mask of nobody would never be made anew.
    connection.executemany(
        "DELETE FROM masks WHERE image_id = ? AND recipe = 'null' AND corrected IS NULL"
        " AND image_id NOT IN (SELECT image_id FROM journals)",
        [(image_id,) for image_id in entries],
    )


def _with_gone(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    image_id: int,
    stored: StoredMask | None,
    entry: MaskArrays,
    *,
    protected: bool = False,
) -> tuple[StoredMask | None, MaskArrays]:
    """Return the current and a new mask with the pixels of classes that are gone in both."""
    heirs = select_heirs(connection)
    if not heirs:
        return stored, entry
    held = load_held(connection, arrays, image_id).mask
    return held, entry if held is None else heirs.kept(held, entry, protected=protected)


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


def _replaceable(
    connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int
) -> StoredMask | None:
    """Return the current mask, or None where it is damaged and nobody has set pixels of it.

    What could be undone is then gone with it.
    """
    ends = journal_ends(connection, image_id)
    try:
        return load_mask(connection, arrays, image_id)
    except ProjectError:
        if is_corrected(connection, image_id) or ends is None or ends[0] != ends[1]:
            raise
        forget_journal(connection, image_id)
        return None


def _insert_edit(
    connection: sqlite3.Connection,
    image_id: int,
    kind: EditKind,
    stored: StoredMask | None,
    entry: MaskArrays,
    time: datetime,
    sources: tuple[MaskSource | None, MaskSource] | None = None,
    author: str | None = None,
) -> None:
    """Append to the journal of an image what its new mask changes, if anything."""
    shape = (entry.mask.shape[0], entry.mask.shape[1])
    nothing = np.zeros(shape, dtype=np.uint8)
    before = (nothing, nothing) if stored is None else (stored.mask, stored.setters)
    change = difference(before, (entry.mask, entry.origins))
    if change.positions.size == 0:
        return
    key = EditKey(new_writer(), 1)
    edit = Edit.of(
        change, key=key, kind=kind, author=author, time=time, shape=shape, sources=sources
    )
    step = Step(key=key, action=Action.DO, edit=edit, time=time, since=0)
    insert_step(connection, image_id, step)
