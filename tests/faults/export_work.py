"""Masks are exported, and each export takes the place of the one before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from driven_jobs import finish
from tiny_project import tree

from napari_protoseg.exports.earlier import earlier_export
from napari_protoseg.jobs.export import ExportFormat, export_project
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project

BASE = "trained"
CPU = torch.device("cpu")
NOW = datetime(2026, 11, 26, tzinfo=UTC)
EXPORTS = (
    (ExportFormat.PNG, Recipe(flip=False)),
    (ExportFormat.TRAINING, Recipe(flip=False)),
    (ExportFormat.PNG, Recipe(flip=False, labels=LabelCondition.NONE)),
)


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        for form, recipe in EXPORTS:
            out = workspace / "out"
            job = export_project(project, form, out, recipe, overwrite=True, device=CPU, now=NOW)
            finish(job)
            acknowledge(form)


def state(workspace: Path) -> dict[str, object]:
    """Return the export that is there; where the new one has no place yet, the earlier one."""
    places = [workspace / "out", *sorted(workspace.glob("out.earlier*"))]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        return {}
    earlier_export(place)  # it is an export, and nothing else
    return dict(tree(place))
