"""The rows that keep every version of the class schema."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError, SchemaError
from napari_protoseg.project.times import recorded_time
from napari_protoseg.schema import ClassSchema


def insert_schema(
    connection: sqlite3.Connection, schema: ClassSchema, *, created: datetime
) -> None:
    """Make `schema` the one that holds, within the caller's transaction."""
    connection.execute(
        "INSERT INTO class_schemas (version, json, fingerprint, created)"
        " SELECT coalesce(max(version), 0) + 1, ?, ?, ? FROM class_schemas",
        (schema.to_json(), schema.fingerprint, recorded_time(created)),
    )


def select_earlier_schemas(connection: sqlite3.Connection, folder: Path) -> list[ClassSchema]:
    """Return the schemas that held before, the newest first; errors as `select_schema`."""
    rows = connection.execute("SELECT json FROM class_schemas ORDER BY version DESC").fetchall()
    return [_schema_of(row, folder) for row in rows[1:]]


def select_schema(connection: sqlite3.Connection, folder: Path) -> ClassSchema:
    """Return the schema that holds.

    Raises
    ------
    ProjectError
        There is none that can be read.
    """
    row = connection.execute(
        "SELECT json FROM class_schemas ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return _schema_of(row, folder)


def require_successor(schema: ClassSchema, current: ClassSchema, folder: Path) -> None:
    """Raise `SchemaError` unless every class id of `current` keeps its meaning in `schema`."""
    if schema.extends(current) and set(schema.retired) >= set(current.retired):
        return
    kept = ", ".join(f"{known.id} {known.name}" for known in current.classes)
    retired = ", ".join(str(number) for number in current.retired)
    raise SchemaError(
        "the new classes do not keep the ids that the project has given",
        where=folder,
        remedy=f"Keep the classes {kept}"
        + (f" and the retired ids {retired}." if retired else "."),
    )


def _schema_of(row: tuple[str] | None, folder: Path) -> ClassSchema:
    try:
        return ClassSchema.model_validate_json(row[0] if row else "")
    except ValidationError as error:
        raise ProjectError(
            "the class schema in the database is damaged",
            where=folder,
            remedy="Restore the project folder from a copy.",
        ) from error
