"""Making the folder of a new project, or leaving no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from napari_protoseg import __version__
from napari_protoseg.errors import ProjectError
from napari_protoseg.project.database import Database
from napari_protoseg.project.schema_rows import insert_schema
from napari_protoseg.project.times import recorded_time
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import make_folder, storage_errors

DATABASE = "project.db"
"""Name of the database in the project folder."""


@contextmanager
def created_folder(folder: Path, schema: ClassSchema, *, created: datetime) -> Iterator[None]:
    """Make a project in `folder`, and remove it again if anything within goes wrong.

    Raises
    ------
    ProjectError
        The folder holds something already.
    StorageError
        The folder cannot be made or written.
    """
    require_free(folder)
    with storage_errors(folder):
        made = [place for place in (folder, *folder.parents) if not place.exists()]
    facts = {"created": recorded_time(created), "program_version": __version__}
    try:
        with storage_errors(folder):
            make_folder(folder)
        with Database.creating(folder / DATABASE) as connection:
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", facts.items())
            insert_schema(connection, schema, created=created)
        yield
    except BaseException:
        with storage_errors(folder):
            _remove(folder, made)
        raise


def require_free(folder: Path) -> None:
    """Make sure that a project can be made in `folder`, before long work.

    Raises
    ------
    ProjectError
        The folder holds something already.
    StorageError
        It cannot be read.
    """
    with storage_errors(folder):
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if DATABASE in names:
        raise ProjectError(
            "this is a project already",
            where=folder,
            remedy="Open it, or choose another folder for a new one.",
        )
    # A killed creation leaves such a file; the project never came to be.
    foreign = [name for name in names if not name.startswith(f".{DATABASE}.")]
    if foreign:
        raise ProjectError(
            f"the folder is not empty (it holds {foreign[0]!r})",
            where=folder,
            remedy="Choose a folder that is empty or does not exist.",
        )


def _remove(folder: Path, made: list[Path]) -> None:
    if folder.is_dir():
        for file in folder.glob(f"{DATABASE}*"):
            file.unlink()
    for place in made:
        if place.is_dir():
            place.rmdir()
