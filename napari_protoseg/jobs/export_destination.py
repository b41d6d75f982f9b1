"""What lies where an export is to go, and whether it may be replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import ExportError, ProtosegError, StorageError
from napari_protoseg.exports.earlier import earlier_export
from napari_protoseg.exports.folder import vacant
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.storage import storage_errors


@dataclass(frozen=True)
class Destination:
    """The place that an export is to go to.

    Parameters
    ----------
    out
        The folder as it was chosen, or the one file.
    files
        How many an export replaces there: those of an earlier one, or the one file; 0 where
        there is nothing.
    error
        Why no export may go there; None where one may.
    """

    out: Path
    files: int = 0
    error: ProtosegError | None = None

    @property
    def is_vacant(self) -> bool:
        """Whether nothing is replaced."""
        return self.error is None and self.files == 0


def look_at_destination(
    project: Project, out: Path, images: Sequence[ImageRecord] | None = None
) -> Destination:
    """Look at what lies in `out`, without changing anything.

    Parameters
    ----------
    project
        Nothing of it is to be replaced.
    out
        Where the export is to go.
    images
        Of the project, where they have been read already.
    """
    try:
        with storage_errors(out):
            place = out.resolve()
            _require_outside(project, place)
            if not place.is_dir() or not any(place.iterdir()):
                vacant(out)
                _require_writable(place)
                return Destination(out)
        _require_another_folder(project, place)
        files = earlier_export(place)
        _require_no_images(project.images() if images is None else images, place)
        return Destination(out, files)
    except (ExportError, StorageError) as error:
        return Destination(out, error=error)


def look_at_file(project: Project, path: Path) -> Destination:
    """Look at what stands where one file is to be written, without changing anything.

    Parameters
    ----------
    project
        Nothing of it is to be replaced.
    path
        The file; a link there is itself replaced, not what it leads to.
    """
    try:
        with storage_errors(path):
            place = path.parent.resolve() / path.name
            _require_outside(project, place)
            if place.is_dir():
                raise ExportError(
                    "a folder stands where the file is to be written",
                    where=path,
                    remedy="Choose another name.",
                    on_terminal="--out FILE",
                )
            _require_writable(place)
            return Destination(path, int(place.exists() or place.is_symlink()))
    except (ExportError, StorageError) as error:
        return Destination(path, error=error)


def _require_writable(place: Path) -> None:
    """Make sure, before hours of work, that a folder or file can be made at `place`."""
    above = next((path for path in place.parents if path.exists()), None)
    if above is None or not above.is_dir():
        raise ExportError(
            "no folder can be made here",
            where=place,
            remedy="Choose a folder on a disk that is there.",
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise StorageError(
            "no permission", where=above, remedy="Choose another place, or ask its owner."
        )


def _require_outside(project: Project, place: Path) -> None:
    """Refuse a folder within the project, which holds only what its records name."""
    if place != project.folder and place.is_relative_to(project.folder):
        raise ExportError(
            "it is within the project",
            where=place,
            remedy="Choose a folder outside of it.",
            on_terminal="--out FOLDER",
        )


def _require_another_folder(project: Project, place: Path) -> None:
    """Refuse what an export must never replace, whatever it holds."""
    for name, folder in (
        ("this project", project.folder),
        ("the home folder", Path.home().resolve()),
    ):
        if folder.is_relative_to(place):
            raise _refusal(place, name)


def _require_no_images(images: Sequence[ImageRecord], place: Path) -> None:
    """Refuse an earlier export whose images are those of the project now."""
    # As text: there may be tens of thousands.
    beginning = os.path.join(place, "")  # noqa: PTH118
    if any(path.startswith(beginning) for path in _files(images)):
        raise _refusal(place, "images or true masks of this project")


def _files(images: Sequence[ImageRecord]) -> Iterator[str]:
    """Yield the files that the project reads; of a link both it and what it leads to."""
    for image in images:
        for path in (image.path, image.mask_path):
            if path is not None:
                yield str(path)
                if os.path.islink(path):  # noqa: PTH114 (with many of them, in half the time)
                    yield str(path.resolve())


def _refusal(place: Path, name: str) -> ExportError:
    return ExportError(
        f"holds {name}, which no export replaces",
        where=place,
        remedy="Choose a new or empty folder.",
        on_terminal="--out FOLDER",
    )
