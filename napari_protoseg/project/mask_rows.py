"""The rows that say which array row holds the mask of an image, and where it came from."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence

import numpy as np

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays, array_name
from napari_protoseg.project.records import MaskSource, Origin, PredictedMask, StoredMask
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

    Raises
    ------
    ProjectError
        A mask does not fit its image or the schema.
    StorageError
        The disk is full or cannot be written.
    """
    sizes: dict[tuple[int, int], list[tuple[int, MaskArrays]]] = {}
    for mask in masks:
        size = _checked_size(connection, mask, schema)
        origins = np.where(mask.mask == UNLABELLED, Origin.NONE, Origin.MODEL).astype(np.uint8)
        entry = MaskArrays(mask.mask, mask.confidence, origins)
        sizes.setdefault(size, []).append((mask.image_id, entry))
    for (height, width), entries in sizes.items():
        array = array_name(height, width)
        rows = _free_rows(connection, array, len(entries))
        arrays.write(rows, [entry for _, entry in entries])
        connection.executemany(
            "INSERT INTO masks (image_id, array, row, digest, round_id, label_condition, recipe,"
            " created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (image_id) DO UPDATE SET array = excluded.array, row = excluded.row,"
            " digest = excluded.digest, round_id = excluded.round_id,"
            " label_condition = excluded.label_condition, recipe = excluded.recipe,"
            " created = excluded.created",
            [
                (
                    image_id,
                    array,
                    row,
                    entry.digest,
                    source.round_id,
                    source.label_condition,
                    source.recipe_json,
                    recorded_time(source.created),
                )
                for row, (image_id, entry) in zip(rows, entries, strict=True)
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
    height, width = _image_size(connection, image_id)
    found = connection.execute(
        "SELECT row, digest, round_id, label_condition, recipe, created FROM masks"
        " WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    if found is None:
        return None
    row, digest, round_id, label_condition, recipe_json, created = found
    entry = arrays.read(height, width, row)
    if entry.digest != digest:
        raise ProjectError(
            "the mask is damaged",
            where=f"image {image_id}",
            remedy="Restore the project folder from a copy, or predict again.",
        )
    return StoredMask(
        image_id=image_id,
        mask=entry.mask,
        confidence=entry.confidence,
        origins=entry.origins,
        source=MaskSource(
            round_id=round_id,
            label_condition=label_condition,
            recipe_json=recipe_json,
            created=found_time(created),
        ),
    )


def _free_rows(connection: sqlite3.Connection, array: str, count: int) -> list[int]:
    """Return the first rows that no recorded mask uses, ascending."""
    used = {row for (row,) in connection.execute("SELECT row FROM masks WHERE array = ?", (array,))}
    return list(itertools.islice((row for row in itertools.count() if row not in used), count))


def _image_size(connection: sqlite3.Connection, image_id: int) -> tuple[int, int]:
    size = connection.execute(
        "SELECT height, width FROM images WHERE id = ?", (image_id,)
    ).fetchone()
    if size is None:
        raise ProjectError(
            "no such image in the project", where=f"image {image_id}", remedy="Add it first."
        )
    return int(size[0]), int(size[1])


def _checked_size(
    connection: sqlite3.Connection, mask: PredictedMask, schema: ClassSchema
) -> tuple[int, int]:
    """Return height and width of the image, once everything about its mask fits."""
    size = _image_size(connection, mask.image_id)
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
    return size
