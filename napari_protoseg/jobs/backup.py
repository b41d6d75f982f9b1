"""The job that copies a project as it stands at one moment, and verifies the copy."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import ProjectError, Stopped
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.check_report import CheckReport
from napari_protoseg.project.folder import Project
from napari_protoseg.project.paths import real_path
from napari_protoseg.storage import make_folder, storage_errors, sync


@dataclass(frozen=True)
class Backup:
    """A copy of a project.

    Parameters
    ----------
    folder
        Of the copy.
    files
        How many it has.
    report
        What a check of the copy has found: what is damaged in the project is so in its copy.
    """

    folder: Path
    files: int
    report: CheckReport


def back_up(project: Project, destination: Path) -> Job[Backup]:
    """Copy a project to `destination`: all of it as it stands at one moment, or nothing.

    Another process may write to it meanwhile. Caches are left out, and so are the images
    themselves: the copy finds them where they lie.

    Parameters
    ----------
    project
        To copy; it may be read-only.
    destination
        A folder that does not exist.

    Raises
    ------
    ProjectError
        There is something at the destination, or it is within the project.
    Stopped
        Nothing is left of the copy.
    StorageError
        The disk is full, or cannot be written or read; nothing is left of the copy.
    """
    target = real_path(destination)
    _require_free(target, project)
    with storage_errors(target.parent):
        make_folder(target.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    made = aside / "project"  # with the rights of any new folder
    try:
        files = 0
        yield Progress("Keeping the state", 0, 1)
        with project.staged() as stage:
            for files, total in project.copy_staged(stage, made, target):
                if (yield Progress("Copying", files, total)) is Request.STOP:
                    raise _stopped(target)
        with Project.open(made) as copy:
            report = yield from check_project(copy, images=False)
        if not report.is_complete:
            raise _stopped(target)
        _require_free(target, project)
        with storage_errors(target):
            made.rename(target)
            sync(target.parent)
    finally:
        with storage_errors(aside):
            shutil.rmtree(aside)
    return Backup(target, files, report)


def _require_free(target: Path, project: Project) -> None:
    if target.is_relative_to(project.folder):
        raise ProjectError(
            "it is within the project", where=target, remedy="Choose a folder outside of it."
        )
    if target.exists() or target.is_symlink():
        raise ProjectError(
            "there is something already", where=target, remedy="Choose a folder that is not there."
        )


def _stopped(target: Path) -> Stopped:
    return Stopped(
        "the backup was stopped", where=target, remedy="Nothing was kept; back it up again."
    )
