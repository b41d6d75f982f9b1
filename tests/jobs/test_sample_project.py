"""The sample project is there as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_project import NOW

from napari_protoseg.errors import Stopped
from napari_protoseg.events import Progress, Request
from napari_protoseg.jobs.sample import make_sample_project


def test_one_that_was_stopped_is_not_taken_for_the_sample(tmp_path: Path):
    folder = tmp_path / "sample"
    job = make_sample_project(folder, now=NOW)
    next(job)
    with pytest.raises(Stopped, match="stopped after 3 of 144 tiles"):
        for _ in range(2):
            job.send(None)
        job.send(Request.STOP)
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_behind_is_cleared_away(tmp_path: Path):
    left = tmp_path / "sample.part" / "data" / "train"
    left.mkdir(parents=True)
    (left / "half.png").write_bytes(b"")
    job = make_sample_project(tmp_path / "sample", now=NOW)
    assert isinstance(next(job), Progress)
    assert not (left / "half.png").exists()
    job.close()
