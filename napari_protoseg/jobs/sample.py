"""The job that makes a project of synthetic tissue, to try things on."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from napari_protoseg.errors import Stopped
from napari_protoseg.events import Job
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.project.folder import Project
from napari_protoseg.storage import storage_errors
from napari_protoseg.synthesis.sample import TRAINING_TILES, VALIDATION_TILES, write_sample_data

CASE_PATTERN = r"(case\d+)_"
"""Finds the case in the name of a synthetic tile."""


def make_sample_project(folder: Path, *, now: datetime) -> Job[Path]:
    """Write synthetic tiles, and make a project of them with true masks to validate on.

    It is made beside `folder` and moved there once it is whole: what a kill or a full disk leaves
    behind is never taken for the sample, and is cleared away the next time. A stop leaves nothing.

    Parameters
    ----------
    folder
        Of which there is nothing yet; the tiles go to ``data`` in it, the project to ``project``.
    now
        Date of the project.

    Returns
    -------
    Path
        Folder of the project.

    Raises
    ------
    Stopped, ProtosegError
    """
    part = folder.with_name(f"{folder.name}.part")
    with storage_errors(part):
        if part.exists():
            shutil.rmtree(part)
    try:
        made = yield from _make(part, now)
    except Stopped as stop:
        with storage_errors(part):
            shutil.rmtree(part)
        raise Stopped(stop.what, where=folder, remedy="Nothing of the sample was kept.") from stop
    with storage_errors(folder):
        part.rename(folder)
    return folder / made.relative_to(part)


def _make(folder: Path, now: datetime) -> Job[Path]:
    data = yield from write_sample_data(folder / "data")
    if data.images < TRAINING_TILES + VALIDATION_TILES:
        raise Stopped(
            f"stopped after {data.images} of {TRAINING_TILES + VALIDATION_TILES} tiles",
            where=folder,
            remedy="Make it anew.",
        )
    request = NewProject(
        folder=folder / "project",
        images=data.training,
        schema_file=data.classes,
        case_pattern=CASE_PATTERN,
    )
    made = yield from new_project(request, now=now)
    with Project.open(made.folder) as project:
        validation = AddImages(
            images=data.validation_images,
            masks=data.validation_masks,
            case_pattern=CASE_PATTERN,
        )
        reading = yield from read_addition(project, validation)
        yield from add_images(project, validation, reading)
    return made.folder
