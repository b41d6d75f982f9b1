"""The rows of images and their image-level labels."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from napari_protoseg.errors import DamagedError, ProjectError
from napari_protoseg.project.paths import found_path, recorded_path
from napari_protoseg.project.records import MOST_PIXELS, ImageRecord, Split
from napari_protoseg.project.sqlite_errors import DAMAGED
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
        _check_label(record.label, schema, record.path)
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


def select_present(connection: sqlite3.Connection, schema: ClassSchema, split: Split) -> set[int]:
    """Return the classes of `schema` that at least one image of `split` is known to hold."""
    query = (
        "SELECT 1 FROM labels JOIN images ON images.id = labels.image_id"
        " WHERE class_id = ? AND presence = ? AND split = ? LIMIT 1"
    )
    return {
        class_id
        for class_id in schema.ids
        if connection.execute(query, (class_id, _PRESENT, split.value)).fetchone() is not None
    }


def select_images(
    connection: sqlite3.Connection,
    *,
    folder: Path,
    schema: ClassSchema,
    split: Split | None = None,
    image_id: int | None = None,
) -> tuple[ImageRecord, ...]:
    """Return the images of `split`, that of `image_id`, or all, ordered by recorded path."""
    positions = {class_id: position for position, class_id in enumerate(schema.ids)}
    labels: dict[int, list[int]] = {}
    for labelled_id, class_id, presence in connection.execute(
        "SELECT image_id, class_id, presence FROM labels WHERE :id IS NULL OR image_id = :id",
        {"id": image_id},
    ):
        if class_id in positions:
            label = labels.setdefault(labelled_id, [_UNKNOWN] * len(positions))
            label[positions[class_id]] = presence
    unknown = (_UNKNOWN,) * len(positions)
    return tuple(
        ImageRecord(
            id=found_id,
            path=found_path(path, folder),
            content_hash=content_hash,
            width=width,
            height=height,
            micrometres_per_pixel=micrometres_per_pixel,
            case=case,
            split=Split(split_value),
            mask_path=None if mask_path is None else found_path(mask_path, folder),
            label=tuple(labels.get(found_id, unknown)),
        )
        for (
            found_id,
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
            " split, mask_path FROM images WHERE (:split IS NULL OR split = :split)"
            " AND (:id IS NULL OR id = :id) ORDER BY path",
            {"split": None if split is None else split.value, "id": image_id},
        )
    )


def update_labels(
    connection: sqlite3.Connection,
    labels: Mapping[int, Sequence[int]],
    *,
    schema: ClassSchema,
    source: str,
) -> None:
    """Set the labels of images; only what changes gets the new source.

    Raises
    ------
    ProjectError
        There is no such image, or a label does not fit the schema.
    """
    for image_id, label in labels.items():
        _check_label(label, schema, f"image {image_id}")
        require_image(connection, image_id)
        known = dict(
            connection.execute(
                "SELECT class_id, presence FROM labels WHERE image_id = ?", (image_id,)
            ).fetchall()
        )
        for class_id, presence in zip(schema.ids, label, strict=True):
            if presence == known.get(class_id, _UNKNOWN):
                continue
            connection.execute(
                "DELETE FROM labels WHERE image_id = ? AND class_id = ?", (image_id, class_id)
            )
            if presence != _UNKNOWN:
                connection.execute(
                    "INSERT INTO labels (image_id, class_id, presence, source) VALUES (?, ?, ?, ?)",
                    (image_id, class_id, int(presence), source),
                )


def select_truth(
    connection: sqlite3.Connection, folder: Path, image_ids: Sequence[int] | None = None
) -> set[Path]:
    """Return the files of the true masks of images, or of all."""
    rows = connection.execute("SELECT id, mask_path FROM images WHERE mask_path IS NOT NULL")
    wanted = None if image_ids is None else set(image_ids)
    return {found_path(path, folder) for k, path in rows if wanted is None or k in wanted}


def update_truth(
    connection: sqlite3.Connection, masks: Mapping[int, Path | None], *, folder: Path
) -> None:
    """Give images their true masks, to validate on; None takes a mask away, no more.

    Raises
    ------
    ProjectError
        There is no such image.
    """
    for image_id, path in masks.items():
        require_image(connection, image_id)
        if path is None:
            connection.execute("UPDATE images SET mask_path = NULL WHERE id = ?", (image_id,))
            continue
        connection.execute(
            "UPDATE images SET mask_path = ?, split = ? WHERE id = ?",
            (recorded_path(path, folder), Split.VALIDATION.value, image_id),
        )


def update_paths(
    connection: sqlite3.Connection, paths: Mapping[int, Path], *, folder: Path
) -> None:
    """Record where images lie now.

    Raises
    ------
    ProjectError
        There is no such image, or another one lies there.
    """
    for image_id in paths:
        require_image(connection, image_id)
        # They may have changed places: no two are at one path on the way.
        connection.execute("UPDATE images SET path = ? WHERE id = ?", (f"\n{image_id}", image_id))
    for image_id, path in paths.items():
        place = recorded_path(path, folder)
        try:
            connection.execute("UPDATE images SET path = ? WHERE id = ?", (place, image_id))
        except sqlite3.IntegrityError as error:
            raise ProjectError(
                "another image of the project lies there",
                where=path,
                remedy="Nothing was changed; look for the images in another folder.",
            ) from error


def update_split(connection: sqlite3.Connection, image_ids: Collection[int], split: Split) -> None:
    """Say what images are for.

    Raises
    ------
    ProjectError
        There is no such image.
    """
    for image_id in image_ids:
        require_image(connection, image_id)
        connection.execute("UPDATE images SET split = ? WHERE id = ?", (split.value, image_id))


def require_image(connection: sqlite3.Connection, image_id: int) -> tuple[int, int]:
    """Return height and width of an image.

    Raises
    ------
    ProjectError
        There is no such image.
    """
    size = connection.execute(
        "SELECT height, width FROM images WHERE id = ?", (image_id,)
    ).fetchone()
    if size is None:
        raise ProjectError(
            "no such image in the project", where=f"image {image_id}", remedy="Add it first."
        )
    return int(size[0]), int(size[1])


def mask_shape(connection: sqlite3.Connection, image_id: int) -> tuple[int, int]:
    """Return the shape of the mask of an image.

    Raises
    ------
    ProjectError
        There is no such image.
    DamagedError
        It is larger than any that has a mask.
    """
    height, width = require_image(connection, image_id)
    if height * width > MOST_PIXELS:
        raise DamagedError(
            f"its size is damaged ({width:,} x {height:,} pixels)",
            where=f"image {image_id}",
            remedy=DAMAGED,
        )
    return height, width


def _check_label(label: Sequence[int], schema: ClassSchema, where: str | Path) -> None:
    if len(label) != len(schema.ids):
        raise ProjectError(
            f"{len(label)} labels for {len(schema.ids)} classes",
            where=where,
            remedy=f"Give one for each of: {', '.join(schema.names)}.",
        )
    if not set(label) <= {_PRESENT, _ABSENT, _UNKNOWN}:
        raise ProjectError(
            f"the labels {tuple(label)} hold something else than 1, 0 and -1",
            where=where,
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
