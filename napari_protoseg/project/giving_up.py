"""An image goes on without what is lost of its mask or its journal, and can be had from nowhere."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import LOST, ProjectError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_rows import select_steps, set_folded
from napari_protoseg.project.found_masks import FoundMask, find_stored, replayed
from napari_protoseg.project.inspection import journal_fault
from napari_protoseg.project.mask_changes import forget_work
from napari_protoseg.project.mask_rows import forget_mask, record_sources, write_entries
from napari_protoseg.project.records import Origin, StoredMask, no_source
from napari_protoseg.schema import UNLABELLED


def give_up(
    connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int, now: datetime
) -> int:
    """Let an image go on without what is lost, in the caller's transaction; see `Project`."""
    found = find_stored(connection, image_id)
    is_sound = journal_fault(connection, image_id) is None
    try:
        entry = found.pixels(arrays)
    except LOST:
        entry, is_sound = None, False
    try:
        source = found.source or no_source(now)
    except LOST:
        source, is_sound = no_source(now), False
    if is_sound:
        raise ProjectError(
            "nothing of its mask and its journal is lost",
            where=f"image {image_id}",
            remedy="Give up only what a check says so of.",
        )
    on_disk = None
    if entry is not None:
        on_disk = StoredMask(image_id, entry.mask, entry.confidence, entry.origins, source)
    rest, last = _with_steps(connection, found, on_disk)
    if rest is not None and on_disk is None:
        rest = replace(_by_hand(rest), source=no_source(now))
    if rest is None or rest.is_of_nobody:
        forget_mask(connection, image_id)
    else:
        if on_disk is None:
            set_folded(connection, image_id, 0)
        entries = {image_id: MaskArrays(rest.mask, rest.confidence, rest.setters)}
        write_entries(connection, arrays, entries, rest.source.created, {image_id: last})
        record_sources(connection, {image_id: rest.source})
    forget_work(connection, image_id)
    return 0 if rest is None else int(np.count_nonzero(_is_by_hand(rest)))


def _with_steps(
    connection: sqlite3.Connection, found: FoundMask, on_disk: StoredMask | None
) -> tuple[StoredMask | None, int]:
    """Return the mask on disk with its later steps, and the number of the last one that it holds.

    Without a mask on disk all steps of the journal are done over nothing. Where one cannot be
    read, none is.
    """
    first = 0 if found.ends is None or on_disk is None else found.ends[0]
    try:
        recorded = select_steps(connection, found.image_id, found.shape, after=first)
        if not recorded:
            return on_disk, first
        steps = [each.step for each in recorded]
        held = replayed(on_disk, found.image_id, found.shape, steps, found.heirs)
    except ProjectError:
        return on_disk, first
    return held.mask, found.last


def _is_by_hand(mask: StoredMask) -> NDArray[np.bool_]:
    is_propagated: NDArray[np.bool_] = mask.origins == Origin.PROPAGATED
    return mask.is_protected | is_propagated


def _by_hand(mask: StoredMask) -> StoredMask:
    """Return what people have set, propagated or imported of a mask, and nothing else."""
    stays = _is_by_hand(mask)
    return replace(
        mask,
        mask=np.where(stays, mask.mask, np.uint8(UNLABELLED)),
        setters=np.where(stays, mask.setters, np.uint8(Origin.NONE)),
        confidence=mask.is_protected.astype(np.float16),
    )
