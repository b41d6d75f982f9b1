"""The SQLite file of a project: opened with care, changed in whole transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from napari_protoseg.errors import ProjectError, ProtosegError, StorageError
from napari_protoseg.project.migrations import APPLICATION_ID, MIGRATIONS, Migration
from napari_protoseg.project.records import RecordError
from napari_protoseg.storage import replacing, storage_errors

_BUSY_SECONDS = 60.0
_HEADER_BYTES = 100
_PRIMARY_CODE = 0xFF

_SPACE = "Free some space, then run the command again."
_ACCESS = "Ask its owner for access, or copy the project to a place that can be written."
_DAMAGED = "Restore the project folder from a copy."
_OTHER = "Wait until the other program is done, or close it."

# SQLite's primary result codes: https://www.sqlite.org/rescode.html
_FAILURES: dict[int, tuple[type[ProtosegError], str, str]] = {
    sqlite3.SQLITE_FULL: (StorageError, "no space left on the disk", _SPACE),
    sqlite3.SQLITE_READONLY: (StorageError, "no permission to write", _ACCESS),
    sqlite3.SQLITE_PERM: (StorageError, "no permission", _ACCESS),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "no permission, or no space left", _ACCESS),
    sqlite3.SQLITE_IOERR: (StorageError, "the disk does not answer as it should", _SPACE),
    sqlite3.SQLITE_BUSY: (StorageError, "another program is writing to the project", _OTHER),
    sqlite3.SQLITE_LOCKED: (StorageError, "another program is writing to the project", _OTHER),
    sqlite3.SQLITE_CORRUPT: (ProjectError, "the database is damaged", _DAMAGED),
    sqlite3.SQLITE_NOTADB: (ProjectError, "the database is damaged", _DAMAGED),
    sqlite3.SQLITE_ERROR: (ProjectError, "the database is not as its format says", _DAMAGED),
    sqlite3.SQLITE_CONSTRAINT: (
        ProjectError,
        "the record contradicts what the project holds",
        "Check that it names an image, bank or round of this project, and stands there once.",
    ),
}


class Database:
    """A connection to the database of a project, for use from any thread.

    One lock serves all threads: a transaction of one waits for that of another. It is
    not reentrant, so a transaction must not be begun within another.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Self:
        """Open the database at `path`, and bring it to the newest of `migrations`.

        Raises
        ------
        ProjectError
            It is missing, damaged, of another program, or newer than `migrations`;
            it is then left as it was.
        StorageError
            It cannot be read and written.
        """
        version = _format_version(path)
        if version > len(migrations):
            raise ProjectError(
                f"format {version} is newer than this program, which knows up to {len(migrations)}",
                where=path.parent,
                remedy="Install a newer napari-protoseg; nothing was changed.",
            )
        with _sqlite_errors(path), _connected(path) as connection:
            prefer_write_ahead_log(connection)
            _require_tables(connection, path, migrations[:version])
            fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if fault != "ok":
                raise ProjectError(
                    f"the database is damaged ({fault})", where=path, remedy=_DAMAGED
                )
            if version < len(migrations):
                _migrate(connection, migrations)
                prefer_write_ahead_log(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            with _transaction(connection, "IMMEDIATE"):
                pass  # without permission to write, this fails now and not in the middle of work
            return cls(path, connection)

    @classmethod
    @contextmanager
    def creating(cls, path: Path) -> Iterator[sqlite3.Connection]:
        """Yield a new database in a transaction; on success it appears at `path`, complete.

        Raises
        ------
        StorageError
            The disk is full, or the place cannot be written.
        """
        with replacing(path) as temporary, _sqlite_errors(path):
            with _connected(temporary) as connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                _migrate(connection, MIGRATIONS)
                with _transaction(connection, "IMMEDIATE"):
                    yield connection
            connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction that sees one state of the project."""
        with self._lock, _sqlite_errors(self._path), _transaction(self._connection, "DEFERRED"):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction that no other program writes beside.

        Whatever is raised within undoes the whole transaction.

        Raises
        ------
        StorageError
            The disk is full, cannot be written, or another program keeps the project busy.
        ProjectError
            A record contradicts what the project holds, or the database is damaged.
        """
        with self._lock, _sqlite_errors(self._path), _transaction(self._connection, "IMMEDIATE"):
            yield self._connection

    def close(self) -> None:
        """Close the connection; closing twice is allowed."""
        with self._lock, _sqlite_errors(self._path):
            self._connection.close()


def prefer_write_ahead_log(connection: sqlite3.Connection) -> str:
    """Choose the write-ahead log, or the rollback journal where the disk cannot hold one.

    Returns
    -------
    str
        ``wal`` or ``delete``.
    """
    try:
        return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE not in (
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_PROTOCOL,
        ):
            raise
    # The project came from a disk that could. An exclusive lock does without shared memory,
    # and what the log holds goes into the database before the log is given up.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    connection.execute("PRAGMA locking_mode = NORMAL")
    return str(mode)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that stays open unless something goes wrong within."""
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
    except BaseException:
        connection.close()
        raise


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has undone the transaction after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    # Under a rollback journal the version in the file's header is always the true one.
    connection.execute("PRAGMA journal_mode = DELETE")
    with _transaction(connection, "IMMEDIATE"):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for statement in (text for step in migrations[version:] for text in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _require_tables(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]
) -> None:
    """Refuse tables that are not those of a format: a view or trigger may compute without end."""
    connection.execute("PRAGMA trusted_schema = OFF")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        for statement in (text for step in migrations for text in step):
            fresh.execute(statement)
        if _tables(connection) != _tables(fresh):
            raise ProjectError(
                "the tables of the database are not those of its format",
                where=path,
                remedy=_DAMAGED,
            )


def _tables(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    kinds = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ).fetchall()
    # Not before it is known that there are but tables: to list the columns of a view is to ask it.
    if any(kind != "table" for kind, _ in kinds):
        return set(kinds)
    columns = connection.execute(
        "SELECT kind.name, kind.strict, kind.wr, field.name, field.type, field.hidden, field.pk"
        " FROM pragma_table_list AS kind JOIN pragma_table_xinfo(kind.name) AS field"
        " WHERE kind.schema = 'main' AND kind.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {*kinds, *columns}


def _format_version(path: Path) -> int:
    """Read the format version from the header, without SQLite, which would touch the file."""
    with storage_errors(path):
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ProjectError(
                "this is not a project",
                where=path.parent,
                remedy="Choose the folder of one, or make one.",
                on_terminal="protoseg new",
            ) from error
    # https://www.sqlite.org/fileformat2.html#the_database_header
    if len(header) < _HEADER_BYTES or not header.startswith(b"SQLite format 3\0"):
        raise ProjectError("the database is damaged", where=path, remedy=_DAMAGED)
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise ProjectError(
            "this is a database of another program",
            where=path,
            remedy="Choose the folder of a project.",
        )
    return int.from_bytes(header[60:64])


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Raise a typed error for those of SQLite that the program is not to blame for."""
    try:
        yield
    except RecordError as error:
        raise ProjectError(f"{error} is damaged", where=path, remedy=_DAMAGED) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # sqlite3's own errors have none
        if code is None and "decode" in str(error):
            raise ProjectError(
                f"a text is damaged ({error})", where=path, remedy=_DAMAGED
            ) from error
        if code is None or code & _PRIMARY_CODE not in _FAILURES:
            raise
        kind, what, remedy = _FAILURES[code & _PRIMARY_CODE]
        raise kind(f"{what} ({error})", where=path, remedy=remedy) from error
