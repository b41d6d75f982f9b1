"""What lies in a project folder and no row names: how it is found, and removed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from napari_protoseg.errors import StorageError
from napari_protoseg.project.lock import LOCK, ProjectLock
from napari_protoseg.project.paths import is_whole, places_since, real_path
from napari_protoseg.storage import storage_error, storage_errors

# As `storage.replacing` names a file that it writes; others that begin with a dot are not ours.
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")
STAGE = ".backup-"
"""How the name of a folder begins in which a backup keeps its files together meanwhile."""
_REMOVED = ".removed-"
"""How the name begins that something has while it is removed."""

_MOST_LINKS = 40
"""On one path: no system follows more."""

_LONGEST = 4096
"""Characters of a path that a file can be found by."""

_Mark = Path | tuple[int, int]
_Caught = tuple[type[BaseException], BaseException, TracebackType]


def select_paths(connection: sqlite3.Connection) -> list[str]:
    """Return the path of every file and folder that a row names, as it is recorded.

    Those of weights are whole, and stand in what is recorded of banks and rounds.
    """
    query = (
        "SELECT file FROM banks UNION SELECT folder FROM rounds UNION SELECT path FROM images"
        " UNION SELECT mask_path FROM images WHERE mask_path IS NOT NULL"
    )
    paths = [str(text) for (text,) in connection.execute(query)]
    query = (
        "SELECT DISTINCT CAST(atom AS BLOB) FROM"
        " (SELECT summary AS record FROM banks UNION SELECT config FROM rounds),"
        " json_tree(iif(json_valid(record), record, 'null')) WHERE type = 'text'"
    )
    texts = [os.fsdecode(text) for (text,) in connection.execute(query)]
    return [*paths, *filter(is_whole, texts)]


class NamedFiles:
    """The files and folders that the rows of a project name, wherever they lie.

    Those outside of its folder may lie on a disk that does not answer. They are looked at only
    once there is something that no row names by a path within the folder. What was named by its
    whole path is also named where it lies if the project has been moved since.

    Parameters
    ----------
    folder
        Of the project.
    texts
        Their paths, as they are recorded.
    """

    def __init__(self, folder: Path, texts: Iterable[str]) -> None:
        self.texts = frozenset(texts)
        self._named: set[_Mark] = set()
        self._above: set[_Mark] = set()
        self._unseen: list[Path] = []
        for text in self.texts:
            if "\0" in text or len(text) > _LONGEST:  # no file can be called so
                continue
            place = Path(os.path.normpath(folder / text))
            if place.is_relative_to(folder):
                self._enter(place)
            self._unseen.append(place)
            for place in places_since(text, folder):
                self._enter(place)

    def spare(self, path: Path) -> bool:
        """Tell whether something is named, holds what is, or is on the way there.

        Raises
        ------
        OSError
        """
        if not self.texts:
            return False
        if not self._knows(path):
            self._look_farther()
        if self._knows(path):
            return True
        # A backup under way holds second names of files, which may go, also half-removed.
        if path.name.startswith((STAGE, _REMOVED)):
            return False
        # A disk may show what is below by another name, too, which is the one that is recorded.
        return any(map(self._knows, path.rglob("*")))

    def others(self, folder: Path) -> Iterator[Path]:
        """Yield what is in a folder and may go without anything that is named.

        What begins with a dot is not looked at.

        Raises
        ------
        OSError
        """
        if not _marks(folder).isdisjoint(self._named) or not folder.is_dir():
            return
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if not self.spare(path):
                yield path
            elif not path.is_symlink():
                yield from self.others(path)

    def _knows(self, path: Path) -> bool:
        marks = _marks(path)
        return not (marks.isdisjoint(self._named) and marks.isdisjoint(self._above))

    def _look_farther(self) -> None:
        """Look also at what is named outside of the folder, and at what links lead to.

        It may be within after all: by a link, or where the disk knows the folder by other names.
        """
        while self._unseen:
            for path in _ways(self._unseen.pop()):
                self._enter(path)

    def _enter(self, path: Path) -> None:
        if path in self._named:
            return
        self._named |= _marks(path)
        for parent in path.parents:
            if parent in self._above:
                break
            self._above |= _marks(parent)


def unfinished_files(folder: Path, named: NamedFiles) -> list[Path]:
    """Return what killed programs have left half-written, or half-removed.

    What another program is writing looks the same: it is left over for certain only where nobody
    else has had the project by the time that it is removed.

    Raises
    ------
    StorageError
    """
    with storage_errors(folder):
        found = [
            path
            for place in (folder, *(folder / name for name in ("banks", "truth")))
            for path in place.glob(".*")
            if path.is_file() and _UNFINISHED.fullmatch(path.name)
        ]
        for name in ("arrays.zarr", "runs"):
            found += [
                path
                for path in (folder / name).rglob(".*")
                if path.is_file() and _UNFINISHED.fullmatch(path.name)
            ]
        found += [path for path in (folder / "cache").glob("*/*/.*") if path.is_dir()]
        found += [
            path
            for path in folder.glob(f"{STAGE}*")
            if path.is_dir() and ProjectLock(path / LOCK).other() is None
        ]
        found += folder.glob(f"{_REMOVED}*")
        return sorted(
            path
            for path in found
            if path.parent == real_path(path.parent) and not named.spare(path)
        )


def unnamed_files(folder: Path, named: NamedFiles) -> list[Path]:
    """Return what lies where banks, runs and true masks do, and holds nothing that a row names."""
    with storage_errors(folder):
        return [path for name in ("banks", "runs", "truth") for path in named.others(folder / name)]


def cached_files(cache: Path, named: NamedFiles) -> list[Path]:
    """Return what can go of the cache: all of it, unless somebody keeps images in it."""
    with storage_errors(cache):
        if not cache.exists():
            return []
        if named.spare(cache):
            return list(named.others(cache))
        return sorted(cache.iterdir()) if cache.is_dir() else [cache]


def put_aside(
    paths: Iterable[Path], folder: Path
) -> tuple[dict[Path, Path], dict[Path, StorageError | None]]:
    """Rename files and folders, so that it is seen that they are being removed.

    What is called so already keeps its name. What lies on another disk than the folder is removed
    at once.

    Parameters
    ----------
    paths
        A folder before what is in it.
    folder
        In which they get new names.

    Returns
    -------
    dict of Path
        How each is called that is still to be removed.
    dict of StorageError or None
        Why each other one is still there; None for what is gone. What lies in a folder that is
        in either is in neither itself, unless that folder stays as it is.
    """
    places: dict[Path, Path] = {}
    left: dict[Path, StorageError | None] = {}
    tried: set[Path] = set()
    for path in paths:
        if not tried.isdisjoint(path.parents):
            continue  # it goes with its folder, or is told of as what is left of that
        name = path.name
        if not name.startswith(_REMOVED):
            name = f"{_REMOVED}{uuid4().hex[:8]}-{name[:40]}"
        try:
            places[path] = path.rename(folder / name)
        except FileNotFoundError:
            left[path] = None
        except OSError as error:
            if error.errno != errno.EXDEV:
                left[path] = storage_error(error, path)
                continue
            left[path] = remove(path)
        tried.add(path)
    return places, left


def remove(path: Path) -> StorageError | None:
    """Remove a file, or all of a folder that can be; another may do the same.

    Returns
    -------
    StorageError or None
        Of the first that is still there, why.
    """
    failed: list[StorageError] = []

    def note(_: object, place: str, caught: _Caught) -> None:
        error = caught[1]
        assert isinstance(error, OSError)
        if not isinstance(error, FileNotFoundError):
            failed.append(storage_error(error, place))

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=note)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            failed.append(storage_error(error, path))
    return failed[0] if failed else None


def _ways(path: Path) -> Iterator[Path]:
    """Yield where a path really leads, and each way there: the first link on it is followed, next.

    Raises
    ------
    OSError
    """
    real = real_path(path)
    yield real
    for _ in range(_MOST_LINKS):
        if path == real:
            return
        yield path
        links = filter(os.path.islink, (*reversed(path.parents), path))
        link = next(links, None)
        if link is None:
            return
        path = link.parent / link.readlink() / path.relative_to(link)


def _marks(path: Path) -> set[_Mark]:
    """Return what tells a place from others: some disks know a file by several spellings."""
    try:
        found = path.lstat()
    except OSError:  # there is none, or it cannot be looked at: then it goes by its path
        return {path}
    return {path, (found.st_dev, found.st_ino)}
