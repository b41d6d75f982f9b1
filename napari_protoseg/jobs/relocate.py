"""The job that finds the images of a project again after their folder has moved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import ImageError, Stopped
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.images.decoding import MAX_PIXELS, opened
from napari_protoseg.images.reading import list_images
from napari_protoseg.jobs.check import content_hash
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord


@dataclass(frozen=True)
class RelocatedImages:
    """What has come of a search.

    Parameters
    ----------
    found
        Number of missing images that were found, and are recorded where they lie now.
    missing
        Recorded paths of those that were not.
    """

    found: int
    missing: tuple[Path, ...]


def missing_images(project: Project) -> list[ImageRecord]:
    """Return the images that are not where they are recorded."""
    # Unlike Path.is_file it is no error where a folder is closed.
    return [image for image in project.images() if not os.path.isfile(image.path)]  # noqa: PTH113


def relocate_images(project: Project, folder: Path) -> Job[RelocatedImages]:
    """Find missing images below `folder` by their content, and record where they lie now.

    Files with the name of a missing image are looked at first, then those with its width and
    height. Nothing else of the project changes: labels, masks and banks belong to the content.

    Parameters
    ----------
    project
        With images that are missing.
    folder
        Where to look, with all folders in it.

    Raises
    ------
    ImageError
        There is no image in the folder.
    Stopped
        Nothing was changed.
    ProjectLockedError, StorageError
    """
    project.require_writable()
    listed = list_images(folder)
    missing = missing_images(project)
    if not missing:
        return RelocatedImages(0, ())
    wanted = {image.content_hash: image for image in missing}
    sizes = {(image.width, image.height) for image in missing}
    taken = {image.path for image in project.images()} - {image.path for image in missing}
    files = [path for path in listed if path.resolve() not in taken]
    found: dict[int, Path] = {}
    for number, path in enumerate(_likely_first(files, missing), start=1):
        if not wanted:
            break
        image = _image_in(path, wanted, sizes)
        if image is not None:
            found[image.known_id] = path
            del wanted[image.content_hash]
        if (yield Progress("Looking for images", number, len(files))) is Request.STOP:
            raise Stopped(
                f"the search was stopped after {number} of {len(files)} files",
                where=folder,
                remedy="Nothing was changed; look again.",
            )
    project.relocate(found)
    return RelocatedImages(len(found), tuple(image.path for image in wanted.values()))


def _likely_first(files: list[Path], missing: list[ImageRecord]) -> Iterator[Path]:
    names = {image.path.name for image in missing}
    yield from (path for path in files if path.name in names)
    yield from (path for path in files if path.name not in names)


def _image_in(
    path: Path, wanted: dict[str, ImageRecord], sizes: set[tuple[int, int]]
) -> ImageRecord | None:
    """Return the missing image that a file is; only one of its size is read whole."""
    try:
        with opened(path, MAX_PIXELS) as file:
            size = file.size
    except ImageError:  # what is no image is none of those that were taken in
        return None
    return wanted.get(content_hash(path)) if size in sizes else None
