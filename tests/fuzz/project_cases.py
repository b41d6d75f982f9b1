"""Hostile projects: databases and arrays."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from driven_jobs import finish
from fuzzed_reader import FuzzedReader
from mutations import NUMBERS, TEXTS, changed_json, damaged, json_text

from napari_protoseg.errors import ProjectError
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    ReviewStatus,
    RoundStatus,
    Split,
)
from napari_protoseg.project.lock import LOCK, LockOwner
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training import checkpoint  # noqa: F401 (a check imports it late)

_NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
_SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
_COLUMNS = {
    "meta": ("key", "value"),
    "class_schemas": ("version", "json", "fingerprint", "created"),
    "images": (
        "id", "path", "content_hash", "width", "height", "micrometres_per_pixel", "case_name",
        "split", "mask_path",
    ),
    "labels": ("image_id", "class_id", "presence", "source"),
    "banks": ("version", "file", "summary", "schema_fingerprint", "created"),
    "rounds": (
        "id", "folder", "bank_version", "config", "status", "metrics", "created", "finished",
    ),
    "masks": (
        "image_id", "array", "row", "digest", "round_id", "label_condition", "recipe", "created",
        "corrected_by", "corrected", "bank_version",
    ),
    "muted_prototypes": ("bank_version", "prototype"),
    "reviews": ("image_id", "status"),
}  # fmt: skip
# What later formats have added, to be taken away again.
_ADDED = {
    4: "DROP TABLE edits; DROP TABLE journals; DROP TABLE people;"
    "ALTER TABLE rounds DROP COLUMN stage;",
    3: "ALTER TABLE masks DROP COLUMN bank_version;",
    2: "DROP TABLE muted_prototypes; DROP TABLE reviews; ALTER TABLE masks DROP COLUMN corrected;"
    "ALTER TABLE masks DROP COLUMN corrected_by;",
}
_OWNER = json.loads(LockOwner(host="elsewhere", process=7, since=_NOW).model_dump_json())
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@cache
def _valid() -> dict[str, bytes]:
    """Return the files of a project by their paths in it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "project"
        with Project.create(folder, _SCHEMA, created=_NOW) as project:
            project.set_schema(_SCHEMA, created=_NOW)
            project.add_images(
                ImageRecord(
                    path=folder / "images" / f"{number}.png",
                    content_hash=str(number),
                    width=40 + number // 3,
                    height=36,
                    label=(1, number % 2),
                    split=Split.VALIDATION if number == 3 else Split.TRAIN,
                    mask_path=folder / "truth.png" if number == 3 else None,
                    micrometres_per_pixel=0.5,
                )
                for number in range(4)
            )
            version, path = project.new_bank()
            path.parent.mkdir()
            path.write_bytes(b"bank")
            project.record_bank(version, "{}", _SCHEMA.fingerprint, created=_NOW)
            project.set_muted_prototypes(version, (0, 2))
            project.set_recipe_json("{}")
            begun = project.new_round(version, "{}", created=_NOW)
            project.update_round(begun.id, RoundStatus.FINISHED, metrics_json="{}", finished=_NOW)
            source = MaskSource(
                round_id=begun.id, label_condition="given", recipe_json="{}", created=_NOW
            )
            for image in project.images():
                mask = np.full((image.height, image.width), 1, np.uint8)
                project.write_mask(
                    PredictedMask(image.known_id, mask, np.full(mask.shape, 0.5, np.float16)),
                    source,
                )
            project.correct_mask(
                1, np.full((36, 40), 2, np.uint8), base=None, person="a person", now=_NOW
            )
            project.set_review_status(2, ReviewStatus.FLAGGED)
        with closing(sqlite3.connect(folder / "project.db")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def _make(random: Random, folder: Path) -> Path:
    project = folder / random.choice(("project", "project", "two\nlines", "\u202egnp", "<b>x<b>"))
    for name, content in _valid().items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    if random.random() < 0.15:
        _make_older(random, project / "project.db")
    if random.random() < 0.1:
        _place_lock(random, project / LOCK)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.random() < 0.55:
            _change_rows(random, project / "project.db")
        elif random.random() < 0.4:
            _change_arrays(random, project / "arrays.zarr")
        else:
            _change_files(random, project)
    return project


def _make_older(random: Random, database: Path) -> None:
    """Turn the database into one of an earlier format, with what that could hold."""
    version = random.randint(1, 3)
    with closing(sqlite3.connect(database)) as connection:
        later = "".join(_ADDED[number] for number in _ADDED if number > version)
        connection.executescript(f"{later} PRAGMA user_version = {version}")


def _place_lock(random: Random, path: Path) -> None:
    here = {**_OWNER, "host": socket.gethostname()}
    owner = random.choice((_OWNER, here, here))
    owner = {**owner, "process": random.choice((7, 2**22 + 1, 2**40, -1, 0, os.getpid()))}
    match random.randrange(8):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(random.choice((path, path.with_name("project.db"))))
        case 3:
            path.write_bytes(bytes(10**7))
        case 4:
            moments = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1e308", 2**62)
            path.write_text(json.dumps({**owner, "since": random.choice(moments)}))
        case 5:
            path.write_text(json.dumps({**owner, "started": random.choice(NUMBERS)}))
        case _:
            path.write_bytes(json_text(random, owner))


def _change_rows(random: Random, path: Path) -> None:
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
    match random.randrange(14):
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
        case 6:
            return [("UPDATE class_schemas SET json = ?", (_schema_json(random),))]
        case 7:
            place = random.choice(
                ("/etc", "../..", "../../canary", "a\0b", "two\nlines", "runs/../../outside", "")
            )
            where = random.choice(("banks SET file", "rounds SET folder", "images SET path"))
            return [(f"UPDATE {where} = ? || substr('x', 1, 0)", (place,))]
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
                 f"{random.choice((0, 1, 2, 4, -1, 2**31 - 1))}", ()),
            ]  # fmt: skip
        case 11:
            return [(f"UPDATE {table} SET {column} = (SELECT max({column}) FROM {table}) + 7", ())]
        case _:
            return [(f"UPDATE {table} SET {column} = ?", (value,))]


