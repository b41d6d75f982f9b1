"""What SQLite fails with, as errors that a person reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_protoseg.errors import ProjectError, ProtosegError, StorageError
from napari_protoseg.project.records import RecordError

PRIMARY_CODE = 0xFF
"""The bits of a result code that say what has failed, and not how."""

_SPACE = "Free some space, then run the command again."
_ACCESS = "Ask its owner for access, or copy the project to a place that can be written."
_OTHER = "Wait until the other program is done, or close it."
DAMAGED = "Restore the project folder from a copy."
"""What to do about a project that is not as its format says."""
GIVE_UP = (
    "Or give up for good, with the project closed, what is lost of it: a check on a terminal says"
    " how."
)
TO_GIVE_UP = "protoseg check PROJECT --give-up NUMBER"
"""What to do about an image without what is lost of its mask or journal, and what to type then."""

# SQLite's primary result codes: https://www.sqlite.org/rescode.html
_FAILURES: dict[int, tuple[type[ProtosegError], str, str]] = {
    sqlite3.SQLITE_FULL: (StorageError, "no space left on the disk", _SPACE),
    sqlite3.SQLITE_READONLY: (StorageError, "no permission to write", _ACCESS),
    sqlite3.SQLITE_PERM: (StorageError, "no permission", _ACCESS),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "no permission, or no space left", _ACCESS),
    sqlite3.SQLITE_IOERR: (StorageError, "the disk does not answer as it should", _SPACE),
    sqlite3.SQLITE_BUSY: (StorageError, "another program is writing to the project", _OTHER),
    sqlite3.SQLITE_LOCKED: (StorageError, "another program is writing to the project", _OTHER),
    sqlite3.SQLITE_CORRUPT: (ProjectError, "the database is damaged", DAMAGED),
    sqlite3.SQLITE_NOTADB: (ProjectError, "the database is damaged", DAMAGED),
    sqlite3.SQLITE_ERROR: (ProjectError, "the database is not as its format says", DAMAGED),
    sqlite3.SQLITE_CONSTRAINT: (
        ProjectError,
        "the record contradicts what the project holds",
        "Check that it names an image, bank or round of this project, and stands there once.",
    ),
}


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raise a typed error for those of SQLite that the program is not to blame for."""
    try:
        yield
    except RecordError as error:
        raise ProjectError(f"{error} is damaged", where=path, remedy=DAMAGED) from error
    except UnicodeDecodeError as error:  # of SQLite's own message about a damaged table
        raise ProjectError(f"a text is damaged ({error})", where=path, remedy=DAMAGED) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # sqlite3's own errors have none
        if code is None and "decode" in str(error):
            raise ProjectError(
                f"a text is damaged ({error})", where=path, remedy=DAMAGED
            ) from error
        if code is None or code & PRIMARY_CODE not in _FAILURES:
            raise
        kind, what, remedy = _FAILURES[code & PRIMARY_CODE]
        raise kind(f"{what} ({error})", where=path, remedy=remedy) from error
