"""The rows of what a person decides: muted prototypes, the recipe, how masks were found."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.image_rows import require_image
from napari_protoseg.project.records import ReviewStatus


def select_muted(connection: sqlite3.Connection, bank_version: int) -> frozenset[int]:
    """Return the muted prototypes of a bank, by their rows in it."""
    rows = connection.execute(
        "SELECT prototype FROM muted_prototypes WHERE bank_version = ?", (bank_version,)
    )
    return frozenset(int(prototype) for (prototype,) in rows)


def replace_muted(
    connection: sqlite3.Connection, bank_version: int, muted: Collection[int]
) -> None:
    """Make `muted` the muted prototypes of a bank, within the caller's transaction."""
    connection.execute("DELETE FROM muted_prototypes WHERE bank_version = ?", (bank_version,))
    connection.executemany(
        "INSERT INTO muted_prototypes (bank_version, prototype) VALUES (?, ?)",
        [(bank_version, int(prototype)) for prototype in sorted(muted)],
    )


def select_recipe(connection: sqlite3.Connection) -> str | None:
    """Return the mask recipe of the project, or None where none was chosen."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'recipe'").fetchone()
    return None if row is None else str(row[0])


def replace_recipe(connection: sqlite3.Connection, recipe_json: str) -> None:
    """Make a recipe that of the project, within the caller's transaction."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('recipe', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (recipe_json,),
    )


def select_reviews(connection: sqlite3.Connection) -> dict[int, ReviewStatus]:
    """Return what was said of masks, by image; an image without a mask is not accepted."""
    rows = connection.execute(
        "SELECT image_id, status FROM reviews"
        " WHERE status != 'accepted' OR image_id IN (SELECT image_id FROM masks)"
    )
    return {int(image_id): ReviewStatus(status) for image_id, status in rows}


def is_accepted(connection: sqlite3.Connection, image_id: int) -> bool:
    """Tell whether a person has accepted the mask of an image, which may be gone."""
    query = "SELECT 1 FROM reviews WHERE image_id = ? AND status = 'accepted'"
    return connection.execute(query, (image_id,)).fetchone() is not None


def replace_review(
    connection: sqlite3.Connection, image_id: int, status: ReviewStatus | None
) -> None:
    """Record what is said of the mask of an image; None takes it back.

    Raises
    ------
    ProjectError
        There is no such image, or it has no mask to accept.
    """
    require_image(connection, image_id)
    masks = connection.execute("SELECT 1 FROM masks WHERE image_id = ?", (image_id,))
    if status is ReviewStatus.ACCEPTED and masks.fetchone() is None:
        raise ProjectError(
            "there is no mask to accept",
            where=f"image {image_id}",
            remedy="Draw one, or let a model make one.",
        )
    connection.execute("DELETE FROM reviews WHERE image_id = ?", (image_id,))
    if status is not None:
        connection.execute(
            "INSERT INTO reviews (image_id, status) VALUES (?, ?)", (image_id, status.value)
        )
