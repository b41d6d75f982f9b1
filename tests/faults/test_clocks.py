"""The clock is set back: nothing that was made later is taken for earlier."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.schema import ClassSchema

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
BACK = [NOON - timedelta(hours=hours) for hours in range(4)]
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
ENCODER = EncoderIdentity(
    name="test",
    weights_sha256="0" * 64,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    width=8,
    stride=32,
    licence="none",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Project.create(tmp_path / "project", SCHEMA, created=NOON) as project:
        project.add_images(
            [
                ImageRecord(
                    path=tmp_path / "a.png", content_hash="a", width=20, height=20, label=(1, 1, 1)
                )
            ]
        )
    return tmp_path / "project"


def draw(folder: Path, value: int, times: Sequence[datetime]) -> None:
    """Draw a row at each of the times, from the top; each time the project is opened anew."""
    for row, now in enumerate(times):
        with Project.open(folder) as project:
            recover(project)
            edited, _ = Journal(project, 1).open()
            drawn = edited.mask.copy()
            drawn[row] = value
            step = edited.stroke(drawn, author="Ada", now=now)
            assert step is not None
            Journal(project, 1).append([step])


def test_strokes_are_undone_in_the_order_in_which_they_were_made(folder: Path) -> None:
    draw(folder, 2, BACK)
    with Project.open(folder) as project:
        edited, recovered = Journal(project, 1).open()
        assert recovered is not None
        assert (recovered.steps, recovered.latest) == (1, BACK[-1])
        for rows in range(len(BACK), 0, -1):
            assert (edited.mask[:, 0] == 2).sum() == rows
            assert edited.mask[rows - 1, 0] == 2
            assert edited.undo(now=BACK[-1] - timedelta(days=1)) is not None
        assert not edited.mask.any()


def test_versions_count_up_whatever_the_clock_says(folder: Path) -> None:
    with Project.open(folder) as project:
        for now in BACK:
            bank = project.add_bank(b"bank", "{}", SCHEMA.fingerprint, created=now)
            project.new_round(bank.version, "{}", created=now)
        latest = project.latest_bank()
        assert latest is not None
        assert (latest.version, latest.created) == (len(BACK), BACK[-1])
        newest = project.latest_round()
        assert newest is not None
        assert (newest.id, newest.created) == (len(BACK), BACK[-1])
        renamed = SCHEMA.model_copy(
            update={
                "classes": (
                    SCHEMA.classes[0].model_copy(update={"color": "#000000"}),
                    *SCHEMA.classes[1:],
                )
            }
        )
        project.set_schema(renamed, created=BACK[-1] - timedelta(days=300))
    with Project.open(folder) as project:
        assert project.schema == renamed


def test_a_cache_with_blocks_of_the_future_keeps_its_budget_and_gives_what_is_right(
    tmp_path: Path,
) -> None:
    cache = FeatureCache(tmp_path / "cache", 40_000)
    ahead = NOON.timestamp() + 10**6
    for number in range(12):
        results = cache.results(ENCODER, FeatureKind.EMBEDDING)
        names = [f"{number}-{k}" for k in range(4)]
        values = np.full((4, 300), number, np.float32)
        results.write(names, values)
        for block in (tmp_path / "cache").glob("*/*"):
            if number < 6:  # as if written before the clock was set back
                os.utime(block, (ahead + number, ahead + number))
        size = sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())
        assert size <= cache.budget_bytes
        found = results.read(names[0])
        assert found is None or (found == number).all()
    reopened = cache.results(ENCODER, FeatureKind.EMBEDDING)
    for number in range(12):
        found = reopened.read(f"{number}-0")
        assert found is None or (found == number).all()
