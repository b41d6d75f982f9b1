"""A folder that appears complete or not at all, and the masks that go into one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.earlier import earlier_export
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import make_folder, storage_errors, sync, write_atomically


@dataclass(frozen=True)
class NamedMask:
    """A mask to export.

    Parameters
    ----------
    name
        Of its file, without folder and suffix.
    mask
        Shape ``(height, width)``, uint8: 0 unlabelled, k class id k.
    """

    name: str
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Exported:
    """A finished export: its folder and how many images it holds."""

    folder: Path
    images: int


@contextmanager
def staging(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`, gone afterwards unless `publish` has moved it there.

    Raises
    ------
    ExportError
        `out` is a file, or holds something; to overwrite: something else than an export.
    StorageError
    """
    with storage_errors(out):
        place = _place(out, overwrite=overwrite)
        make_folder(place.parent)
        with tempfile.TemporaryDirectory(prefix=".export.", dir=place.parent) as temporary:
            folder = Path(temporary) / place.name
            folder.mkdir()
            yield folder


def publish(staged: Path, out: Path, *, overwrite: bool = False) -> None:
    """Give a folder of `staging` its place; errors as there.

    An earlier export is first renamed to ``<name>.earlier``, and removed once the new one has
    its place: whenever the program or the machine dies, one of them is there as a whole.
    """
    with storage_errors(out):
        place = _place(out, overwrite=overwrite)
        for folder in (*(path for path in staged.rglob("*") if path.is_dir()), staged):
            sync(folder)
        if not place.exists():
            staged.rename(place)
        elif not any(place.iterdir()):
            place.rmdir()
            staged.rename(place)
        else:
            earlier = _free_name(place)
            place.rename(earlier)
            try:
                staged.rename(place)
            except OSError:
                earlier.rename(place)
                raise
            sync(place.parent)
            _remove(earlier, place)
        sync(place.parent)


def _place(out: Path, *, overwrite: bool) -> Path:
    """Return `out` with links followed, once it is known that an export may go there."""
    with storage_errors(out):
        place = out.resolve()
        if not overwrite or not place.is_dir() or not any(place.iterdir()):
            return vacant(out)
        earlier_export(place)
        return place


def _free_name(place: Path) -> Path:
    """Return where an earlier export waits beside `place`."""
    names = (f"{place.name}.earlier{number}" for number in ("", *range(2, 1000)))
    return next(path for name in names if not (path := place.with_name(name)).exists())


def _remove(earlier: Path, place: Path) -> None:
    try:
        shutil.rmtree(earlier)
    except OSError as error:
        raise ExportError(
            f"the export is complete, but what was in {place} before could not be removed",
            where=earlier,
            remedy="Remove this folder by hand.",
        ) from error


def take_name(name: str, taken: set[str]) -> None:
    """Add a file name to those `taken`.

    Raises
    ------
    ExportError
        It is taken, be it in other case (some disks see no difference), or no file name.
    """
    if not name.strip(". ") or any(mark in name for mark in '/\\:*?"<>|') or not name.isprintable():
        raise ExportError(
            "not a file name on every system",
            where=repr(name),
            remedy='Rename the image, without any of / \\ : * ? " < > | and control characters.',
        )
    if name.casefold() in taken:
        raise ExportError(
            "two images would get this name",
            where=repr(name),
            remedy="Rename one of them, or export them apart.",
        )
    taken.add(name.casefold())


def require_names(names: Iterable[str]) -> None:
    """Make sure that each name can be that of a file, and that no two are one.

    For whoever is about to make their masks, which takes long; errors as `take_name`.
    """
    taken: set[str] = set()
    for name in names:
        take_name(name, taken)


def write_classes(path: Path, schema: ClassSchema, values: list[int], unlabelled: int) -> None:
    """Write a JSON file that says what each mask value means.

    Parameters
    ----------
    values
        Of each class, in schema order.
    unlabelled
        Value of pixels without a class.
    """
    content = {
        "unlabelled": unlabelled,
        "classes": [
            {"value": value, "id": c.id, "name": c.name, "color": c.color}
            for value, c in zip(values, schema.classes, strict=True)
        ],
        "schema_fingerprint": schema.fingerprint,
    }
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def vacant(out: Path) -> Path:
    """Return `out` with links followed, once it is known to be absent or an empty folder.

    Raises
    ------
    ExportError
        `out` is a file, or holds something.
    StorageError
    """
    with storage_errors(out):
        place = out.resolve()
        if place.exists() and not place.is_dir():
            raise ExportError("not a folder", where=out, remedy="Choose a new or empty folder.")
        if place.exists() and any(place.iterdir()):
            raise ExportError(
                "the folder is not empty",
                where=out,
                remedy="Choose a new or empty folder.",
                on_terminal="--out FOLDER",
            )
        return place
