"""Telling an earlier export from everything else that a folder may hold, before it is replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from napari_protoseg.errors import ExportError
from napari_protoseg.storage import storage_errors

CLASSES = "classes.json"
"""The file that every export has: what the mask values mean."""

_MOST_BYTES = 2**24
_CLASSES_KEYS = {"unlabelled", "classes", "schema_fingerprint"}
_MASKS_FILES = {CLASSES, "prediction.json", "recipe.json"}
_TRAINING_FOLDERS = {"training", "training_masks", "valid/img", "valid/mask"}
_TRAINING_ROOTS = {"training", "training_masks", "valid"}
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
                remedy="Choose a new or empty folder.",
                on_terminal="--out FOLDER",
            )
        is_training = any((folder / name).is_dir() for name in _TRAINING_ROOTS)
        files = 0
        for place, entry in _contents(folder):
            if not _is_written_by_exports(place, entry, is_training=is_training):
                raise ExportError(
                    f"holds {place}, which no export of this kind writes",
                    where=folder,
                    remedy="Move it elsewhere, or choose a new or empty folder.",
                )
            files += not entry.is_dir()
    return files


def _describes_values(classes: Path) -> bool:
    if classes.stat().st_size > _MOST_BYTES:
        return False
    try:
        content = json.loads(classes.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() == _CLASSES_KEYS


def _contents(folder: Path, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all files, links and folders below `folder` with their places in it.

    Links are not followed. As text and not as paths, since there may be tens of thousands.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            place = above + entry.name
            yield place, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _contents(Path(entry.path), f"{place}/")


def _is_written_by_exports(place: str, entry: os.DirEntry[str], *, is_training: bool) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return is_training and place in _TRAINING_FOLDERS | _TRAINING_ROOTS
    if entry.name in _BROWSER_FILES:
        return True
    if place in ({CLASSES} if is_training else _MASKS_FILES):
        return True
    above = place.rpartition("/")[0]
    in_masks = above in _TRAINING_FOLDERS if is_training else not above
    return in_masks and place.endswith(".png")
