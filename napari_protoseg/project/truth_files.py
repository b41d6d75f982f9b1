"""The files of true masks that were imported: new ones come beside the old, which go at last.

Each is named by its image and its content, so no file is ever written over by another mask.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.project.image_rows import select_truth, update_truth
from napari_protoseg.storage import make_folder, staged, storage_errors, sync

_DIGITS = 16
"""Of the SHA-256 of a file, in its name."""

_NAME = re.compile(rf"\d{{6,}}(-[0-9a-f]{{{_DIGITS}}})?\.png")
"""Of files that were imported, also by earlier versions."""


@dataclass(frozen=True)
class StagedTruth:
    """A true mask that is written beside its place.

    Parameters
    ----------
    image_id
        Whose it is.
    temporary, path
        Where its file lies now, and where it belongs.
    """

    image_id: int
    temporary: Path
    path: Path


@contextmanager
def staged_truth(masks: Iterable[tuple[int, bytes]], folder: Path) -> Iterator[list[StagedTruth]]:
    """Write files of true masks beside their places, synced; gone afterwards if not placed.

    Parameters
    ----------
    masks
        Image and content of each file; taken one at a time.
    folder
        Of the project.

    Raises
    ------
    StorageError
    """
    place = _place(folder)
    with storage_errors(place):
        make_folder(place)
    with ExitStack() as staging:
        found = []
        for image_id, content in masks:
            digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
            temporary = staging.enter_context(staged(place, content))
            path = place / f"{image_id:06d}-{digest}.png"
            found.append(StagedTruth(image_id, temporary, path))
        yield found


def place_truth(
    connection: sqlite3.Connection, masks: Sequence[StagedTruth], folder: Path
) -> set[Path]:
    """Put files in their places and name them, within the caller's transaction.

    Returns
    -------
    set of Path
        What was named before.

    Raises
    ------
    ProjectError
        There is no such image.
    StorageError
    """
    former = select_truth(connection, folder, [mask.image_id for mask in masks])
    update_truth(connection, {mask.image_id: mask.path for mask in masks}, folder=folder)
    with storage_errors(_place(folder)):
        for mask in masks:
            mask.temporary.replace(mask.path)
        sync(_place(folder))
    return former


def remove_truth(connection: sqlite3.Connection, paths: Iterable[Path], folder: Path) -> None:
    """Remove files of true masks that no row names, within the caller's transaction.

    Those that are not the project's own stay.

    Raises
    ------
    StorageError
    """
    for path in set(paths) - select_truth(connection, folder):
        if path.parent == _place(folder) and _NAME.fullmatch(path.name):
            with storage_errors(path):
                path.unlink(missing_ok=True)


def _place(folder: Path) -> Path:
    return folder / "truth"
