"""Writing files so that each is complete or absent, and saying why when it cannot be."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from napari_protoseg.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: ("no space left on the disk", "Free some space, then run the command again."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, then run the command again."),
    errno.EACCES: ("no permission", "Choose another place, or ask its owner for access."),
    errno.EPERM: ("no permission", "Choose another place, or ask its owner for access."),
    errno.EROFS: ("the disk is read-only", "Choose a place that can be written."),
    errno.ENOENT: ("no such file or folder", "Check the path."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Check the path."),
    errno.EISDIR: ("a folder stands where a file belongs", "Move the folder, or choose a name."),
    errno.EEXIST: ("a file stands where a folder belongs", "Move the file, or choose a name."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter one."),
}


Replacing = Callable[[Path], AbstractContextManager[Path]]
"""What writes a file as `replacing` does; it may refuse to."""


def _file_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# Asked for once, at import: to ask is to change it for a moment, for all threads.
_MODE = _file_mode()


def storage_error(error: OSError, where: str | Path) -> StorageError:
    """Translate an error of the operating system into one that names the way out."""
    what, remedy = _REMEDIES.get(
        error.errno or 0, (error.strerror or str(error), "Check the disk and the path.")
    )
    return StorageError(what, where=where, remedy=remedy)


@contextmanager
def storage_errors(where: str | Path) -> Iterator[None]:
    """Raise `StorageError` naming `where` for any `OSError` within."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, error.filename or where) from error


def would_wait(mode: int) -> bool:
    """Tell of the mode of a place whether it is a named pipe or device, which keeps one waiting."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_file(path: Path) -> int:
    """Return the size of a file in bytes; a named pipe, say, would be waited for without end.

    Raises
    ------
    StorageError
        There is no such file, or something else stands there.
    """
    with storage_errors(path):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise StorageError("not a file", where=path, remedy="Give a file.")
    return found.st_size


def read_whole(path: Path, *, most: int) -> bytes:
    """Return the content of a file of at most `most` bytes.

    Raises
    ------
    StorageError
        There is no such file, it cannot be read, or is larger.
    """
    size = require_file(path)
    if size > most:
        raise StorageError(
            f"{size:,} bytes, and such a file has at most {most:,}",
            where=path,
            remedy="Give the file that is meant.",
        )
    with storage_errors(path):
        return path.read_bytes()


@contextmanager
def replacing(
    path: Path, within: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place, synced, on success.

    The folder of `path` is made where it is missing. Whatever goes wrong, `path` is
    afterwards either the old file or the whole new one, and the temporary file is gone.

    Parameters
    ----------
    path
        Of the file.
    within
        What is entered for the moment in which the temporary file takes its place; what it
        raises keeps the old file there.

    Raises
    ------
    StorageError
        The disk is full, read-only, or not writable by this person.
    """
    with storage_errors(path):
        make_folder(path.parent)
        with _temporary_file(path.parent, path.name[:40]) as temporary:
            yield temporary
            sync(temporary)
            with within():
                take_place(temporary, path)


@contextmanager
def staged(folder: Path, content: bytes) -> Iterator[Path]:
    """Yield a temporary file of `folder` with `content`, synced: `take_place` is quick then.

    The folder is there.

    Raises
    ------
    StorageError
        The disk is full, read-only, or not writable by this person.
    """
    with storage_errors(folder), _temporary_file(folder, "staged") as temporary:
        temporary.write_bytes(content)
        del content
        sync(temporary)
        yield temporary


def take_place(temporary: Path, path: Path) -> None:
    """Let a synced file on the same disk take the place of `path`, whose folder is there."""
    temporary.replace(path)
    sync(path.parent)


@contextmanager
def _temporary_file(folder: Path, name: str) -> Iterator[Path]:
    """Yield a file of `folder` that is gone afterwards, unless it has taken another's place."""
    handle, found = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    os.close(handle)
    temporary = Path(found)
    try:
        temporary.chmod(_MODE)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def make_folder(path: Path) -> None:
    """Make a folder where it is missing, and those above it, so that the disk has them."""
    made = []
    while not path.is_dir():
        made.append(path)
        path = path.parent
    for folder in reversed(made):
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Ask for `path` (a file, or on POSIX a folder) to reach the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
