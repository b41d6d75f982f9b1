"""The rows of what a person decides: muted prototypes, the recipe, how masks were found."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

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
    """Return what was said of masks, by image."""
    rows = connection.execute("SELECT image_id, status FROM reviews")
    return {int(image_id): ReviewStatus(status) for image_id, status in rows}


def replace_review(
    connection: sqlite3.Connection, image_id: int, status: ReviewStatus | None
) -> None:
    """Record what is said of the mask of an image; None takes it back.

    Raises
    ------
    ProjectError
        There is no such image.
    """
    require_image(connection, image_id)
    connection.execute("DELETE FROM reviews WHERE image_id = ?", (image_id,))
    if status is not None:
        connection.execute(
            "INSERT INTO reviews (image_id, status) VALUES (?, ?)", (image_id, status.value)
        )
