"""Making a project: all of it, or nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from driven_jobs import finish
from tiny_project import NAMES, NOW, tree

from napari_protoseg.errors import ProjectError, Stopped
from napari_protoseg.events import Event, Progress, Request
from napari_protoseg.jobs.new import NewProject, new_project


def request_for(workspace: Path, folder: Path, **more: Path) -> NewProject:
    return NewProject(folder=folder, images=workspace / "tiles", classes=NAMES, **more)


def at_stage(stage: str) -> Callable[[Event], Request | None]:
    def answer(event: Event) -> Request | None:
        is_there = isinstance(event, Progress) and event.stage == stage
        return Request.STOP if is_there else None

    return answer


@pytest.mark.parametrize("stage", ["Reading images", "Reading masks"])
def test_a_stop_leaves_nothing(made: Path, tmp_path: Path, stage: str):
    masks = tmp_path / "masks"
    masks.mkdir()
    request = request_for(made, tmp_path / "deep" / "project", masks=masks)
    with pytest.raises(Stopped, match="stopped"):
        finish(new_project(request, now=NOW), at_stage(stage))
    assert not (tmp_path / "deep").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("existed", [True, False])
def test_an_error_while_images_are_recorded_leaves_what_was_there(
    made: Path, tmp_path: Path, existed: bool
):
    # The name of the folder is no Unicode, so no record can hold it.
    odd = (made / "tiles").rename(made / os.fsdecode(b"tiles\xff"))
    place = tmp_path / "deep" / "project"
    if existed:
        place.mkdir(parents=True)
    with pytest.raises(ProjectError, match="not valid UTF-8"):
        finish(new_project(NewProject(folder=place, images=odd, classes=NAMES), now=NOW))
    assert place.exists() is existed
    assert place.parent.exists() is existed
    assert tree(tmp_path / "deep") == ({"project": "folder"} if existed else {})
