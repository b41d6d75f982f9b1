"""Masks of all images are made again and again, over pixels that a person has set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from driven_jobs import finish

from napari_protoseg.events import Event, Progress
from napari_protoseg.jobs.make_masks import make_masks
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.review.journal import Journal

BASE = "trained"
CPU = torch.device("cpu")
NOW = datetime(2026, 11, 26, tzinfo=UTC)
RECIPES = (
    Recipe(flip=False),
    Recipe(flip=False, labels=LabelCondition.NONE),
    Recipe(flip=False, labels=LabelCondition.NONE, muted=(0,)),
    Recipe(flip=False, muted=(1,)),
)
DRAWN = (slice(5, 30), slice(10, 40))


def prepare(workspace: Path) -> None:
    """Let a person draw on two images, and another import a mask of a third."""
    with Project.open(workspace / "project") as project:
        project.introduce("Ada")
        first, second, third = [image.known_id for image in project.images()][:3]
        for image_id in (first, second):
            journal = Journal(project, image_id)
            edited, _ = journal.open()
            drawn = edited.mask.copy()
            drawn[DRAWN] = 3
            step = edited.stroke(drawn, author="Ada", now=NOW)
            assert step is not None
            journal.append([step])
        imported = np.zeros((64, 64), np.uint8)
        imported[DRAWN] = 2
        project.store_imports({third: imported}, person="Bob", now=NOW)


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        for number, recipe in enumerate(RECIPES):

            def answer(event: Event, number: int = number) -> None:
                if isinstance(event, Progress) and event.stage == "Making masks":
                    acknowledge(f"{event.done} by recipe {number}")

            finish(make_masks(project, recipe, device=CPU, now=NOW), answer)


def state(workspace: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    with Project.open(workspace / "project") as project:
        first, second, third = [image.known_id for image in project.images()][:3]
        for image in project.images():
            stored = project.read_mask(image.known_id)
            if stored is not None:
                content = stored.mask.tobytes() + stored.setters.tobytes()
                found[image.path.name] = hashlib.sha256(content).hexdigest()
            if image.id in (first, second, third):
                assert stored is not None, "what was drawn or imported is lost"
                drawn = 2 if image.id == third else 3
                assert (stored.mask[DRAWN] == drawn).all()
                assert stored.is_protected[DRAWN].all()
    return found
