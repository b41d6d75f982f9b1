"""The header of a database file, read without SQLite, whose locks on it are left alone.

On POSIX, whoever closes any descriptor of a file gives up all locks that its process has on that
file, also those of SQLite (https://www.sqlite.org/howtocorrupt.html, section 2.2): the next program
to close the database would then take itself for the last, and remove a log that is still written
to. So a file that was read here stays open for as long as there is a connection to it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

_Identity = tuple[int, int]

# A named pipe would else be waited for without end. Windows has none in folders.
_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

_guard = threading.Lock()
# Of each file: how many connections this process has, and descriptors to be closed after them.
_connections: Counter[_Identity] = Counter()
_left_open: defaultdict[_Identity, list[int]] = defaultdict(list)


class NotAFileError(OSError):
    """A folder, a named pipe or a device stands where a file belongs."""


def file_identity(path: Path) -> _Identity | None:
    """Return what tells a file from every other; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def read_header(path: Path, size: int) -> bytes:
    """Return the first bytes of a file.

    Parameters
    ----------
    path
        It may be a database that is open in this process.
    size
        How many bytes at most.

    Raises
    ------
    NotAFileError
        Something else stands there.
    OSError
        It cannot be read.
    """
    with _guard:
        descriptor = os.open(path, _READING)
        found = os.fstat(descriptor)
        try:
            if not stat.S_ISREG(found.st_mode):
                raise NotAFileError(f"{path} is not a file")
            return os.read(descriptor, size)
        finally:
            identity = (found.st_dev, found.st_ino)
            if _connections[identity]:
                _left_open[identity].append(descriptor)
            else:
                os.close(descriptor)


class Connection(sqlite3.Connection):
    """A connection to a database whose header may be read at the same time.

    Parameters
    ----------
    path
        Of the database.
    options
        As for `sqlite3.connect`.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        with _guard:
            self._file = file_identity(path)
            if self._file is not None:
                _connections[self._file] += 1
        try:
            super().__init__(path, **options)
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Close it; closing twice is allowed."""
        super().close()
        self._release()

    def _release(self) -> None:
        with _guard:
            identity, self._file = self._file, None
            if identity is None:
                return
            _connections[identity] -= 1
            if not _connections[identity]:
                del _connections[identity]
                for descriptor in _left_open.pop(identity, ()):
                    os.close(descriptor)
