"""Labels, splits, reviews and classes are edited, and images are added."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from napari_protoseg.events import finish
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ReviewStatus, Split

BASE = "made"
EDITS = 40
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        for number in range(EDITS):
            _edit(project, workspace, number)
            acknowledge(number)


def _edit(project: Project, workspace: Path, number: int) -> None:
    random = np.random.default_rng(number)
    ids = [image.known_id for image in project.images()]
    some = [int(image) for image in random.choice(ids, 5, replace=False)]
    match number % 5:
        case 0 if number == 20:
            request = AddImages(images=workspace / "validation" / "images")
            finish(add_images(project, request, finish(read_addition(project, request))))
        case 0 | 1:
            labels = {image: tuple(random.integers(-1, 2, 4).tolist()) for image in some}
            project.set_labels(labels, source=f"person {number}")
        case 2:
            project.set_split(some, list(Split)[number // 5 % 2])
        case 3:
            project.set_review_status(some[0], ReviewStatus.FLAGGED)
        case 4:
            classes = list(project.schema.classes)
            classes[0] = classes[0].model_copy(update={"color": f"#0000{number:02d}"})
            changed = project.schema.model_copy(update={"classes": tuple(classes)})
            project.set_schema(changed, created=NOW)


def state(workspace: Path) -> dict[str, object]:
    with Project.open(workspace / "project") as project:
        return {
            "labels": {image.path.name: list(image.label) for image in project.images()},
            "splits": {image.path.name: image.split.value for image in project.images()},
            "reviews": {str(k): status.value for k, status in project.review_states().items()},
            "colour": project.schema.classes[0].color,
        }