def _schema_json(random: Random) -> str:
    return json_text(random, json.loads(_SCHEMA.to_json())).decode("utf-8", "replace")


def _change_arrays(random: Random, arrays: Path) -> None:
    files = sorted(path for path in arrays.rglob("*") if path.is_file())
    if not files:
        return
    file = random.choice(files)
    if file.name != "zarr.json" or random.random() < 0.1:
        if random.random() < 0.2:
            file.unlink()
        else:
            file.write_bytes(damaged(random, file.read_bytes()))
        return
    try:
        document = json.loads(file.read_bytes())
    except ValueError:  # an earlier change
        return
    if "shape" in document and random.random() < 0.6:
        huge = random.choice((0, -1, 1, 2**20, 2**40, 2**63, 1e300, "x"))
        match random.randrange(5):
            case 0:
                document["shape"][random.randrange(3)] = huge
            case 1:
                document["chunk_grid"]["configuration"]["chunk_shape"][random.randrange(3)] = huge
            case 2:
                inner = document["codecs"][0].get("configuration", {})
                inner["chunk_shape"] = [random.choice((1, huge)) for _ in range(3)]
            case 3:
                document["data_type"] = random.choice(("float64", "object", "uint16", "V8", "r8"))
            case _:
                document["fill_value"] = random.choice((None, "NaN", 1e308, 10**40, [1], "x"))
        file.write_text(json.dumps(document))
    else:
        document = changed_json(random, document)
        file.write_bytes(
            json.dumps(document).encode() if random.random() < 0.5 else json_text(random, document)
        )


