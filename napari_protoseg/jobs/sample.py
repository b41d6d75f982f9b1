"""The job that makes a project of synthetic tissue, to try things on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from napari_protoseg.events import Job
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.project.folder import Project
from napari_protoseg.synthesis.sample import write_sample_data

CASE_PATTERN = r"(case\d+)_"
"""Finds the case in the name of a synthetic tile."""


def make_sample_project(folder: Path, *, now: datetime) -> Job[Path]:
    """Write synthetic tiles, and make a project of them with true masks to validate on.

    Parameters
    ----------
    folder
        A new or empty folder; the tiles go to ``data`` in it, the project to ``project``.
    now
        Date of the project.

    Returns
    -------
    Path
        Folder of the project.

    Raises
    ------
    ProtosegError
    """
    data = yield from write_sample_data(folder / "data")
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
