"""A real process writes and is killed; what it had acknowledged is there, and whole."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
IMAGES = 6
BATCH = 5

PREAMBLE = """
import itertools, sys
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project

folder = Path(sys.argv[1])
first = int(sys.argv[2])
now = datetime(2026, 3, 1, tzinfo=UTC)
project = Project.open(folder)
"""

ADD_IMAGES = (
    PREAMBLE
    + """
for batch in itertools.count(first):
    project.add_images(
        ImageRecord(path=folder / f"{batch}-{n}", content_hash=f"{batch}-{n}", width=batch + 1,
                    height=9, label=(1, 0, -1))
        for n in range(5)
    )
    print(batch, flush=True)
"""
)

WRITE_MASKS = (
    PREAMBLE
    + """
images = project.images()
for number in itertools.count(first):
    image = images[number % len(images)]
    random = np.random.default_rng(number)
    mask = random.integers(0, 4, (image.height, image.width), dtype=np.uint8)
    confidence = random.random(mask.shape).astype(np.float16)
    project.write_mask(
        PredictedMask(image.id, mask, confidence),
        MaskSource(round_id=None, label_condition="given", recipe_json=str(number), created=now),
    )
    print(number, flush=True)
"""
)


def killed_after(seconds: float, script: str, folder: Path, first: int) -> list[int]:
    """Return the numbers that the child acknowledged before it was killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline())]
    time.sleep(seconds)
    child.kill()
    rest, _ = child.communicate()
    # The pipe hands over whole lines or, from the killed write, a part without its end.
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    return acknowledged


@pytest.mark.parametrize("seed", range(4))
def test_images_added_before_a_kill_are_there_in_whole_batches(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    Project.create(tmp_path, SCHEMA, created=NOW).close()
    first = 0
    for _ in range(2):
        acknowledged = killed_after(random.uniform(0, 0.2), ADD_IMAGES, tmp_path, first)
        with Project.open(tmp_path) as project:
            images = project.images()
        assert len(images) % BATCH == 0
        assert acknowledged[-1] < len(images) // BATCH <= acknowledged[-1] + 2
        assert all(image.label == (1, 0, -1) for image in images)
        first = len(images) // BATCH


@pytest.mark.parametrize("seed", range(4))
def test_masks_written_before_a_kill_are_there_and_whole(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    with Project.create(tmp_path, SCHEMA, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{number}.png",
                content_hash=str(number),
                width=200,
                height=200 if number % 2 else 600,
                label=(1, 1, 1),
            )
            for number in range(IMAGES)
        )
    latest = dict.fromkeys(range(IMAGES), -1)
    for _ in range(4):
        first = max(latest.values()) + 2
        for number in killed_after(random.uniform(0, 0.5), WRITE_MASKS, tmp_path, first):
            latest[number % IMAGES] = number
        with Project.open(tmp_path) as project:
            for position, image in enumerate(project.images()):
                assert image.id is not None
                stored = project.read_mask(image.id)
                if stored is None:
                    assert latest[position] == -1
                    continue
                written = int(stored.source.recipe_json)
                assert written >= latest[position]
                expected = np.random.default_rng(written).integers(
                    0, 4, stored.mask.shape, dtype=np.uint8
                )
                np.testing.assert_array_equal(stored.mask, expected)
                latest[position] = written
