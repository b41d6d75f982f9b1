"""Files are removed under a process that works with them: it says so, or does without."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from victims import Harm, Victims
from works import Beginning, assert_sound

from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import Project

Begin = Callable[[str], Beginning]
IMAGE = "tiles/case00_001*.png"
BANK = "project/banks/0001.safetensors"
CHECKPOINT = "project/runs/0001/best.safetensors"


@pytest.mark.parametrize(
    ("name", "removed", "named"),
    [
        ("training", IMAGE, "ImageError: .*case00_001"),
        ("training", BANK, "StorageError: .*0001.safetensors"),
        pytest.param("prediction", IMAGE, "ImageError: .*case00_001", marks=pytest.mark.slow),
        pytest.param("prediction", CHECKPOINT, "CheckpointError: .*0001", marks=pytest.mark.slow),
        pytest.param("export", IMAGE, "ImageError: .*case00_001", marks=pytest.mark.slow),
        pytest.param("export", CHECKPOINT, "CheckpointError: .*0001", marks=pytest.mark.slow),
        pytest.param("bank edits", IMAGE, "ImageError: .*case00_001", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_is_removed_is_named_and_work_goes_on_when_it_is_back(
    victims: Victims, beginning: Begin, tmp_path: Path, name: str, removed: str, named: str
) -> None:
    begun = beginning(name)
    place = begun.copied(tmp_path / "removed")
    (lost,) = place.glob(removed)
    ended = victims.run(begun.work, place, harm=Harm(1, removed=removed))
    assert ended.refusal is not None
    assert re.match(named, ended.refusal)
    with Project.open(place / "project") as project:
        problems = finish(check_project(project)).problems
    assert len(problems) == 1
    shutil.copyfile(begun.folder / lost.relative_to(place), lost)
    assert_sound(place / "project")
    begun.assert_held(place, ended.acknowledged, ended.refusal)
    assert victims.run(begun.work, place).refusal is None


@pytest.mark.slow
def test_a_checkpoint_that_is_removed_is_written_again_by_the_training_that_runs(
    victims: Victims, beginning: Begin, tmp_path: Path
) -> None:
    begun = beginning("training")
    place = begun.copied(tmp_path / "removed")
    ended = victims.run(begun.work, place, harm=Harm(2, removed="project/runs/0001/*.safetensors"))
    assert ended.refusal is None
    assert_sound(place / "project")
    found = sorted(path.name for path in (place / "project/runs/0001").iterdir())
    assert found == ["best.safetensors", "last.safetensors"]
