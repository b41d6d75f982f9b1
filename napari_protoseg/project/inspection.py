"""What can be wrong with the rows of a project."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.arrays import array_name
from napari_protoseg.project.edit_codec import require_given, unpacked
from napari_protoseg.project.edit_rows import select_journaled, select_steps
from napari_protoseg.project.edits import Action, histories
from napari_protoseg.project.image_rows import mask_shape
from napari_protoseg.project.records import RecordError
from napari_protoseg.project.schema_rows import Lineage, select_heirs
from napari_protoseg.project.sqlite_errors import DAMAGED, GIVE_UP, TO_GIVE_UP
from napari_protoseg.schema import ClassSchema

_FAULTS = 100


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Parameters
    ----------
    where
        Table, file or image.
    what
        What is wrong with it, and what is lost, as a clause.
    remedy
        What to do about it, as a sentence.
    on_terminal
        What to type on a terminal to do what it says last.
    """

    where: str
    what: str
    remedy: str
    on_terminal: str | None = None


def row_faults(connection: sqlite3.Connection, folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with the rows of the database, within the caller's transaction.

    What is wrong with journals, `journal_faults` returns.
    """
    for (text,) in connection.execute(f"PRAGMA integrity_check({_FAULTS})"):
        if text != "ok":
            yield Fault("project.db", f"the database is damaged ({text})", DAMAGED)
    orphans = Counter(
        (table, parent)
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall()
    )
    for (table, parent), count in orphans.items():
        yield Fault(
            f"table {table}",
            f"{count} rows belong to a row of {parent} that is not there",
            "Check again with --repair, which removes those that mean nothing without it."
            if table in orphan_keys(connection)
            else DAMAGED,
        )
    yield from _schema_faults(connection)
    query = (
        "SELECT images.id, images.path, array, height, width FROM masks"
        " JOIN images ON images.id = masks.image_id"
    )
    for image_id, path, array, height, width in connection.execute(query):
        if array != array_name(height, width):
            yield Fault(
                f"image {image_id} ({path})",
                f"its mask is recorded in the array {array}, the image is {height}x{width}",
                DAMAGED,
            )


def orphan_keys(connection: sqlite3.Connection) -> dict[str, list[tuple[str, str, str]]]:
    """Return the keys whose rows go with their parent: column, parent and its column, by table."""
    keys: dict[str, list[tuple[str, str, str]]] = {}
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, _, parent, column, target, _, on_delete, _ in connection.execute(
            f"PRAGMA foreign_key_list({table})"
        ):
            if on_delete == "CASCADE":
                keys.setdefault(table, []).append((column, parent, target))
    return keys


def remove_orphan_rows(connection: sqlite3.Connection) -> Counter[str]:
    """Remove rows that mean nothing without a parent that is gone; return how many, by table."""
    removed: Counter[str] = Counter()
    for table, keys in orphan_keys(connection).items():
        for column, parent, target in keys:
            deleted = connection.execute(
                f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {target} FROM {parent})"
            )
            removed[table] += max(deleted.rowcount, 0)
    return +removed


def journal_faults(connection: sqlite3.Connection) -> dict[int, Fault]:
    """Return what is wrong with the journal of each image where something is.

    Every edit is read, also those that the stored masks hold and an undo would need.
    """
    faults = {}
    images = {image_id for (image_id,) in connection.execute("SELECT id FROM images")}
    for image_id in images.intersection(select_journaled(connection)):  # orphans are told of above
        what = journal_fault(connection, image_id)
        if what is not None:
            what = f"{what}; what was done to its mask cannot be undone"
            remedy = f"{DAMAGED} {GIVE_UP}"
            faults[image_id] = Fault(f"image {image_id}", what, remedy, TO_GIVE_UP)
    return faults


def journal_fault(connection: sqlite3.Connection, image_id: int) -> str | None:
    """Return what is wrong with the journal of an image; None where nothing is."""
    try:
        shape = mask_shape(connection, image_id)
        given = select_heirs(connection).given
        steps = [recorded.step for recorded in select_steps(connection, image_id, shape)]
        histories(steps)
        for step in steps:
            if step.action is Action.DO:
                require_given(unpacked(step.edit.pixels, shape), given)
    except ProjectError as error:
        return error.what
    except RecordError as error:
        return f"{error} is damaged"
    return None


def _schema_faults(connection: sqlite3.Connection) -> Iterator[Fault]:
    lineage = Lineage()
    for version, json, fingerprint in connection.execute(
        "SELECT version, json, fingerprint FROM class_schemas ORDER BY version"
    ):
        where = f"class schema {version}"
        try:
            schema = ClassSchema.model_validate_json(json)
        except ValidationError:
            yield Fault(where, "it cannot be read", DAMAGED)
            continue
        contradiction = lineage.broken_by(schema)
        if contradiction is not None:
            yield Fault(where, contradiction, DAMAGED)
        if schema.fingerprint != fingerprint:
            yield Fault(where, "its classes are not those of its fingerprint", DAMAGED)
