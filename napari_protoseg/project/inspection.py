"""What can be wrong in a project folder: its rows, and the files that no row names."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project.arrays import array_name
from napari_protoseg.project.edit_codec import require_given, unpacked
from napari_protoseg.project.edit_rows import select_journaled, select_steps
from napari_protoseg.project.edits import Action, histories
from napari_protoseg.project.image_rows import mask_shape
from napari_protoseg.project.lock import LOCK, ProjectLock
from napari_protoseg.project.paths import real_path
from napari_protoseg.project.records import RecordError
from napari_protoseg.project.schema_rows import Lineage, select_heirs
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import storage_error, storage_errors

COPY = "Restore the project folder from a copy."
_FAULTS = 100

# As `storage.replacing` names a file that it writes; others that begin with a dot are not ours.
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")
STAGE = ".backup-"
"""How the name of a folder begins in which a backup keeps its files together meanwhile."""
_TRIES = 3
"""To remove a folder that another removes as well; there are disks that list what they lack."""

REMOVED = ".removed-"
"""How the name of a folder begins in which lies what is just being removed."""

_Mark = Path | tuple[int, int]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Parameters
    ----------
    where
        Table, file or image.
    what
        What is wrong with it, and what is lost, as a clause.
    remedy
        What to do about it, as a sentence.
    """

    where: str
    what: str
    remedy: str


def row_faults(connection: sqlite3.Connection, folder: Path) -> Iterator[Fault]:
    """Yield what is wrong with the rows of the database, within the caller's transaction."""
    for (text,) in connection.execute(f"PRAGMA integrity_check({_FAULTS})"):
        if text != "ok":
            yield Fault("project.db", f"the database is damaged ({text})", COPY)
    orphans = Counter(
        (table, parent)
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall()
    )
    for (table, parent), count in orphans.items():
        yield Fault(
            f"table {table}",
            f"{count} rows belong to a row of {parent} that is not there",
            "Check again with --repair, which removes those that mean nothing without it."
            if table in orphan_keys(connection)
            else COPY,
        )
    yield from _schema_faults(connection)
    yield from _journal_faults(connection)
    query = (
        "SELECT images.id, images.path, array, height, width FROM masks"
        " JOIN images ON images.id = masks.image_id"
    )
    for image_id, path, array, height, width in connection.execute(query):
        if array != array_name(height, width):
            yield Fault(
                f"image {image_id} ({path})",
                f"its mask is recorded in the array {array}, the image is {height}x{width}",
                COPY,
            )


def orphan_keys(connection: sqlite3.Connection) -> dict[str, list[tuple[str, str, str]]]:
    """Return the keys whose rows go with their parent: column, parent and its column, by table."""
    keys: dict[str, list[tuple[str, str, str]]] = {}
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, _, parent, column, target, _, on_delete, _ in connection.execute(
            f"PRAGMA foreign_key_list({table})"
        ):
            if on_delete == "CASCADE":
                keys.setdefault(table, []).append((column, parent, target))
    return keys


def remove_orphan_rows(connection: sqlite3.Connection) -> Counter[str]:
    """Remove rows that mean nothing without a parent that is gone; return how many, by table."""
    removed: Counter[str] = Counter()
    for table, keys in orphan_keys(connection).items():
        for column, parent, target in keys:
            deleted = connection.execute(
                f"DELETE FROM {table} WHERE {column} NOT IN (SELECT {target} FROM {parent})"
            )
            removed[table] += max(deleted.rowcount, 0)
    return +removed


def select_paths(connection: sqlite3.Connection) -> list[str]:
    """Return the path of every file and folder that a row names, as it is recorded."""
    query = (
        "SELECT file FROM banks UNION SELECT folder FROM rounds UNION SELECT path FROM images"
        " UNION SELECT mask_path FROM images WHERE mask_path IS NOT NULL"
    )
    return [text for (text,) in connection.execute(query)]


