"""The rows that say which array row holds the mask of an image, and where it came from."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays, array_name
from napari_protoseg.project.image_rows import require_image
from napari_protoseg.project.records import (
    PROTECTED,
    Correction,
    MaskSource,
    MaskSummary,
    Origin,
    PredictedMask,
    StoredMask,
)
from napari_protoseg.project.times import found_time, recorded_time
from napari_protoseg.schema import UNLABELLED, ClassSchema


def store_masks(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    masks: Sequence[PredictedMask],
    *,
    schema: ClassSchema,
    source: MaskSource,
) -> None:
    """Write `masks` to rows that none uses, then record them, in the caller's transaction.

    Pixels that a person has set, or that were imported, stay as they are.

    Raises
    ------
    ProjectError
        A mask does not fit its image or the schema.
    StorageError
        The disk is full or cannot be written.
    """
    entries: dict[int, MaskArrays] = {}
    for mask in masks:
        _require_fitting(connection, mask, schema)
        origins = np.where(mask.mask == UNLABELLED, Origin.NONE, Origin.MODEL).astype(np.uint8)
        entry = MaskArrays(mask.mask, mask.confidence, origins)
        # Only a corrected mask has pixels to keep; another may even be damaged.
        if _is_corrected(connection, mask.image_id):
            entry = _protecting(load_mask(connection, arrays, mask.image_id), entry)
        entries[mask.image_id] = entry
    _write_entries(connection, arrays, entries, source.created)
    connection.executemany(
        "UPDATE masks SET round_id = ?, bank_version = ?, label_condition = ?, recipe = ?,"
        " created = ? WHERE image_id = ?",
        [
            (
                source.round_id,
                source.bank_version,
                source.label_condition,
                source.recipe_json,
                recorded_time(source.created),
                image_id,
            )
            for image_id in entries
        ],
    )


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

    One that holds no such pixel any more is not a corrected one; where no model has made it
    either, the image has no mask then.

    Raises
    ------
    ProjectError
        A mask does not fit its image or the schema.
    StorageError
        The disk is full or cannot be written.
    """
    entries: dict[int, MaskArrays] = {}
    for correction in corrections:
        mask = correction.mask
        confidence = np.where(correction.is_set, np.float16(1), np.float16(0))
        origins = np.where(correction.is_set, correction.origin, Origin.NONE)
        if correction.base is not None:
            confidence = np.where(correction.is_set, confidence, correction.base.confidence)
            origins = np.where(correction.is_set, origins, correction.base.origins)
        fitting = PredictedMask(correction.image_id, mask, confidence)
        _require_fitting(connection, fitting, schema)
        entries[correction.image_id] = MaskArrays(mask, confidence, origins.astype(np.uint8))
    _write_entries(connection, arrays, entries, now)
    connection.executemany(
        "UPDATE masks SET corrected_by = ?, corrected = ? WHERE image_id = ?",
        [
            (person, recorded_time(now), image_id)
            if np.isin(entry.origins, PROTECTED).any()
            else (None, None, image_id)  # all that was set by hand is taken back
            for image_id, entry in entries.items()
        ],
    )
    # No model has made what is left then: a mask of nobody would never be made anew.
    connection.executemany(
        "DELETE FROM masks WHERE image_id = ? AND recipe = 'null' AND corrected IS NULL",
        [(image_id,) for image_id in entries],
    )


def select_summaries(connection: sqlite3.Connection) -> dict[int, MaskSummary]:
    """Return what is known of each mask without reading it, by image."""
    rows = connection.execute(
        "SELECT image_id, corrected_by, corrected,"
        " round_id, bank_version, label_condition, recipe, created FROM masks"
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
        ) in rows
    }


def _is_corrected(connection: sqlite3.Connection, image_id: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM masks WHERE image_id = ? AND corrected IS NOT NULL", (image_id,)
    )
    return found.fetchone() is not None


def _protecting(stored: StoredMask | None, entry: MaskArrays) -> MaskArrays:
    """Put the protected pixels of the current mask over those of a new one."""
    if stored is None or not stored.is_protected.any():
        return entry
    kept = stored.is_protected
    return MaskArrays(
        np.where(kept, stored.mask, entry.mask),
        np.where(kept, stored.confidence, entry.confidence),
        np.where(kept, stored.origins, entry.origins),
    )


def _write_entries(
    connection: sqlite3.Connection,
    arrays: ArrayFolder,
    entries: Mapping[int, MaskArrays],
    created: datetime,
) -> None:
    """Write each to a row that no mask uses; record row and digest, and no other source yet."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for image_id, entry in entries.items():
        height, width = entry.mask.shape
        sizes.setdefault((height, width), []).append(image_id)
    for (height, width), image_ids in sizes.items():
        array = array_name(height, width)
        rows = _free_rows(connection, array, len(image_ids))
        arrays.write(rows, [entries[image_id] for image_id in image_ids])
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


def load_mask(
    connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int
) -> StoredMask | None:
    """Return the mask of an image, or None where it has none.

    Raises
    ------
    ProjectError
        There is no such image, or its mask is damaged.
    StorageError
        The arrays cannot be read.
    """
    height, width = require_image(connection, image_id)
    found = connection.execute(
        "SELECT row, digest, round_id, bank_version, label_condition, recipe, created"
        " FROM masks WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    if found is None:
        return None
    row, digest, round_id, bank_version, label_condition, recipe_json, created = found
    entry = arrays.read(height, width, row)
    if entry.digest != digest:
        raise ProjectError(
            "the mask is damaged",
            where=f"image {image_id}",
            remedy="Restore the project folder from a copy."
            if _is_corrected(connection, image_id)
            else "Restore the project folder from a copy, or predict again.",
        )
    return StoredMask(
        image_id=image_id,
        mask=entry.mask,
        confidence=entry.confidence,
        origins=entry.origins,
        source=MaskSource(
            round_id=round_id,
            bank_version=bank_version,
            label_condition=label_condition,
            recipe_json=recipe_json,
            created=found_time(created),
        ),
    )


def _free_rows(connection: sqlite3.Connection, array: str, count: int) -> list[int]:
    """Return the first rows that no recorded mask uses, ascending."""
    used = {row for (row,) in connection.execute("SELECT row FROM masks WHERE array = ?", (array,))}
    return list(itertools.islice((row for row in itertools.count() if row not in used), count))


def _require_fitting(
    connection: sqlite3.Connection, mask: PredictedMask, schema: ClassSchema
) -> None:
    """Make sure that a mask has the size of its image, and values that are class ids."""
    size = require_image(connection, mask.image_id)
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
    strange = set(np.unique(mask.mask).tolist()) - {UNLABELLED, *schema.ids}
    if strange:
        raise ProjectError(
            f"its mask holds {sorted(strange)}, which are no class ids",
            where=where,
            remedy=f"The class ids are {list(schema.ids)}; 0 is unlabelled.",
        )
    if not np.all((mask.confidence >= 0) & (mask.confidence <= 1)):
        raise ProjectError(
            "its confidence leaves the range 0..1", where=where, remedy="Normalise it."
        )
