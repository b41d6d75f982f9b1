"""How long a stroke waits until it is recorded while masks are read and stored beside it.

    recording.py [--side 4096] [--strokes 100]

Draws strokes on the mask of one large image, ten a second, and hands each to the recorder of the
project; meanwhile another thread does with masks of other such images what jobs, and the recorder
itself, do with them. Printed are quantiles of the time from the end of a stroke until it is in the
journal, synced. It ends with 1 where one was recorded later than 200 ms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from autosave import RECORDED_WITHIN, noting_when_synced
from event_loop import Waits
from PIL import Image

from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import PredictedMask, no_source
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.review.recorder import Recorder
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

_DRAWN, _FOLDED, _CORRECTED, _PREDICTED = 1, 2, 3, 4
"""Images, by what is done with their masks."""
_PERSON = "A person"
_EACH = 0.1
"""Seconds from one stroke to the next."""
_STROKE = (20, 200)
"""Height and width of a stroke, pixels."""
_GRID = 64
"""Points along a side between which probabilities run evenly."""


def main() -> int:
    """Print what is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4096, help="of the images, in pixels")
    parser.add_argument("--strokes", type=int, default=100, help="beside each work")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        longest = run(Path(temporary), options.side, options.strokes)
    print(f"recorded within {longest:.0f} ms, at most {RECORDED_WITHIN:.0f}")
    return int(longest > RECORDED_WITHIN)


def run(folder: Path, side: int, strokes: int) -> float:
    """Print a row for each work beside which is drawn; return the longest wait in milliseconds."""
    images = folder / "images"
    images.mkdir()
    for number in range(4):
        Image.new("RGB", (side, side), (200, 120 + number, 180)).save(images / f"{number}.png")
    request = NewProject(folder=folder / "project", images=images, classes=TISSUE_SCHEMA.names)
    Terminal().run(new_project(request, now=_now()))
    with Project.open(request.folder) as project:
        project.introduce(_PERSON)
        for image_id in (_DRAWN, _FOLDED, _CORRECTED, _PREDICTED):
            predict(project, image_id, side)
        for image_id in (_FOLDED, _CORRECTED):
            draw_and_store(project, image_id)
        works: dict[str, Callable[[], None] | None] = {
            "nothing": None,
            "a mask is stored with its strokes": lambda: draw_and_store(project, _FOLDED),
            "masks are predicted": lambda: predict(project, _PREDICTED, side),
            "corrected masks are predicted": lambda: predict(project, _CORRECTED, side),
            "masks are read": lambda: read(project, _PREDICTED),
        }
        print(f"{'beside this':34}    p50      p99    p99.9  longest   ms")
        longest = 0.0
        for title, work in works.items():
            with repeating(work):
                waits = watch(project, strokes)
            print(f"{title:34} {waits}", flush=True)
            longest = max(longest, waits.longest)
    return longest


def watch(project: Project, strokes: int) -> Waits:
    """Draw strokes, one after the other; return how long each waited."""
    edited, _ = Journal(project, _DRAWN).open()
    recorder, ended = Recorder(project, lambda event: None), []
    with noting_when_synced(project, _DRAWN) as synced:
        for number in range(strokes):
            due = time.perf_counter() + _EACH
            step = draw(edited, number)
            ended.append(time.perf_counter())
            recorder.record(_DRAWN, step)
            time.sleep(max(due - time.perf_counter(), 0))
        recorder.flush(with_masks=False)
    recorder.close()
    return Waits.of_lengths(np.subtract(synced, ended))


@contextmanager
def repeating(work: Callable[[], None] | None) -> Iterator[None]:
    """Do something again and again in another thread meanwhile."""
    is_over = threading.Event()

    def repeat() -> None:
        while work is not None and not is_over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def draw(edited: EditedMask, number: int) -> NewStep:
    """Draw a block somewhere; return the step that it makes."""
    height, width = _STROKE
    row = number * height % (edited.shape[0] - height)
    drawn = edited.mask.copy()
    drawn[row : row + height, :width] = 1 + (edited.mask[row, 0] == 1)
    step = edited.stroke(drawn, author=_PERSON, now=_now())
    assert step is not None
    return step


def draw_and_store(project: Project, image_id: int) -> None:
    """Draw a stroke, and store the mask with it."""
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    journal.append([draw(edited, 0)])
    journal.fold()


def predict(project: Project, image_id: int, side: int) -> None:
    """Store a mask as that of a model, always another one."""
    random = np.random.default_rng()
    coarse = random.random((_GRID, _GRID)).astype(np.float32)
    fine = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
    probability = np.asarray(fine)
    mask = np.where(probability > 0.5, 1, 2).astype(np.uint8)
    confidence = np.abs(2 * probability - 1).astype(np.float16)
    project.write_mask(PredictedMask(image_id, mask, confidence), no_source(_now()))


def read(project: Project, image_id: int) -> None:
    """Read a mask as exports and evaluations do."""
    if project.read_mask(image_id) is None:
        raise RuntimeError("a mask is gone")


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
