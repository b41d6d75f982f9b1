"""True masks are imported, and others in the place of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.events import finish
from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.import_masks import MaskPurpose, import_masks
from napari_protoseg.project.folder import Project

BASE = "made"
NOW = datetime(2026, 11, 26, tzinfo=UTC)
CLASSES = (1, 2, 1)


def prepare(workspace: Path) -> None:
    with Project.open(workspace / "project") as project:
        images = project.images()
    for class_id in set(CLASSES):
        (workspace / str(class_id)).mkdir()
        for image in images:
            mask = np.full((image.height, image.width), class_id, np.uint8)
            Image.fromarray(mask).save(workspace / str(class_id) / f"{image.path.stem}.png")


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        for class_id in CLASSES:
            finish(
                import_masks(
                    project,
                    workspace / str(class_id),
                    MaskCodes.PROJECT,
                    MaskPurpose.TRUTH,
                    person="Ada",
                    now=NOW,
                )
            )
            acknowledge(f"masks of class {class_id}")


def state(workspace: Path) -> dict[str, object]:
    """Return the class in the true mask of each image; 0 where there is none."""
    with Project.open(workspace / "project") as project:
        return {
            image.path.name: (
                0 if image.mask_path is None else int(read_mask(image.mask_path).max())
            )
            for image in project.images()
        }
