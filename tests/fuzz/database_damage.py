"""Hostile rows of a project's database: what its tables hold, and the tables themselves."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from mutations import NUMBERS, TEXTS, json_text

from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
"""Of the projects whose databases are changed, before any class went."""

_COLUMNS = {
    "meta": ("key", "value"),
    "class_schemas": ("version", "json", "fingerprint", "created"),
    "images": (
        "id", "path", "content_hash", "width", "height", "micrometres_per_pixel", "case_name",
        "split", "mask_path",
    ),
    "labels": ("image_id", "class_id", "presence", "source"),
    "former_labels": ("removed_class", "image_id", "class_id", "presence", "source"),
    "banks": ("version", "file", "summary", "schema_fingerprint", "created", "made_of"),
    "rounds": (
        "id", "folder", "bank_version", "config", "status", "metrics", "created", "finished",
        "stage", "made_of",
    ),
    "masks": (
        "image_id", "array", "row", "digest", "round_id", "label_condition", "recipe", "created",
        "corrected_by", "corrected", "bank_version", "labels",
    ),
    "muted_prototypes": ("bank_version", "prototype"),
    "reviews": ("image_id", "status"),
}  # fmt: skip
_MADE_OF = {
    "schema_version": 1, "classes": [1, 2, 3], "labels": {"1": "t+-?", "4": "v++-"}, "teacher": 1,
    "taught": "2026-03-01T12:30:00Z", "recipe": None, "corrected": {"1": "2026-03-01T12:30:00Z"},
}  # fmt: skip
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def change_rows(random: Random, path: Path) -> None:
    """Change what stands in a database; one that is no file any more stays as it is."""
    if not path.is_file():
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement, values in _statements(random):
                connection.execute(statement, values)
        except (
            sqlite3.Error,
            OverflowError,
            UnicodeError,
        ):  # the tables or another change do not admit it
            return


def _statements(random: Random) -> list[tuple[str, tuple[object, ...]]]:
    table = random.choice(tuple(_COLUMNS))
    column = random.choice(_COLUMNS[table])
    value = random.choice((*TEXTS, *NUMBERS, None, b"\xff\0"))
    if isinstance(value, int) and abs(value) >= 2**63:
        value = str(value)
    match random.randrange(21):
        case 0:
            return [(f"DELETE FROM {table}", ())]
        case 1:
            return [(f"DROP TABLE {table}", ())]
        case 2:
            return [(f"ALTER TABLE {table} RENAME COLUMN {column} TO other", ())]
        case 3:
            return [
                (f"DROP TABLE {table}", ()),
                (f"CREATE VIEW {table} AS {_ENDLESS} SELECT "
                 + ", ".join(f"i AS {name}" for name in _COLUMNS[table]) + " FROM n", ()),
            ]  # fmt: skip
        case 4:
            event = random.choice(("INSERT", "UPDATE", "DELETE"))
            return [
                (f"CREATE TRIGGER t AFTER {event} ON {table} BEGIN "
                 "INSERT INTO meta SELECT max(key) || 'x', 'x' FROM meta; END", ()),
            ]  # fmt: skip
        case 5:
            # Without the types, whatever stands there is read.
            return [
                ("PRAGMA writable_schema = ON", ()),
                ("UPDATE sqlite_schema SET sql = replace(replace(sql, 'STRICT', ''), ', WITHOUT"
                 " ROWID', 'WITHOUT ROWID') WHERE name = ?", (table,)),
                ("PRAGMA writable_schema = RESET", ()),
                (f"UPDATE {table} SET {column} = ?", (value,)),
            ]  # fmt: skip
        case 6 | 17:
            which = random.choice(("", " WHERE version = 1", " WHERE version > 2"))
            return [(f"UPDATE class_schemas SET json = ?{which}", (_schema_json(random),))]
        case 7:
            place = random.choice(
                ("/etc", "../..", "../../canary", "a\0b", "two\nlines", "runs/../../outside", "")
            )
            where = random.choice(
                ("banks SET file = ?", "rounds SET folder = ?", "images SET path = ? WHERE id = 1",
                 "images SET mask_path = ? WHERE id = 1")
            )  # fmt: skip
            return [(f"UPDATE {where}", (place,))]
        case 8:
            moment = random.choice(("", "yesterday", "9999-99-99", "2026-03-01", "\0", "1e308"))
            where = random.choice(("banks SET created", "masks SET created", "masks SET corrected",
                                   "rounds SET finished", "rounds SET created"))  # fmt: skip
            return [(f"UPDATE {where} = ?", (moment,))]
        case 9:
            size = random.choice((1, 35, 10**5, 2**31, 2**62))
            side = random.choice(("width", "height"))
            return [(f"UPDATE images SET {side} = ? WHERE id = 1", (size,))]
        case 10:
            return [
                (f"PRAGMA {random.choice(('user_version', 'application_id'))} = "
                 f"{random.choice((0, 1, 2, 4, 6, -1, 2**31 - 1))}", ()),
            ]  # fmt: skip
        case 11:
            return [(f"UPDATE {table} SET {column} = (SELECT max({column}) FROM {table}) + 7", ())]
        case 12:
            # Rows of an image, a class, a bank or a round that is not there.
            return [
                (random.choice(
                    ("DELETE FROM images WHERE id = 1", "DELETE FROM rounds", "DELETE FROM banks",
                     "UPDATE masks SET image_id = 77 WHERE image_id = 1",
                     "UPDATE labels SET class_id = 7 WHERE image_id = 1 AND class_id = 1",
                     "UPDATE former_labels SET class_id = 7, image_id = 77")
                ), ()),
            ]  # fmt: skip
        case 13 | 18:
            # What the tables themselves would not have admitted.
            return [
                (random.choice(
                    ("UPDATE labels SET presence = 7", "UPDATE rounds SET status = 'gone'",
                     "UPDATE former_labels SET presence = 7", "UPDATE images SET split = 'test'",
                     "UPDATE former_labels SET removed_class = 0, class_id = 999",
                     "UPDATE images SET width = 0 WHERE id = 2")
                ), ()),
            ]  # fmt: skip
        case 14:
            made_of = json_text(random, _MADE_OF).decode("utf-8", "replace")
            return [(f"UPDATE {random.choice(('banks', 'rounds'))} SET made_of = ?", (made_of,))]
        case 15:
            labels = random.choice(
                ("1+ 2- 3?", "1+", "", " ", "+", "1", "1+ 1-", "9?", "x+ -", "1\0+", "1+ " * 10_000)
            )
            return [("UPDATE masks SET labels = ?", (labels,))]
        case 16:
            first = _COLUMNS[table][0]
            one = f"{first} = (SELECT max({first}) FROM {table})"
            return [(f"UPDATE {table} SET {column} = ? WHERE {one}", (value,))]
        case _:
            return [(f"UPDATE {table} SET {column} = ?", (value,))]


def _schema_json(random: Random) -> str:
    """Return what may stand for the classes: broken, or of classes that went otherwise."""
    document = json.loads(SCHEMA.to_json())
    if random.random() < 0.5:
        gone = random.sample((1, 2, 3), random.choice((1, 1, 2)))
        document["classes"] = [one for one in document["classes"] if one["id"] not in gone]
        document["retired"] = [*gone, *random.choice(([], [7], [254], gone))]
        pairs = [[class_id, random.choice((0, 1, 2, 3, 7, class_id))] for class_id in gone]
        document["merged"] = random.choice((pairs, pairs[:1], []))
    if random.random() < 0.3:
        return json.dumps(document)
    return json_text(random, document).decode("utf-8", "replace")