def _change_files(random: Random, project: Path) -> None:
    database, arrays = project / "project.db", project / "arrays.zarr"
    if not database.is_file() or not arrays.is_dir() or arrays.is_symlink():
        return
    match random.randrange(10):
        case 0:
            database.unlink()
            database.mkdir()
        case 1:
            database.write_bytes(b"")
        case 2:
            shutil.rmtree(arrays)
            arrays.write_bytes(b"")
        case 3:
            shutil.rmtree(arrays)
            arrays.symlink_to(random.choice((arrays, project, project / "nowhere")))
        case 4:
            (project / "project.db-wal").write_bytes(random.randbytes(5000))
        case 5:
            (project / "project.db-journal").write_bytes(
                b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + random.randbytes(5000)
            )
        case 6:
            content = database.read_bytes().ljust(4096, b"\0")
            page = random.randrange(len(content) // 4096) * 4096
            changed = damaged(random, content[page : page + 4096])[:4096].ljust(4096, b"\0")
            database.write_bytes(content[:page] + changed + content[page + 4096 :])
        case 7:
            content = database.read_bytes()
            place = random.randrange(100)
            database.write_bytes(content[:place] + random.randbytes(1) + content[place + 1 :])
        case 8:
            database.unlink()
            database.symlink_to(random.choice((database, project)))
        case _:
            database.write_bytes(damaged(random, database.read_bytes()))


def _read(path: Path, random: Random) -> None:
    with Project.open(path, take_over=random.random() < 0.1) as project:
        project.lock_notice()
        project.earlier_schemas()
        images = project.images()
        assert project.schema.ids
        project.present_classes(Split.TRAIN)
        bank = project.latest_bank()
        if bank is not None:
            assert bank.path.is_relative_to(project.folder)
            project.bank(bank.version)
            project.muted_prototypes(bank.version)
        latest = project.latest_round()
        if latest is not None:
            assert latest.folder.is_relative_to(project.folder)
        project.recipe_json()
        project.mask_summaries()
        project.review_states()
        if random.random() < 0.3:
            report, _ = finish(check_project(project, repair=random.random() < 0.3))
            report.lines()
        for image in images:
            assert "\0" not in str(image.path)
            project.image(image.known_id)
            _read_mask(project, image)


def _read_mask(project: Project, image: ImageRecord) -> None:
    try:
        mask = project.read_mask(image.known_id)
    except ProjectError as error:
        # A mask is named by its image.
        if error.where != f"image {image.id}":
            raise
    else:
        assert mask is None or mask.mask.shape == (image.height, image.width)


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=4_000,
    code={
        "napari_protoseg/project/database.py": (
            "Database.open", "Database.reading", "_format_version", "sqlite_errors",
        ),
        "napari_protoseg/project/arrays.py": ("ArrayFolder.read", "ArrayFolder._errors"),
        "napari_protoseg/project/lock.py": (
            "ProjectLock._read", "ProjectLock.other", "ProjectLock.notice", "_owner_of", "_in_utc",
            "LockOwner.is_gone", "LockOwner.__str__",
        ),
        "napari_protoseg/project/inspection.py": (
            "row_faults", "_schema_faults", "unfinished_files",
        ),
        "napari_protoseg/jobs/check.py": (
            "check_project", "_rows", "_files", "_masks", "_banks", "_rounds",
        ),
        "napari_protoseg/project/paths.py": ("found_path",),
        "napari_protoseg/project/times.py": ("found_time",),
        "napari_protoseg/project/image_rows.py": ("select_images", "select_present"),
        "napari_protoseg/project/mask_rows.py": ("load_mask", "select_summaries"),
        "napari_protoseg/project/bank_rows.py": ("select_bank",),
        "napari_protoseg/project/round_rows.py": ("select_latest_round",),
        "napari_protoseg/project/review_rows.py": (
            "select_muted", "select_recipe", "select_reviews",
        ),
        "napari_protoseg/project/schema_rows.py": ("_schema_of", "select_earlier_schemas"),
    },
)  # fmt: skip
