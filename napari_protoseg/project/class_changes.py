"""Classes that are removed from a project or merged into another, and that come back.

Nothing is written to masks: the schema says what stands in the place of a class that is gone.
Its labels are kept aside. The class that went last is the first to come back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import SchemaError
from napari_protoseg.project.schema_rows import insert_schema, select_schema, select_schemas
from napari_protoseg.schema import ClassSchema, TissueClass

_PRESENT, _ABSENT, _UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class RemovedClass:
    """A class that was removed or merged, and that can come back.

    Parameters
    ----------
    known
        The class as it was.
    heir
        Id of the class that it was merged into; None where it was removed.
    before
        The schema that it was in last.
    """

    known: TissueClass
    heir: int | None
    before: ClassSchema


def select_removed(connection: sqlite3.Connection, folder: Path) -> list[RemovedClass]:
    """Return the classes that are gone and were of this project, the one that went last at the end.

    Raises
    ------
    ProjectError
        A schema is damaged.
    """
    removed: list[RemovedClass] = []
    before: ClassSchema | None = None
    for schema in select_schemas(connection, folder):
        removed = [gone for gone in removed if gone.known.id not in schema.ids]
        for known in () if before is None else before.classes:
            if known.id in schema.retired and before is not None:
                removed.append(RemovedClass(known, dict(schema.merged).get(known.id), before))
        before = schema
    return removed


def remove_class(
    connection: sqlite3.Connection,
    class_id: int,
    heir: int | None,
    *,
    folder: Path,
    created: datetime,
) -> ClassSchema:
    """Take a class out of the schema, in the caller's transaction; return the new schema.

    Parameters
    ----------
    class_id
        Whose labels and pixels go.
    heir
        Id of the class that they go to; None: labels go, and pixels are unlabelled.

    Raises
    ------
    SchemaError
        There is no such class, or no other one.
    """
    schema = select_schema(connection, folder)
    gone, into = _known(schema, class_id), None if heir is None else _known(schema, heir)
    if len(schema.classes) == 1 or gone == into:
        raise SchemaError(
            "a project needs one class at least, and a class cannot be merged into itself",
            where=gone.name,
            remedy="Choose another class.",
        )
    classes = [known for known in schema.classes if known is not gone]
    if into is not None:
        names = dict.fromkeys((*into.former, gone.name, *gone.former))
        former = tuple(name for name in names if name != into.name)
        classes[classes.index(into)] = into.model_copy(update={"former": former})
    merged = schema.merged if heir is None else (*schema.merged, (class_id, heir))
    changed = ClassSchema(
        classes=tuple(classes), retired=(*schema.retired, class_id), merged=merged
    )
    insert_schema(connection, changed, created=created)
    _keep_labels_aside(connection, class_id, heir)
    return changed


def restore_class(
    connection: sqlite3.Connection, *, folder: Path, created: datetime
) -> tuple[RemovedClass, ClassSchema]:
    """Bring the class back that went last, in the caller's transaction.

    Its labels are as they were, and those of the class that it was merged into, but where an
    image was labelled otherwise since.

    Returns
    -------
    RemovedClass, ClassSchema
        What came back, and the new schema.

    Raises
    ------
    SchemaError
        None was removed, or another class has its name by now.
    """
    removed = select_removed(connection, folder)
    if not removed:
        raise SchemaError("no class was removed or merged", where=folder, remedy="Nothing to undo.")
    gone = removed[-1]
    schema = select_schema(connection, folder)
    changed = _with_again(schema, gone)
    insert_schema(connection, changed, created=created)
    _bring_labels_back(connection, gone.known.id, gone.heir)
    return gone, changed


def _known(schema: ClassSchema, class_id: int) -> TissueClass:
    if class_id not in schema.ids:
        raise SchemaError(
            f"there is no class with the id {class_id}",
            where="class schema",
            remedy=f"The class ids are {list(schema.ids)}.",
        )
    return schema.classes[schema.ids.index(class_id)]


def _with_again(schema: ClassSchema, gone: RemovedClass) -> ClassSchema:
    """Return the schema with a class that is gone, where it was among the others."""
    known, classes = gone.known, list(schema.classes)
    keys = {other.shortcut.casefold() for other in classes if other.shortcut is not None}
    if known.shortcut is not None and known.shortcut.casefold() in keys:
        known = known.model_copy(update={"shortcut": None})
    if gone.heir is not None and gone.heir in schema.ids:
        place = schema.ids.index(gone.heir)
        earlier = _known(gone.before, gone.heir).former
        theirs = {known.name, *known.former} - {*earlier}
        former = tuple(name for name in classes[place].former if name not in theirs)
        classes[place] = classes[place].model_copy(update={"former": former})
    classes.insert(gone.before.ids.index(known.id), known)
    try:
        return ClassSchema(
            classes=tuple(classes),
            retired=tuple(class_id for class_id in schema.retired if class_id != known.id),
            merged=tuple(pair for pair in schema.merged if pair[0] != known.id),
        )
    except ValidationError as error:
        raise SchemaError(
            "another class has taken its name meanwhile",
            where=known.name,
            remedy="Rename that one first.",
        ) from error


def _keep_labels_aside(connection: sqlite3.Connection, class_id: int, heir: int | None) -> None:
    connection.execute("DELETE FROM former_labels WHERE removed_class = ?", (class_id,))
    # Where nothing is known of the class that goes, an absent heir is not known to be absent.
    connection.execute(
        "INSERT INTO former_labels (removed_class, image_id, class_id, presence, source)"
        " SELECT :gone, image_id, class_id, presence, source FROM labels"
        " WHERE class_id IN (:gone, :heir)",
        {"gone": class_id, "heir": heir},
    )
    combined = [] if heir is None else list(_combined(connection, class_id, heir))
    connection.execute("DELETE FROM labels WHERE class_id IN (?, ?)", (class_id, heir))
    connection.executemany(
        "INSERT INTO labels (image_id, class_id, presence, source) VALUES (?, ?, ?, ?)",
        [(image_id, heir, presence, source) for image_id, presence, source in combined],
    )


def _bring_labels_back(connection: sqlite3.Connection, class_id: int, heir: int | None) -> None:
    if heir is not None:
        made = {
            image_id: presence for image_id, presence, _ in _combined(connection, class_id, heir)
        }
        now = {
            image_id: (presence, source)
            for image_id, presence, source in connection.execute(
                "SELECT image_id, presence, source FROM labels WHERE class_id = ?", (heir,)
            )
        }
        images = {
            i
            for (i,) in connection.execute(
                "SELECT image_id FROM former_labels WHERE removed_class = ?", (class_id,)
            )
        } | now.keys()
        for image_id in images:
            presence, source = now.get(image_id, (_UNKNOWN, ""))
            if presence == made.get(image_id, _UNKNOWN):
                continue  # nobody has labelled it otherwise since
            # What was said of both stays of the heir; that both are absent holds of each.
            aside = (class_id, image_id)
            connection.execute(
                "DELETE FROM former_labels WHERE removed_class = ? AND image_id = ?"
                " AND class_id != removed_class",
                aside,
            )
            if presence == _ABSENT:
                connection.execute(
                    "DELETE FROM former_labels WHERE removed_class = ? AND image_id = ?", aside
                )
                connection.execute(
                    "INSERT INTO former_labels VALUES (?1, ?2, ?1, 0, ?3)", (*aside, source)
                )
            if presence != _UNKNOWN:
                connection.execute(
                    "INSERT INTO former_labels VALUES (?, ?, ?, ?, ?)",
                    (*aside, heir, presence, source),
                )
        connection.execute("DELETE FROM labels WHERE class_id = ?", (heir,))
    connection.execute(
        "INSERT INTO labels (image_id, class_id, presence, source)"
        " SELECT image_id, class_id, presence, source FROM former_labels WHERE removed_class = ?",
        (class_id,),
    )
    connection.execute("DELETE FROM former_labels WHERE removed_class = ?", (class_id,))


def _combined(
    connection: sqlite3.Connection, class_id: int, heir: int
) -> Iterator[tuple[int, int, str]]:
    """Yield image, presence and source of what two classes are together, where that is known.

    Present where either is, absent where both are.
    """
    rows = connection.execute(
        "SELECT image_id, max(presence), count(*), source FROM former_labels"  # the max's source
        " WHERE removed_class = :gone AND class_id IN (:gone, :heir) GROUP BY image_id",
        {"gone": class_id, "heir": heir},
    ).fetchall()
    for image_id, presence, known, source in rows:
        if presence == _PRESENT or known > 1:
            yield image_id, presence, source
