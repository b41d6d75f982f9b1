"""The rows that say which array row holds the mask of an image, and where it came from."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from napari_protoseg.errors import DamagedError
from napari_protoseg.project.arrays import (
    ArrayFolder,
    MaskArrays,
    array_name,
    masks_per_shard,
)
from napari_protoseg.project.edit_codec import PixelChange, packed
from napari_protoseg.project.edit_rows import (
    journal_ends,
    replace_pixels,
    set_folded,
)
from napari_protoseg.project.edits import EditKey
from napari_protoseg.project.image_rows import mask_shape
from napari_protoseg.project.records import (
    MaskSource,
    MaskSummary,
)
from napari_protoseg.project.times import found_time, recorded_time


def select_summaries(
    connection: sqlite3.Connection, image_id: int | None = None
) -> dict[int, MaskSummary]:
    """Return what is known of each mask, or of that of `image_id`, without reading it, by image."""
    rows = connection.execute(
        "SELECT image_id, corrected_by, corrected,"
        " round_id, bank_version, label_condition, recipe, created, labels FROM masks"
        " WHERE :id IS NULL OR image_id = :id",
        {"id": image_id},
    )
    return {
        int(image_id): MaskSummary(
            round_id=round_id,
            bank_version=bank_version,
            label_condition=label_condition,
            recipe_json=recipe_json,
            created=found_time(created),
            corrected_by=corrected_by,
            corrected=None if corrected is None else found_time(corrected),
            labels=None if labels is None else str(labels),
        )
        for (
            image_id,
            corrected_by,
            corrected,
            round_id,
            bank_version,
            label_condition,
            recipe_json,
            created,
            labels,
        ) in rows
    }


def write_entries(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    entries: Mapping[int, MaskArrays],
    created: datetime,
    last: Mapping[int, int] | None = None,
) -> None:
    """Write each to a row that no mask uses; record row and digest, and no other source yet.

    An entry holds the steps of the journal of its image, which is recorded as well: all, or those
    up to the number that `last` says.
    """
    sizes: dict[tuple[int, int], list[int]] = {}
    for image_id, entry in entries.items():
        height, width = entry.mask.shape
        sizes.setdefault((height, width), []).append(image_id)
    for (height, width), image_ids in sizes.items():
        array = array_name(height, width)
        rows = _write(connection, arrays, [entries[image_id] for image_id in image_ids])
        connection.executemany(
            "INSERT INTO masks (image_id, array, row, digest, label_condition, recipe, created)"
            " VALUES (?, ?, ?, ?, 'none', 'null', ?)"
            " ON CONFLICT (image_id) DO UPDATE SET array = excluded.array, row = excluded.row,"
            " digest = excluded.digest",
            [
                (image_id, array, row, entries[image_id].digest, recorded_time(created))
                for row, image_id in zip(rows, image_ids, strict=True)
            ],
        )
    for image_id, entry in entries.items():
        until = None if last is None else last[image_id]
        _record_folded(connection, image_id, until, is_corrected=entry.has_protected)


def record_sources(connection: sqlite3.Connection, sources: Mapping[int, MaskSource]) -> None:
    """Record what the masks of images came from, in the caller's transaction."""
    connection.executemany(
        "UPDATE masks SET round_id = ?, bank_version = ?, label_condition = ?, recipe = ?,"
        " created = ?, labels = ? WHERE image_id = ?",
        [
            (
                source.round_id,
                source.bank_version,
                source.label_condition,
                source.recipe_json,
                recorded_time(source.created),
                source.labels,
                image_id,
            )
            for image_id, source in sources.items()
        ],
    )


def record_taken(
    connection: sqlite3.Connection, image_id: int, edits: Mapping[EditKey, PixelChange]
) -> None:
    """Record what edits have really changed: those of a `HeldMask`."""
    shape = mask_shape(connection, image_id)
    for key, change in edits.items():
        replace_pixels(connection, image_id, key, packed(change, shape))


def forget_mask(connection: sqlite3.Connection, image_id: int) -> None:
    """Let an image have no mask any more: nobody has made what is left of it."""
    connection.execute("DELETE FROM masks WHERE image_id = ?", (image_id,))


def _record_folded(
    connection: sqlite3.Connection, image_id: int, last: int | None, *, is_corrected: bool
) -> None:
    """Record that the stored mask holds each step up to `last`, and who has corrected it by them.

    `last` None: all there are.
    """
    ends = journal_ends(connection, image_id)
    if ends is None:
        return
    until = ends[1] if last is None else last
    if ends[0] == until:
        return
    latest = connection.execute(
        "SELECT made.author, step.time FROM edits AS step JOIN edits AS made USING (image_id)"
        " WHERE image_id = ? AND made.number = step.edit AND step.number > ?"
        " AND step.number <= ? AND made.author IS NOT NULL ORDER BY step.number DESC LIMIT 1",
        (image_id, ends[0], until),
    ).fetchone()
    if not is_corrected:  # all that was set by hand or by an import is taken back
        latest = (None, None)
    if latest is not None:
        connection.execute(
            "UPDATE masks SET corrected_by = ?, corrected = ? WHERE image_id = ?",
            (*latest, image_id),
        )
    set_folded(connection, image_id, until)


def _write(
    connection: sqlite3.Connection, arrays: ArrayFolder, entries: Sequence[MaskArrays]
) -> list[int]:
    """Write masks of one size to rows that no recorded mask uses; return these, ascending.

    What cannot be written to some shards, of which one may be damaged, goes to others, then to
    those that no mask uses; if these are damaged, too, they are made anew.
    """
    height, width = entries[0].mask.shape
    per_shard = masks_per_shard(height, width)
    used = _used_rows(connection, height, width)
    tried: set[int] = set()

    def is_free(row: int) -> bool:
        return row not in used and row // per_shard not in tried

    def is_in_a_free_shard(row: int) -> bool:
        first = row - row % per_shard
        return used.isdisjoint(range(first, first + per_shard))

    for is_fit in (is_free, is_free, is_in_a_free_shard):
        rows = list(itertools.islice(filter(is_fit, itertools.count()), len(entries)))
        try:
            arrays.write(rows, entries)
        except DamagedError:
            tried |= {row // per_shard for row in rows}
            entries = [entry.unstaged for entry in entries]
        else:
            return rows
    arrays.write(rows, entries, anew=True)
    return rows


def _used_rows(connection: sqlite3.Connection, height: int, width: int) -> set[int]:
    """Return the rows of all recorded masks of a size, also where one names another array."""
    found = connection.execute(
        "SELECT row FROM masks WHERE array = ? OR image_id IN"
        " (SELECT id FROM images WHERE height = ? AND width = ?)",
        (array_name(height, width), height, width),
    )
    return {int(row) for (row,) in found}
