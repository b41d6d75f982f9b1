from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from drawing import draw

from napari_protoseg.errors import ProjectError
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    Project,
)
from napari_protoseg.project.database import Database, prefer_write_ahead_log
from napari_protoseg.project.migrations import MIGRATIONS
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
LATER = (*MIGRATIONS, ("ALTER TABLE images ADD COLUMN stain TEXT",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{n}.png", content_hash=str(n), width=9, height=9, label=(1, 0)
            )
            for n in range(200)
        )
    return tmp_path / "project"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_closed_project_is_one_file(folder: Path) -> None:
    assert sorted(contents(folder)) == ["project.db"]


def test_an_older_project_is_brought_up_to_date_with_its_records(folder: Path) -> None:
    database = Database.open(folder / "project.db", LATER)
    with database.reading() as connection:
        assert connection.execute("SELECT count(*), max(stain) FROM images").fetchone() == (
            200,
            None,
        )
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_project_of_format_3_opens_with_its_corrections_and_can_be_edited(
    folder: Path,
) -> None:
    mask = np.ones((9, 9), np.uint8)
    drawn = mask.copy()
    drawn[0, 0] = 2
    source = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
    with Project.open(folder) as project:
        project.write_mask(PredictedMask(1, mask, np.ones((9, 9), np.float16)), source)
        journal = Journal(project, 1)
        # Who is not introduced stays without a name, as all were then.
        step = journal.open()[0].stroke(drawn, author="Ada", now=NOW)
        assert step is not None
        journal.append([step])
        journal.fold()
    as_format(3, folder / "project.db")
    with Project.open(folder) as project:
        opened = project.open_journal(1)
        assert (opened.steps, opened.folded, opened.last, opened.people) == ((), 0, 0, {})
        stored = opened.stored
        assert stored is not None
        assert np.array_equal(stored.mask, drawn)
        assert np.array_equal(stored.setters == Origin.PERSON, drawn == 2)
        assert np.array_equal(stored.is_protected, drawn == 2)
        drawn[8, 8] = 2
        again = draw(project, 1, drawn, person="Bob", now=NOW)
        assert np.array_equal(again.is_protected, drawn == 2)
        assert again.setters[8, 8] == project.open_journal(1).people["Bob"]


ADDED = {
    5: "DROP TABLE former_labels; ALTER TABLE banks DROP COLUMN made_of;"
    "ALTER TABLE rounds DROP COLUMN made_of; ALTER TABLE masks DROP COLUMN labels;",
    4: "DROP TABLE edits; DROP TABLE journals; DROP TABLE people;"
    "ALTER TABLE rounds DROP COLUMN stage;",
    3: "ALTER TABLE masks DROP COLUMN bank_version;",
    2: "DROP TABLE muted_prototypes; DROP TABLE reviews; ALTER TABLE masks DROP COLUMN corrected;"
    "ALTER TABLE masks DROP COLUMN corrected_by;",
}


def as_format(version: int, database: Path) -> None:
    """Take away what later formats have added."""
    connection = sqlite3.connect(database)
    later = "".join(ADDED[number] for number in ADDED if number > version)
    connection.executescript(f"{later} PRAGMA user_version = {version}")
    fresh = sqlite3.connect(":memory:")
    for statement in (text for step in MIGRATIONS[:version] for text in step):
        fresh.execute(statement)
    tables = "SELECT name FROM pragma_table_list WHERE schema = 'main' ORDER BY name"
    columns = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c ORDER BY 1,2"
    for query in (tables, columns):
        assert connection.execute(query).fetchall() == fresh.execute(query).fetchall()
    connection.close()
    fresh.close()


def test_a_newer_project_is_refused_untouched(folder: Path) -> None:
    Database.open(folder / "project.db", LATER).close()
    before = contents(folder)
    with pytest.raises(ProjectError, match=f"format {len(LATER)} is newer.*Install a newer"):
        Project.open(folder)
    assert contents(folder) == before


def test_a_migration_that_fails_leaves_the_project_as_it_was(folder: Path) -> None:
    broken = (
        *MIGRATIONS,
        ("CREATE TABLE more (x INTEGER) STRICT", "CREATE TABLE more (x INTEGER)"),
    )
    with pytest.raises(ProjectError):
        Database.open(folder / "project.db", broken)
    with Project.open(folder) as project:
        assert len(project.images()) == 200
    Database.open(folder / "project.db", LATER).close()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"", "damaged"),
        (lambda content: content[:60], "damaged"),
        (lambda content: b"\0" * len(content), "damaged"),
        (lambda content: content[: len(content) // 2], "damaged"),
        (lambda content: content[:100] + b"\xff" * 3000 + content[3100:], "damaged"),
        (lambda content: content[:8192] + b"\xaa" * 4096 + content[12288:], "damaged"),
        (lambda content: content[:68] + b"\0\0\0\0" + content[72:], "another program"),
    ],
)
def test_a_damaged_or_foreign_database_is_refused_untouched(
    folder: Path, damage: object, reason: str
) -> None:
    path = folder / "project.db"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    before = contents(folder)
    with pytest.raises(ProjectError, match=reason):
        Project.open(folder)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE class_schemas SET json = '{}'",
        "DELETE FROM class_schemas",
        "DROP TABLE class_schemas",
        "PRAGMA ignore_check_constraints = ON; UPDATE images SET split = 'test'",
    ],
)
def test_rows_that_break_the_format_are_refused(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "project.db")
    connection.executescript(statement)
    connection.close()
    with pytest.raises(ProjectError, match=r"damaged|format"):
        Project.open(folder)


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "database is a folder"])
def test_what_is_no_project_is_refused_untouched(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("text")
    elif kind != "missing":
        place.mkdir()
    if kind == "database is a folder":
        (place / "project.db").mkdir()
    with pytest.raises(ProjectError, match=r"not a project.*or make one"):
        Project.open(place)
    assert place.exists() == (kind != "missing")
    assert not list(tmp_path.glob("*/*-*"))


def test_a_disk_without_shared_memory_gets_a_rollback_journal(folder: Path) -> None:
    # SQLite's dot-file locking offers no shared memory, as on some network folders. The
    # project comes from a disk that does, with its records still in the log of a crash.
    writer = sqlite3.connect(folder / "project.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO meta VALUES ('late', 'record')")
    crashed = folder.parent / "crashed"
    crashed.mkdir()
    for name in ("project.db", "project.db-wal"):
        (crashed / name).write_bytes((folder / name).read_bytes())
    writer.close()
    connection = sqlite3.connect(
        f"{(crashed / 'project.db').as_uri()}?vfs=unix-dotfile", uri=True, isolation_level=None
    )
    assert prefer_write_ahead_log(connection) == "delete"
    connection.execute("UPDATE meta SET value = 'kept' WHERE key = 'late'")
    connection.close()
    with Project.open(crashed) as project:
        assert len(project.images()) == 200
    connection = sqlite3.connect(crashed / "project.db")
    assert connection.execute("SELECT value FROM meta WHERE key = 'late'").fetchone() == ("kept",)
    connection.close()
