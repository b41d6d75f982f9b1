"""The rows of images and their image-level labels."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.paths import found_path, recorded_path
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.schema import ClassSchema

_PRESENT, _ABSENT, _UNKNOWN = 1, 0, -1


def insert_images(
    connection: sqlite3.Connection,
    records: Iterable[ImageRecord],
    *,
    folder: Path,
    schema: ClassSchema,
    label_source: str,
) -> None:
    """Insert `records` with their labels, within the caller's transaction.

    Raises
    ------
    ProjectError
        A label does not fit the schema, or an image is in the project already.
    """
    for record in records:
        _check_label(record, schema)
        path = recorded_path(record.path, folder)
        try:
            row = connection.execute(
                "INSERT INTO images (path, content_hash, width, height, micrometres_per_pixel,"
                " case_name, split, mask_path) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    path,
                    record.content_hash,
                    record.width,
                    record.height,
                    record.micrometres_per_pixel,
                    record.case,
                    record.split.value,
                    recorded_path(record.mask_path, folder) if record.mask_path else None,
                ),
            )
        except sqlite3.IntegrityError as error:
            raise _refusal(connection, record, path) from error
        connection.executemany(
            "INSERT INTO labels (image_id, class_id, presence, source) VALUES (?, ?, ?, ?)",
            [
                (row.lastrowid, class_id, int(presence), label_source)
                for class_id, presence in zip(schema.ids, record.label, strict=True)
                if presence != _UNKNOWN
            ],
        )


def select_images(
    connection: sqlite3.Connection, *, folder: Path, schema: ClassSchema, split: Split | None
) -> tuple[ImageRecord, ...]:
    """Return the images of `split`, or all, in the order of their recorded paths."""
    positions = {class_id: position for position, class_id in enumerate(schema.ids)}
    labels: dict[int, list[int]] = {}
    for image_id, class_id, presence in connection.execute(
        "SELECT image_id, class_id, presence FROM labels"
    ):
        if class_id in positions:
            label = labels.setdefault(image_id, [_UNKNOWN] * len(positions))
            label[positions[class_id]] = presence
    unknown = (_UNKNOWN,) * len(positions)
    return tuple(
        ImageRecord(
            id=image_id,
            path=found_path(path, folder),
            content_hash=content_hash,
            width=width,
            height=height,
            micrometres_per_pixel=micrometres_per_pixel,
            case=case,
            split=Split(split_value),
            mask_path=None if mask_path is None else found_path(mask_path, folder),
            label=tuple(labels.get(image_id, unknown)),
        )
        for (
            image_id,
            path,
            content_hash,
            width,
            height,
            micrometres_per_pixel,
            case,
            split_value,
            mask_path,
        ) in connection.execute(
            "SELECT id, path, content_hash, width, height, micrometres_per_pixel, case_name,"
            " split, mask_path FROM images WHERE :split IS NULL OR split = :split ORDER BY path",
            {"split": None if split is None else split.value},
        )
    )


def _check_label(record: ImageRecord, schema: ClassSchema) -> None:
    if len(record.label) != len(schema.ids):
        raise ProjectError(
            f"{len(record.label)} labels for {len(schema.ids)} classes",
            where=record.path,
            remedy=f"Give one for each of: {', '.join(schema.names)}.",
        )
    if not set(record.label) <= {_PRESENT, _ABSENT, _UNKNOWN}:
        raise ProjectError(
            f"the labels {record.label} hold something else than 1, 0 and -1",
            where=record.path,
            remedy="1 is present, 0 absent, -1 unknown.",
        )


def _refusal(connection: sqlite3.Connection, record: ImageRecord, path: str) -> ProjectError:
    """Say why the row of `record` was refused."""
    twin = connection.execute(
        "SELECT path FROM images WHERE path = ? OR content_hash = ?", (path, record.content_hash)
    ).fetchone()
    if twin is None:
        return ProjectError(
            f"{record.width} x {record.height} px at {record.micrometres_per_pixel} micrometres "
            "per pixel is no image",
            where=record.path,
            remedy="Width, height and pixel size are above zero.",
        )
    what = "this path" if twin[0] == path else f"the same image, as {twin[0]!r},"
    return ProjectError(
        f"{what} is in the project already",
        where=record.path,
        remedy="Leave one of the two out; nothing was added.",
    )
