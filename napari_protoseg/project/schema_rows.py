"""The rows that keep every version of the class schema."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError, SchemaError
from napari_protoseg.project.heirs import Heirs
from napari_protoseg.project.records import RecordError
from napari_protoseg.project.sqlite_errors import DAMAGED
from napari_protoseg.project.times import recorded_time
from napari_protoseg.schema import ClassSchema, TissueClass


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
    return select_schemas(connection, folder)[-2::-1]


def select_schemas(connection: sqlite3.Connection, folder: Path) -> list[ClassSchema]:
    """Return every schema that held, the oldest first; errors as `select_schema`."""
    rows = connection.execute("SELECT json FROM class_schemas ORDER BY version").fetchall()
    return [_schema_of(row, folder) for row in rows]


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


def select_heirs(connection: sqlite3.Connection, version: int | None = None) -> Heirs:
    """Return what stands in masks in the place of classes that were removed or merged.

    Parameters
    ----------
    connection
        To the database.
    version
        Of the schema; None: the one that holds.

    Raises
    ------
    RecordError
        The schema is damaged.
    """
    (json,) = connection.execute(
        "SELECT json FROM class_schemas WHERE ?1 IS NULL OR version = ?1"
        " ORDER BY version DESC LIMIT 1",
        (version,),
    ).fetchone() or ("",)
    try:
        return _heirs_of(json)
    except ValidationError as error:
        raise RecordError("the class schema") from error


@lru_cache(maxsize=4)  # it is asked for with each mask
def _heirs_of(json: str) -> Heirs:
    return Heirs(ClassSchema.model_validate_json(json))


def require_successor(schema: ClassSchema, current: ClassSchema, folder: Path) -> None:
    """Raise `SchemaError` unless every class id of `current` keeps its meaning in `schema`.

    No class may be gone: see `class_changes` for that.
    """
    keeps_retired = set(schema.retired) >= set(current.retired) and schema.merged == current.merged
    if schema.extends(current) and keeps_retired:
        return
    kept = ", ".join(f"{known.id} {known.name}" for known in current.classes)
    retired = ", ".join(str(number) for number in current.retired)
    raise SchemaError(
        "the new classes do not keep the ids that the project has given",
        where=folder,
        remedy=f"Keep the classes {kept}"
        + (f" and the retired ids {retired}." if retired else "."),
    )


class Lineage:
    """The classes that the schemas of a project have named, one schema after the other."""

    def __init__(self) -> None:
        self._known: dict[int, TissueClass] = {}
        self._retired: set[int] = set()

    def broken_by(self, schema: ClassSchema) -> str | None:
        """Say, as a clause, what in the next schema contradicts those before; None for nothing."""
        classes = {known.id: known for known in schema.classes}
        for class_id, known in self._known.items():
            if class_id in classes and not classes[class_id].was(known):
                return f"the id {class_id} was of {known.name}, and is of another class now"
        given = self._known.keys() | self._retired
        lost = given - classes.keys() - set(schema.retired)
        reused = (self._retired - self._known.keys()) & classes.keys()
        if lost or reused:
            return f"the ids {sorted(lost | reused)} that were given are free, or given again"
        self._known |= classes
        self._retired |= set(schema.retired)
        return None


def _schema_of(row: tuple[str] | None, folder: Path) -> ClassSchema:
    try:
        return ClassSchema.model_validate_json(row[0] if row else "")
    except ValidationError as error:
        raise ProjectError(
            "the class schema in the database is damaged",
            where=folder,
            remedy=DAMAGED,
        ) from error
