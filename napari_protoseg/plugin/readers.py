"""What opens a project folder that is dropped on napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari

from napari_protoseg.errors import ProjectError
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.project.creation import DATABASE

ReadLayers = Callable[[str], list[tuple[Any, ...]]]


def project_reader(path: str | list[str]) -> ReadLayers | None:
    """Return what opens `path` in the workbench, if it is a project folder or its database."""
    if isinstance(path, list):
        return None
    return _open if (_folder(path) / DATABASE).is_file() else None


def _open(path: str) -> list[tuple[Any, ...]]:
    viewer = napari.current_viewer()
    if viewer is None:
        raise ProjectError(
            "is opened in a window", where=path, remedy="Start napari, then drop it there."
        )
    session = open_workbench(viewer).session
    session.attempt(lambda: session.open(_folder(path)))
    return [(None,)]  # napari's sign that there is no layer to add, and nothing went wrong


def _folder(path: str) -> Path:
    given = Path(path)
    return given.parent if given.name == DATABASE else given
