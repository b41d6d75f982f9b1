"""Paths as a project records them: relative to its folder, with forward slashes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.records import RecordError

OWN_FOLDERS = ("arrays.zarr", "banks", "runs", "truth")
"""Folders of a project, but for the cache, which is made again."""


def real_path(path: Path) -> Path:
    """Return `path` absolute and with every symbolic link resolved, whether or not it exists."""
    # Path.resolve raises where links form a loop; the error belongs to the first real access.
    return Path(os.path.realpath(path))


def refuse_links(folder: Path) -> None:
    """Make sure that no folder of a project is a link, which leads out of it, or in circles.

    What is written to a project, copied or removed is then within it. Links among the results of
    an encoder in the cache are seen when these are used.

    Parameters
    ----------
    folder
        Of the project.

    Raises
    ------
    ProjectError
        One is a link.
    OSError
        One cannot be read.
    """
    for name in (*OWN_FOLDERS, "cache"):
        _refuse_link(folder / name)
    for name in OWN_FOLDERS:
        for place, folders, _ in os.walk(folder / name):
            for below in folders:
                _refuse_link(Path(place, below))
    for found in (*folder.glob("cache/*"), *folder.glob("cache/*/*")):
        _refuse_link(found)


def refuse_foreign_files(database: Path) -> None:
    """Make sure that a database and the files beside it are this project's own.

    SQLite follows links, finds the log and the locks of a file by its name, and waits for a named
    pipe without end: under a second name, two programs would write to one project at once. None of
    the files is opened here.

    Parameters
    ----------
    database
        Of the project; that it is missing, a folder or a named pipe is not said here.

    Raises
    ------
    ProjectError
        One is a link, has another name elsewhere, or is no file.
    OSError
        One cannot be looked at.
    """
    for end in ("", "-journal", "-wal", "-shm"):
        place = database.with_name(f"{database.name}{end}")
        try:
            found = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISLNK(found.st_mode):
            raise ProjectError(
                "a link in the place of a file of the project, which may be another project's",
                where=place,
                remedy="Open the project that it leads to, or make a real copy of it.",
            )
        if not stat.S_ISREG(found.st_mode):
            if end:
                raise ProjectError(
                    "not a file, and a part of the database belongs there",
                    where=place,
                    remedy="Remove it; no program of ours has made it.",
                )
            continue
        if found.st_nlink > 1:
            raise ProjectError(
                "the file has another name elsewhere (a hard link), under which it would change",
                where=place,
                remedy="Copy the folder without hard links (cp -r, where cp -al or a backup"
                " program has made them), and open the copy.",
            )


def _refuse_link(place: Path) -> None:
    if place.is_symlink():
        raise ProjectError(
            "a link to a folder, within a project",
            where=place,
            remedy="Put the folder itself in its place, or remove the link.",
        )


def recorded_path(path: Path, folder: Path) -> str:
    """Return the text that stands for `path` in the project at `folder`.

    Parameters
    ----------
    path
        The links in its parent folders are resolved; its own name is kept, since names
        may carry labels.
    folder
        Real path of the project folder.

    Raises
    ------
    ProjectError
        The name cannot be written as UTF-8.
    """
    real = real_path(path.parent) / path.name
    try:
        text = Path(os.path.relpath(real, folder)).as_posix()
    except ValueError:  # on Windows, another drive
        text = real.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProjectError(
            "the name is not valid UTF-8",
            where=ascii(str(path)),
            remedy="Rename the file, then add it again.",
        ) from error
    return text


def is_whole(text: str) -> bool:
    """Tell whether a path leads from the root of a disk, on this system or another."""
    return any(path.is_absolute() for path in _read_anywhere(text))


def places_since(text: str, folder: Path) -> Iterator[Path]:
    """Yield what `text` may stand for in a project that has been moved to `folder` since.

    A whole path says not which of its folders was that of the project; what is there now below one
    of the project's own folders by the same names may be what it stands for.
    """
    for path in filter(PurePath.is_absolute, _read_anywhere(text)):
        for n, name in enumerate(path.parts):
            if name in (*OWN_FOLDERS, "cache"):
                place = Path(os.path.normpath(folder.joinpath(*path.parts[n:])))
                if place.is_relative_to(folder) and os.path.lexists(place):
                    yield place


def _read_anywhere(text: str) -> tuple[PurePath, ...]:
    """Return a path as each system reads it: a project may come from another one."""
    return PurePosixPath(text), PureWindowsPath(text)


def found_path(text: str, folder: Path) -> Path:
    """Return the absolute path that `text` stands for in the project at `folder`.

    Raises
    ------
    RecordError
        No file can be called so.
    """
    if "\0" in text:
        raise RecordError(f"the path {text!r}")
    return Path(os.path.normpath(folder / text))


def owned_path(text: str, folder: Path) -> Path:
    """Return the path that `text` stands for, of something that the project itself has made.

    Raises
    ------
    RecordError
        It does not lie in the project: what is written there would be written elsewhere.
    """
    path = found_path(text, folder)
    if path == folder or not path.is_relative_to(folder):
        raise RecordError(f"the path {text!r}, which leaves the project,")
    return path
