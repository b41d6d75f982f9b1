"""The works that are cut short, and what must be left of them."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from victims import Ended, Victims

from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import Project
from napari_protoseg.review.journal import recover

WORKS = {
    "labelling": "labelling_work",
    "bank edits": "bank_work",
    "training": "training_work",
    "prediction": "prediction_work",
    "strokes": "stroke_work",
    "export": "export_work",
    "true masks": "truth_work",
}
"""The module of each. It works in a folder, acknowledges each edit, and can tell its state."""

State = dict[str, object]


def work_of(name: str) -> ModuleType:
    return importlib.import_module(WORKS[name])


def assert_sound(project_folder: Path) -> None:
    """See that a project opens, tells what it has recovered, and is as its format says."""
    with Project.open(project_folder) as project:
        assert not project.is_read_only
        unfolded = project.unfolded_images()
        recovery = recover(project)
        assert recovery.failed == ()
        assert [found.image_id for found in recovery.recovered] == unfolded
        assert finish(check_project(project)).problems == []
        assert not list(project.folder.rglob(".*.????????")), "half a file was left"


@dataclass(frozen=True)
class Beginning:
    """Where a work begins, and where it leads if nothing happens to it.

    Parameters
    ----------
    name
        Of the work.
    folder
        As it is before.
    whole
        What a process has done that nothing happened to.
    states
        Before the work, and after each thing that was acknowledged.
    """

    name: str
    folder: Path
    whole: Ended
    states: tuple[State, ...]

    @property
    def work(self) -> str:
        """The module."""
        return WORKS[self.name]

    def copied(self, place: Path) -> Path:
        """Copy the folder to a place, instead of what is there."""
        shutil.rmtree(place, ignore_errors=True)
        return Path(shutil.copytree(self.folder, place))

    def assert_held(self, place: Path, count: int, why: object) -> None:
        """See that a folder holds `count` acknowledged edits, or also the one under way."""
        module = work_of(self.name)
        found = module.state(place)
        if hasattr(module, "holds"):
            is_there = module.holds(found, self.states, count)
        else:
            is_there = found in self.states[count : count + 2]
        assert is_there, f"after {count} acknowledged edits, {why}: {found}"


def begun(victims: Victims, name: str, place: Path) -> Beginning:
    """Let a work be done in copies of a folder, and return where it leads."""
    work, module = WORKS[name], work_of(name)

    def copied() -> Path:
        shutil.rmtree(place.with_name("copy"), ignore_errors=True)
        return Path(shutil.copytree(place, place.with_name("copy")))

    # As what a process has written that goes through JSON.
    first = json.loads(json.dumps(module.state(copied())))
    whole = victims.run(work, copied())
    states = victims.run(work, copied(), with_states=True).states
    assert not whole.killed
    assert whole.refusal is None
    assert len(states) == whole.acknowledged > 0
    return Beginning(name, place, whole, (first, *states))
