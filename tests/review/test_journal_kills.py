"""A real process draws and is killed: every stroke that it had acknowledged is there, once."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.project import ImageRecord, Origin, Project
from napari_protoseg.project.journal_changes import OpenedJournal
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
SHAPE = (60, 80)
MASKS = {"Ada": 17}

ACT = """
import numpy as np
from datetime import UTC, datetime, timedelta
from napari_protoseg.project import MaskSource, PredictedMask

def act(edited, number):
    # What is done as the number-th thing follows from the number and the mask alone.
    random = np.random.default_rng(number)
    now = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=number)
    height, width = edited.shape
    kind = random.integers(10)
    row, column = random.integers(height), random.integers(width)
    if kind < 5:
        drawn = edited.mask.copy()
        drawn[row : row + 20, column : column + 20] = random.integers(4)
        return edited.stroke(drawn, author="Ada", now=now)
    if kind < 7:
        return edited.undo(now=now)
    if kind < 8:
        return edited.redo(now=now)
    if kind < 9:
        where = np.zeros(edited.shape, np.bool_)
        where[row:] = True
        return edited.release(where, author="Ada", now=now)
    mask = random.integers(0, 4, edited.shape, dtype=np.uint8)
    source = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=now)
    predicted = PredictedMask(1, mask, np.full(edited.shape, 0.5, np.float16))
    return edited.enter_prediction(predicted, source, now=now)
"""

DRAW = (
    ACT
    + """
import itertools, sys
from pathlib import Path
from napari_protoseg.project import Project
from napari_protoseg.review.journal import Journal
from napari_protoseg.review.recorder import Recorder

project = Project.open(Path(sys.argv[1]))
edited, _ = Journal(project, 1).open()
recorder = Recorder(project, lambda event: None)
for number in itertools.count(int(sys.argv[2])):
    step = act(edited, number)
    if step is not None:
        recorder.record(1, step)
    if number % 7 == 0:
        recorder.fold(1)
    recorder.flush()
    print(number, flush=True)
"""
)

namespace: dict[str, object] = {}
exec(compile(ACT, "act", "exec"), namespace)
act = namespace["act"]


def killed_after(seconds: float, folder: Path, first: int) -> int:
    """Return the number of the last thing that the child acknowledged before it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", DRAW, str(folder), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    last = int(child.stdout.readline())
    time.sleep(seconds)
    child.kill()
    rest, _ = child.communicate()
    lines = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1]) if lines else last


def assert_nothing_is_lost(folder: Path, seed: int, kills: int) -> None:
    random = np.random.default_rng(seed)
    with Project.create(folder, SCHEMA, created=NOW) as project:
        project.add_images(
            [
                ImageRecord(
                    path=folder / "0.png",
                    content_hash="0",
                    width=SHAPE[1],
                    height=SHAPE[0],
                    label=(1, 1, 1),
                )
            ]
        )
        assert project.introduce("Ada") == MASKS["Ada"]
    plain = EditedMask(OpenedJournal(1, SHAPE, None, (), 0, 0, MASKS), SCHEMA)
    done = -1
    for _ in range(kills):
        acknowledged = killed_after(random.uniform(0, 0.4), folder, done + 1)
        while done < acknowledged:
            done += 1
            act(plain, done)  # type: ignore[operator]
        with Project.open(folder) as project:
            unfolded = project.unfolded_images()
            recovered = recover(project).recovered
            assert [found.image_id for found in recovered] == unfolded
            for found in recovered:
                assert found.steps > 0
                assert set(found.people) <= {"Ada"}
            edited, _ = Journal(project, 1).open()
            stored = project.read_mask(1)
        if stored is None:
            assert not edited.setters.any(), "all is undone"
        else:
            assert np.array_equal(stored.mask, edited.mask)
            assert np.array_equal(stored.setters, edited.setters)
        if not same(edited, plain):  # what was under way may be there, and nothing more
            done += 1
            act(plain, done)  # type: ignore[operator]
        assert same(edited, plain)
        assert not edited.mask[edited.origins == Origin.NONE].any()
        assert edited.mask[edited.origins == Origin.MODEL].all()
        undone_alike(edited, plain)


def undone_alike(edited: EditedMask, plain: EditedMask) -> None:
    """See that both histories lead to the same beginning, and leave `plain` as it was."""
    steps = 0
    while plain.undo(now=NOW) is not None:
        steps += 1
        assert edited.undo(now=NOW) is not None
        assert same(edited, plain)
    assert edited.undo(now=NOW) is None
    for _ in range(steps):
        plain.redo(now=NOW)


def same(first: EditedMask, second: EditedMask) -> bool:
    return np.array_equal(first.mask, second.mask) and np.array_equal(first.setters, second.setters)


@pytest.mark.parametrize("seed", range(2))
def test_what_was_drawn_before_a_kill_is_there_once(tmp_path: Path, seed: int) -> None:
    assert_nothing_is_lost(tmp_path / "project", seed, kills=3)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(10, 14))
def test_what_was_drawn_before_many_kills_is_there_once(tmp_path: Path, seed: int) -> None:
    assert_nothing_is_lost(tmp_path / "project", seed, kills=25)
