"""The SQLite file of a project: opened with care, changed in whole transactions."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from napari_protoseg.errors import (
    ProjectClosedError,
    ProjectError,
    ProjectLockedError,
    StorageError,
)
from napari_protoseg.project.header import (
    Connection,
    NotAFileError,
    file_identity,
    read_header,
)
from napari_protoseg.project.lock import LOCK, ProjectLock
from napari_protoseg.project.migrations import APPLICATION_ID, MIGRATIONS, Migration
from napari_protoseg.project.paths import refuse_foreign_files
from napari_protoseg.project.sqlite_errors import DAMAGED, PRIMARY_CODE, sqlite_errors
from napari_protoseg.storage import replacing, storage_errors

_BUSY_SECONDS = 60.0
_LOOK_SECONDS = 0.002
_HEADER_BYTES = 100


class Database:
    """The connections to the database of a project, for use from any thread.

    A transaction of one thread waits for that of another, but reading does not wait for writing
    where there is a write-ahead log. A transaction must not be begun within another.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: ProjectLock) -> None:
        self._path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._reader = connection
        self._reader_lock = self._lock
        self._project_lock = lock
        self._is_closed = False
        self._identity = _file_identity(path)

    @classmethod
    def open(
        cls,
        path: Path,
        migrations: Sequence[Migration] = MIGRATIONS,
        *,
        take_over: bool = False,
    ) -> Self:
        """Open the database at `path`, and bring it to the newest of `migrations`.

        Where another process has the lock of the project, it is opened for reading alone.

        Parameters
        ----------
        path
            The file.
        migrations
            All that this program knows.
        take_over
            Take the lock from whoever has it.

        Raises
        ------
        ProjectError
            It is missing, damaged, of another program, a link, or newer than `migrations`;
            it is then left as it was.
        StorageError
            It cannot be read and written.
        """
        with storage_errors(path):
            refuse_foreign_files(path)
        version = _format_version(path)
        if version > len(migrations):
            raise ProjectError(
                f"format {version} is newer than this program, which knows up to {len(migrations)}",
                where=path.parent,
                remedy="Install a newer napari-protoseg; nothing was changed.",
            )
        lock = ProjectLock(path.parent / LOCK)
        with sqlite_errors(path), _connected(path) as connection:
            is_free = take_over or lock.other() is None
            if is_free:
                prefer_write_ahead_log(connection)
            _require_tables(connection, path, migrations[:version])
            fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if fault != "ok":
                raise ProjectError(f"the database is damaged ({fault})", where=path, remedy=DAMAGED)
            connection.execute("PRAGMA foreign_keys = ON")
            if is_free:
                # Without permission to write, this fails now and not in the middle of work.
                with _transaction(connection, "IMMEDIATE"):
                    lock.take(take_over=take_over)
            database = cls(path, connection, lock)
            try:
                database._bring_up_to_date(migrations)
                database._read_beside_writing()
            except BaseException:
                database.withdraw()
                raise
            return database

    def is_of_file(self, other: Database) -> bool:
        """Tell whether both were opened on one file; nothing is said of what is there now."""
        return self._identity is not None and self._identity == other._identity

    @property
    def lock(self) -> ProjectLock:
        """Whether the database may be written, and who may where it may not."""
        return self._project_lock

    def _bring_up_to_date(self, migrations: Sequence[Migration]) -> None:
        connection = self._connection
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if self.lock.is_held:
            if version < len(migrations):
                _migrate(connection, migrations)
                self.lock.note_change()
                prefer_write_ahead_log(connection)
            return
        if version != len(migrations):
            raise ProjectLockedError(
                f"the project is of format {version}, this program knows {len(migrations)}, and "
                f"it is open for writing by {self.lock.other() or 'another process'}",
                where=self._path.parent,
                remedy="Close it there, then open it here.",
            )
        connection.execute("PRAGMA query_only = ON")

    @classmethod
    @contextmanager
    def creating(cls, path: Path) -> Iterator[sqlite3.Connection]:
        """Yield a new database in a transaction; on success it appears at `path`, complete.

        Raises
        ------
        StorageError
            The disk is full, or the place cannot be written.
        """
        with replacing(path) as temporary, sqlite_errors(path):
            with _connected(temporary) as connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                _migrate(connection, MIGRATIONS)
                with _transaction(connection, "IMMEDIATE"):
                    yield connection
            connection.close()

    def _read_beside_writing(self) -> None:
        """Give those who read a connection of their own, where the other is not in its way."""
        if self._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            with _connected(self._path) as connection:
                connection.execute("PRAGMA query_only = ON")
            self._reader, self._reader_lock = connection, threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection within a transaction that sees one state of the project."""
        with self._in_use(self._reader_lock), _transaction(self._reader, "DEFERRED"):
            yield self._reader

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
        ProjectLockedError
            Another process has the lock of the project.
        """
        self._require_in_place()
        self.require_writable()  # at once, not after waiting for the other
        with self._in_use(self._lock):
            with _transaction(self._connection, "IMMEDIATE"):
                self._require_in_place()
                self._project_lock.require()
                yield self._connection
                self._require_in_place()
            self.lock.note_change()

    @contextmanager
    def _in_use(self, lock: threading.Lock) -> Iterator[None]:
        """Keep other threads out, one that closes it among them."""
        with lock, sqlite_errors(self._path):
            if self._is_closed:
                raise ProjectClosedError(
                    "the project is closed here", where=self._path.parent, remedy="Open it again."
                )
            yield

    def _require_in_place(self) -> None:
        """Make sure that the path still leads to the file that was opened.

        On POSIX, SQLite goes on writing to one that was moved or deleted, and nobody would know.
        """
        if _file_identity(self._path) != self._identity:
            raise StorageError(
                "the project is no longer here",
                where=self._path.parent,
                remedy="Bring its folder, or the disk that it is on, back to this place.",
            )

    @contextmanager
    def excluding(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction that no program writes beside, to read.

        What cannot be read of the arrays is damaged for certain only where nobody writes them. It
        does without the lock of the project.
        """
        with self._in_use(self._lock):
            self._connection.execute("PRAGMA query_only = OFF")  # else no such transaction begins
            try:
                with _transaction(self._connection, "IMMEDIATE"):
                    self._require_in_place()
                    try:
                        yield self._connection
                    except (ProjectError, StorageError):
                        self._require_in_place()  # else what has gone with it seems to be damaged
                        raise
            finally:
                if not self.lock.is_held:
                    self._connection.execute("PRAGMA query_only = ON")

    def require_writable(self) -> None:
        """Make sure that the lock of the project is this opening's, before long work.

        Raises
        ------
        ProjectLockedError
            Another process has it, or has had it in between.
        StorageError
            The project is no longer here; it is writable again once it is back.
        """
        self._require_in_place()
        self._project_lock.require()

    def close(self) -> None:
        """Close the connection and give the lock up; closing twice is allowed."""
        self._close(is_undone=False)

    def withdraw(self) -> None:
        """Close it as if it had not been opened: who was taken over has the lock again.

        Where something was changed meanwhile, nobody has it: all are to read that first.
        """
        self._close(is_undone=True)

    def _close(self, *, is_undone: bool) -> None:
        with self._lock, sqlite_errors(self._path):
            if self._is_closed:
                return
            self._is_closed = True
            try:
                if self.lock.is_held:
                    with _transaction(self._connection, "IMMEDIATE"):
                        if is_undone:
                            self._project_lock.give_back()
                        else:
                            self._project_lock.give_up()
            finally:
                if self._reader is not self._connection:
                    with self._reader_lock:
                        self._reader.close()
                self._connection.close()
                # Another program may have kept it busy. Whoever has just taken the lock over, and
                # loses it by that, reads from then on.
                self.lock.give_up()


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
        if error.sqlite_errorcode & PRIMARY_CODE not in (
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
    connection = Connection(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
    except BaseException:
        connection.close()
        raise


def _begin(connection: sqlite3.Connection, kind: str) -> None:
    """Begin a transaction; wait for other writers, looking often whether they are done.

    SQLite itself looks ten times a second in the end, and hardly ever finds the moment between
    two transactions of a program that writes one after the other.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute(f"BEGIN {kind}")
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & PRIMARY_CODE == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
            time.sleep(_LOOK_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * _BUSY_SECONDS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    _begin(connection, kind)
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
                remedy=DAMAGED,
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
            header = read_header(path, _HEADER_BYTES)
        except (FileNotFoundError, NotADirectoryError, NotAFileError) as error:
            raise ProjectError(
                "this is not a project",
                where=path.parent,
                remedy="Choose the folder of one, or make one.",
                on_terminal="protoseg new",
            ) from error
    # https://www.sqlite.org/fileformat2.html#the_database_header
    if len(header) < _HEADER_BYTES or not header.startswith(b"SQLite format 3\0"):
        raise ProjectError("the database is damaged", where=path, remedy=DAMAGED)
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise ProjectError(
            "this is a database of another program",
            where=path,
            remedy="Choose the folder of a project.",
        )
    return int.from_bytes(header[60:64])


def _file_identity(path: Path) -> tuple[int, int] | None:
    with storage_errors(path):
        return file_identity(path)
