"""Telling an earlier export from everything else that a folder may hold, before it is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from napari_protoseg.errors import ExportError
from napari_protoseg.storage import storage_errors

CLASSES = "classes.json"
"""The file that every export has: what the mask values mean."""

_CLASSES_KEYS = {"unlabelled", "classes", "schema_fingerprint"}
_MASKS_FILES = {CLASSES, "prediction.json", "recipe.json"}
_TRAINING_FOLDERS = {"training", "training_masks", "valid/img", "valid/mask"}
# What a file browser leaves in every folder that it shows; nobody misses it.
_BROWSER_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


def earlier_export(folder: Path) -> int:
    """Return the number of files of the earlier export in `folder`.

    It is one where its ``classes.json`` is that of an export, and everything else is a file
    that an export writes, at its place.

    Raises
    ------
    ExportError
        `folder` holds anything else, so that replacing it would lose that.
    StorageError
    """
    with storage_errors(folder):
        classes = folder / CLASSES
        if not classes.is_file() or classes.is_symlink() or not _describes_values(classes):
            raise ExportError(
                "the folder is not empty, and holds no earlier export",
                where=folder,
                remedy="Choose a new or empty folder, on a terminal with --out.",
            )
        below = {path.name for path in folder.iterdir() if path.is_dir()}
        is_training = bool(below & {"training", "training_masks", "valid"})
        files = 0
        for path in _contents(folder):
            place = PurePosixPath(path.relative_to(folder).as_posix())
            if not _is_written_by_exports(path, place, is_training=is_training):
                raise ExportError(
                    f"holds {place}, which no export of this kind writes",
                    where=folder,
                    remedy="Move it elsewhere, or choose a new or empty folder.",
                )
            files += not path.is_dir()
    return files


def _describes_values(classes: Path) -> bool:
    try:
        content = json.loads(classes.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.keys() == _CLASSES_KEYS


def _contents(folder: Path) -> Iterator[Path]:
    """Yield all files, links and folders below `folder`; links are not followed."""
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _contents(path)


def _is_written_by_exports(path: Path, place: PurePosixPath, *, is_training: bool) -> bool:
    if path.is_symlink():
        return False
    if path.is_dir():
        folders = {*_TRAINING_FOLDERS, "valid"} if is_training else set()
        return str(place) in folders
    if place.name in _BROWSER_FILES:
        return True
    if str(place) in ({CLASSES} if is_training else _MASKS_FILES):
        return True
    in_masks = str(place.parent) in (_TRAINING_FOLDERS if is_training else {"."})
    return in_masks and place.suffix == ".png"
