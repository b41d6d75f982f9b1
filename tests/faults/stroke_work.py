"""Strokes are drawn, undone and recorded as in the window, on a small image and on a large one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from napari_protoseg.jobs.check import content_hash
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.edits import NewStep
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.review.recorder import Recorder

BASE = "made"
ACTS = 48
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def prepare(workspace: Path) -> None:
    """Add an image of several chunks."""
    path = workspace / "tiles" / "large.png"
    pixels = np.random.default_rng(0).integers(0, 255, (600, 700, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    with Project.open(workspace / "project") as project:
        large = ImageRecord(
            path=path,
            content_hash=content_hash(path),
            width=700,
            height=600,
            label=(-1, -1, -1, -1),
        )
        project.add_images([large])


def work(workspace: Path, acknowledge: Callable[[object], None]) -> None:
    with Project.open(workspace / "project") as project:
        project.introduce("Ada")
        recorder = Recorder(project, lambda event: None)
        for number in range(ACTS):
            if number % 12 == 0:  # another image is shown
                recorder.flush()
                image_id = _images(project)[number // 12 % 2]
                edited, _ = Journal(project, image_id).open()
            step = act(edited, number)
            if step is None:
                continue
            recorder.record(image_id, step)
            if number % 6 == 5:
                recorder.fold(image_id)
            recorder.flush()
            assert recorder.unsynced == ()
            acknowledge(number)
        recorder.close()


def act(edited: EditedMask, number: int) -> NewStep | None:
    """Do the thing with this number, which follows from the number and the mask alone."""
    random = np.random.default_rng(number)
    now = NOW + timedelta(seconds=number)
    height, width = edited.shape
    kind = random.integers(10)
    row, column = random.integers(height), random.integers(width)
    if kind < 6:
        drawn = edited.mask.copy()
        drawn[row : row + 20, column : column + 20] = random.integers(4)
        return edited.stroke(drawn, author="Ada", now=now)
    if kind < 7:
        return edited.undo(now=now)
    if kind < 8:
        return edited.redo(now=now)
    if kind < 9:
        return edited.release(np.ones(edited.shape, np.bool_), author="Ada", now=now)
    mask = np.full(edited.shape, number % 4, dtype=np.uint8)
    source = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=now)
    confidence = np.full(edited.shape, 0.5, np.float16)
    predicted = PredictedMask(edited.image_id, mask, confidence)
    return edited.enter_prediction(predicted, source, now=now)


def _images(project: Project) -> tuple[int, int]:
    ids = {image.path.name: image.known_id for image in project.images()}
    return min(ids.values()), ids["large.png"]


def state(workspace: Path) -> dict[str, object]:
    """Return what the masks are, and what they were all the way back by undoing."""
    found: dict[str, object] = {}
    with Project.open(workspace / "project") as project:
        for image_id in _images(project):
            edited, _ = Journal(project, image_id).open()
            stored = project.read_mask(image_id)
            if stored is not None:
                assert np.array_equal(stored.mask, edited.mask)
                assert np.array_equal(stored.setters, edited.setters)
            history = [_digest(edited)]
            while edited.undo(now=NOW) is not None:
                history.append(_digest(edited))
            found[str(image_id)] = history
    return found


def _digest(edited: EditedMask) -> str:
    return hashlib.sha256(edited.mask.tobytes() + edited.setters.tobytes()).hexdigest()[:16]
