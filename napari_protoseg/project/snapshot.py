"""A copy of a project as it stands at one moment, also while another process writes to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from napari_protoseg.project.creation import DATABASE
from napari_protoseg.project.database import Database
from napari_protoseg.project.leftovers import STAGE
from napari_protoseg.project.lock import LOCK, ProjectLock
from napari_protoseg.project.paths import OWN_FOLDERS, found_path, recorded_path, refuse_links
from napari_protoseg.project.sqlite_errors import sqlite_errors
from napari_protoseg.storage import make_folder, replacing, storage_errors


@contextmanager
def staged(database: Database, folder: Path) -> Iterator[Path]:
    """Yield a folder with everything of a project as it stands now; it is gone afterwards.

    Every file of a project is replaced as a whole and never changed, so a second name for it
    holds what it held. Whoever writes waits for that alone, not until all is copied; where the
    disk knows no second names, until all is copied.

    Raises
    ------
    ProjectError
        There are links to folders in it.
    StorageError
        The project cannot be read, or its disk cannot be written.
    """
    with storage_errors(folder):
        refuse_links(folder)
        stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
    lock = ProjectLock(stage / LOCK)  # nobody takes it for the leftover of a killed program
    try:
        lock.take()
        with database.excluding(), storage_errors(folder):
            _copy_database(folder / DATABASE, stage / DATABASE)
            for name in OWN_FOLDERS:
                if (folder / name).is_dir():
                    shutil.copytree(
                        folder / name,
                        stage / name,
                        copy_function=_name_again,
                        ignore=shutil.ignore_patterns(".*"),
                    )
        yield stage
    finally:
        lock.give_up()
        with storage_errors(stage):
            shutil.rmtree(stage)


def copy_files(stage: Path, target: Path) -> Iterator[tuple[int, int]]:
    """Copy every file below `stage`, synced; yield how many are copied, and how many there are.

    Raises
    ------
    StorageError
        The disk is full, or cannot be written or read.
    """
    with storage_errors(stage):
        paths = sorted(stage.rglob("*"))
    for path in paths:
        if path.is_dir():  # a training that has just begun has an empty folder
            with storage_errors(target):
                make_folder(target / path.relative_to(stage))
    files = [path for path in paths if path.is_file() and path.name != LOCK]
    for number, path in enumerate(files, start=1):
        with replacing(target / path.relative_to(stage)) as temporary:
            shutil.copyfile(path, temporary)
        yield number, len(files)


def move_paths(database: Path, folder: Path, new_folder: Path) -> None:
    """Let the paths of images in a copied database lead from `new_folder` to where they led.

    Those within the project stay as they are.

    Raises
    ------
    StorageError
        The disk is full, or cannot be written or read.
    """
    with sqlite_errors(database), closing(sqlite3.connect(database)) as connection, connection:
        for column in ("path", "mask_path"):
            rows = connection.execute(
                f"SELECT id, {column} FROM images WHERE {column} IS NOT NULL"
            ).fetchall()
            moved = {
                image_id: recorded_path(path, new_folder)
                for image_id, path in ((k, found_path(text, folder)) for k, text in rows)
                if not path.is_relative_to(folder)
            }
            if column == "path":  # so that no two are at one path on the way
                connection.executemany(
                    "UPDATE images SET path = ? WHERE id = ?",
                    [(f"\n{image_id}", image_id) for image_id in moved],
                )
            connection.executemany(
                f"UPDATE images SET {column} = ? WHERE id = ?",
                [(text, image_id) for image_id, text in moved.items()],
            )


def _copy_database(source: Path, target: Path) -> None:
    # SQLite copies from no connection that is in a writing transaction: from one of its own.
    reader, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        reader.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file
    finally:
        copy.close()
        reader.close()


def _name_again(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no second names on this disk
        shutil.copyfile(source, target)