class NamedFiles:
    """The files and folders that the rows of a project name, wherever they lie.

    Those outside of its folder may lie on a disk that does not answer. They are looked at only
    once there is something that no row names by a path within the folder.

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
            if "\0" in text:  # no file can be called so
                continue
            place = Path(os.path.normpath(folder / text))
            if place.is_relative_to(folder):
                self._enter(place)
            self._unseen.append(place)

    def spare(self, path: Path) -> bool:
        """Tell whether something is named, or holds what is."""
        if not self._knows(path):
            self._look_farther()
        return self._knows(path)

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
            place = self._unseen.pop()
            self._enter(place)
            if os.path.islink(place):  # noqa: PTH114
                self._enter(real_path(place))

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

    Nobody else has the project open, or has had it since: what others are writing looks the same.
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
        found += [path for path in folder.glob(f"{REMOVED}*") if path.is_dir()]
    return sorted(
        path for path in found if path.parent == real_path(path.parent) and not named.spare(path)
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
        return list(named.others(cache)) if named.spare(cache) else sorted(cache.iterdir())


def put_aside(paths: Sequence[Path], aside: Path) -> tuple[list[Path], list[StorageError]]:
    """Move files and folders to a new folder, each that can be.

    What lies on another disk than that is removed at once.

    Returns
    -------
    list of Path
        Those that were there, and are not any more.
    list of StorageError
        Why others are still there.

    Raises
    ------
    StorageError
        The new folder cannot be made.
    """
    moved, failed = [], []
    with storage_errors(aside):
        aside.mkdir()
    for number, path in enumerate(paths):
        try:
            _take_away(path, aside / str(number))
        except FileNotFoundError:
            continue
        except OSError as error:
            failed.append(storage_error(error, error.filename or path))
        else:
            moved.append(path)
    return moved, failed


def _take_away(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, where it is there; another may do the same.

    Raises
    ------
    StorageError
    """
    with storage_errors(folder):
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)
        if folder.is_dir():
            shutil.rmtree(folder)


def _marks(path: Path) -> set[_Mark]:
    """Return what tells a place from others: some disks know a file by several spellings."""
    try:
        found = path.lstat()
    except OSError:  # there is none, or it cannot be looked at: then it goes by its path
        return {path}
    return {path, (found.st_dev, found.st_ino)}


def _journal_faults(connection: sqlite3.Connection) -> Iterator[Fault]:
    """Read every edit, also those that the stored masks hold and an undo would need."""
    images = {image_id for (image_id,) in connection.execute("SELECT id FROM images")}
    for image_id in images.intersection(select_journaled(connection)):  # orphans are told of above
        try:
            shape = mask_shape(connection, image_id)
            given = select_heirs(connection).given
            steps = [recorded.step for recorded in select_steps(connection, image_id, shape)]
            histories(steps)
            for step in steps:
                if step.action is Action.DO:
                    require_given(unpacked(step.edit.pixels, shape), given)
        except (ProjectError, RecordError) as error:
            what = error.what if isinstance(error, ProjectError) else f"{error} is damaged"
            lost = "what was done to its mask cannot be undone"
            yield Fault(f"image {image_id}", f"{what}; {lost}", COPY)


def _schema_faults(connection: sqlite3.Connection) -> Iterator[Fault]:
    lineage = Lineage()
    for version, json, fingerprint in connection.execute(
        "SELECT version, json, fingerprint FROM class_schemas ORDER BY version"
    ):
        where = f"class schema {version}"
        try:
            schema = ClassSchema.model_validate_json(json)
        except ValidationError:
            yield Fault(where, "it cannot be read", COPY)
            continue
        contradiction = lineage.broken_by(schema)
        if contradiction is not None:
            yield Fault(where, contradiction, COPY)
        if schema.fingerprint != fingerprint:
            yield Fault(where, "its classes are not those of its fingerprint", COPY)
