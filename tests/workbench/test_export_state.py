"""The page of exports: what it says before, and what it does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw
from hearing import Told
from inline_runner import InlineRunner, StepRunner
from PIL import Image
from tiny_project import record_images

from napari_protoseg.errors import ExportError
from napari_protoseg.jobs import export_plan
from napari_protoseg.jobs.export_network import NAME
from napari_protoseg.jobs.export_plan import Exportable
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.lock import LockOwner
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.workbench import export_page
from napari_protoseg.workbench.export_page import ExportState
from napari_protoseg.workbench.session import Session

SIZE = 40


def make(folder: Path, count: int = 3, painted: int = 3) -> Path:
    """Make a project of images of which the first have painted masks, without a model."""
    (folder / "tiles").mkdir(parents=True)
    paths = [folder / "tiles" / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    made = record_images(folder / "project", paths, ["tumour", "stroma"], (1, 0), SIZE)
    with Project.open(made) as project:
        for image in project.images()[:painted]:
            paint(project, image)
    return made


def paint(project: Project, image: ImageRecord) -> None:
    assert image.id is not None
    mask = np.ones((SIZE, SIZE), np.uint8)
    draw(project, image.id, mask, now=Session.now())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "work")


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(InlineRunner())
    yield session
    session.close()


@pytest.fixture
def state(session: Session, folder: Path) -> ExportState:
    state = ExportState(session)
    session.open(folder)
    return state


class Counted:
    """How often a signal was emitted, or a function called."""

    def __init__(self, wrapped: Any = None) -> None:
        self.times = 0
        self._wrapped = wrapped

    def __call__(self, *args: Any) -> Any:
        self.times += 1
        return None if self._wrapped is None else self._wrapped(*args)


def test_without_a_project_it_asks_for_one(session: Session):
    state = ExportState(session)
    assert state.needs() == "Open a project first."
    assert (state.plan, state.folder) == (None, None)
    with pytest.raises(ExportError):
        state.export()


def test_the_export_goes_beside_the_project_unless_another_folder_is_typed(
    state: ExportState, folder: Path, tmp_path: Path
):
    assert state.folder == folder.with_name("project-export-png")
    state.choose_form(Exportable.TRAINING)
    assert state.folder == folder.with_name("project-export-training")
    state.choose_folder(str(tmp_path / "masks"))
    assert state.folder == tmp_path / "masks"
    state.choose_folder("")
    assert state.folder == folder.with_name("project-export-training")


def test_masks_are_written_and_the_person_is_told_where(state: ExportState, folder: Path):
    told = Told(state.session)
    assert state.needs() is None
    state.export()
    out = folder.with_name("project-export-png")
    assert told == [f"3 masks are in {out}."]
    assert state.exported is not None
    assert state.exported.folder == out
    assert len(list(out.glob("*.png"))) == 3


def test_an_earlier_export_is_replaced_only_with_leave(state: ExportState):
    assert not state.can_overwrite
    state.export()
    assert state.can_overwrite
    assert "earlier export of 4 files" in str(state.needs())
    with pytest.raises(ExportError, match="earlier export"):
        state.export()
    state.set_overwrite(True)
    assert state.needs() is None
    told = Told(state.session)
    state.export()
    assert "3 masks are in" in told[-1]
    assert not state.overwrite


@pytest.mark.parametrize("change", ["folder", "format", "project"])
def test_leave_to_replace_is_for_one_folder(state: ExportState, tmp_path: Path, change: str):
    state.export()
    state.set_overwrite(True)
    if change == "folder":
        state.choose_folder(str(tmp_path / "masks"))
    elif change == "format":
        state.choose_form(Exportable.TRAINING)
    else:
        state.session.open(make(tmp_path / "other"))
        assert state.exported is None
    assert not state.overwrite


def test_what_may_not_be_replaced_is_named(state: ExportState, folder: Path):
    for place, reason in (
        (folder, "this project"),
        (folder.with_name("tiles"), "no earlier export"),
    ):
        state.choose_folder(str(place))
        state.set_overwrite(True)
        assert reason in str(state.needs())
        assert not state.can_overwrite


def test_a_folder_without_its_whole_path_is_asked_for_again(
    state: ExportState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    state.choose_folder("masks")
    assert state.needs() == "Give the whole path of the folder."
    monkeypatch.setenv("HOME", str(tmp_path))
    state.choose_folder("~/masks")
    assert state.folder == tmp_path / "masks"
    assert state.needs() is None


def test_the_plan_follows_masks_and_labels(state: ExportState):
    project = state.session.require_project()
    first = project.images()[0]
    assert first.id is not None
    changed = Counted()
    state.changed.connect(changed)
    state.choose_form(Exportable.TRAINING)
    plan = state.plan
    assert plan is not None
    assert len(plan.exported) == 3
    project.set_labels({first.id: (-1, 1)}, source="person")
    state.session.images_changed.emit()
    plan = state.plan
    assert plan is not None
    assert (len(plan.exported), plan.unknown) == (2, 1)
    assert changed.times == 2


def test_it_is_planned_once_for_many_redraws(state: ExportState, monkeypatch: pytest.MonkeyPatch):
    planned = Counted(export_plan.plan_export)
    looked = Counted(export_page.look_at_destination)
    monkeypatch.setattr(export_page, "plan_export", planned)
    monkeypatch.setattr(export_page, "look_at_destination", looked)
    for _ in range(10):
        state.session.masks_changed.emit()
    assert planned.times == 0
    for _ in range(10):
        assert state.needs() is None
        assert state.plan is not None
    assert (planned.times, looked.times) == (1, 0)
    # A folder being typed is looked at, and no record read for it.
    for typed in ("/m", "/ma", "/mas"):
        state.choose_folder(typed)
        state.needs()
        state.needs()
    assert (planned.times, looked.times) == (1, 3)


def test_another_recipe_is_another_plan(session: Session, folder: Path):
    recipes = [Recipe()]
    state = ExportState(session, lambda: recipes[-1])
    session.open(folder)
    before = state.plan
    assert state.plan is before
    recipes.append(Recipe(flip=False))
    assert state.plan is not before


def test_what_happens_to_the_folder_meanwhile_is_seen_when_it_is_looked_at(
    state: ExportState, folder: Path
):
    state.export()
    assert state.needs() is not None
    shutil.rmtree(folder.with_name("project-export-png"))
    state.look_at_folder()
    assert state.needs() is None


def test_what_came_into_the_folder_unseen_is_not_replaced(state: ExportState, folder: Path):
    assert state.needs() is None
    out = folder.with_name("project-export-png")
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    told = Told(state.session)
    assert not state.session.attempt(state.export)
    assert "not empty" in told[0]
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_images_without_a_mask_and_without_a_model_are_left_out(session: Session, tmp_path: Path):
    state = ExportState(session)
    session.open(make(tmp_path / "some", count=3, painted=1))
    plan = state.plan
    assert plan is not None
    assert plan.without_mask == 2
    told = Told(session)
    state.export()
    assert "2 images without a mask" in told[0]
    assert "1 mask is in" in told[-1]
    session.open(make(tmp_path / "none", painted=0))
    assert "no trained model" in str(state.needs())


def test_while_a_task_runs_the_plan_rests(folder: Path):
    runner = StepRunner()
    session = Session(runner)
    state = ExportState(session)
    session.open(folder)
    state.export()
    before = state.plan
    session.masks_changed.emit()
    assert "Export is under way" in str(state.needs())
    assert state.plan is before
    runner.finish()
    assert state.plan is not before
    session.close()


def test_a_stop_leaves_nothing_and_says_so(folder: Path):
    runner = StepRunner()
    session = Session(runner)
    state = ExportState(session)
    session.open(folder)
    told = Told(session)
    state.export()
    runner.jobs[0].step()
    assert session.task is not None
    session.task.stop()
    runner.finish()
    assert "before anything was written" in told[-1]
    assert state.exported is None
    assert not folder.with_name("project-export-png").exists()
    assert state.needs() is None
    session.close()


def test_without_a_network_it_says_what_is_missing(state: ExportState):
    state.choose_form(Exportable.ONNX)
    assert "no trained model for segmentation without labels" in str(state.needs())
    plan = state.plan
    assert plan is not None
    assert plan.lines() == ["There is nothing to write."]
    with pytest.raises(ExportError, match="segmentation without labels"):
        state.export()


def test_the_network_goes_into_a_folder_or_to_a_file(
    session: Session, both_stages: Path, tmp_path: Path
):
    state = ExportState(session)
    session.open(both_stages / "project")
    state.choose_form(Exportable.ONNX)
    default = both_stages / "project-export-onnx" / NAME
    chosen = tmp_path / "mine.onnx"
    chosen.write_text("years of work")
    for typed, path, replaces in (
        ("", default, False),
        (str(tmp_path), tmp_path / NAME, False),
        (str(chosen), chosen, True),
    ):
        state.choose_folder(typed)
        plan = state.plan
        assert plan is not None
        assert (plan.destination.out, plan.destination.files > 0) == (path, replaces)
        assert str(path) in plan.lines()[-1]
        assert state.can_overwrite is replaces
        assert (state.needs() is None) is not replaces
    assert "a file is there already" in str(state.needs())
    with pytest.raises(ExportError, match="a file is there already"):
        state.export()
    state.set_overwrite(True)
    assert state.needs() is None
    state.choose_form(Exportable.PNG)
    assert "not a folder" in str(state.needs())
    state.choose_form(Exportable.ONNX)
    assert not state.overwrite
    chosen.unlink()
    state.look_at_folder()
    assert state.needs() is None


def test_a_project_that_can_only_be_read_gives_its_network(session: Session, both_stages: Path):
    project = both_stages / "project"
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (project / "project.lock").write_text(owner.model_dump_json())
    state = ExportState(session)
    session.open(project)
    assert "Masks would have to be made first" in str(state.needs())
    state.choose_form(Exportable.ONNX)
    assert state.needs() is None


def test_a_stopped_export_of_the_network_leaves_nothing_and_says_so(both_stages: Path):
    runner = StepRunner()
    session = Session(runner)
    state = ExportState(session)
    session.open(both_stages / "project")
    state.choose_form(Exportable.ONNX)
    told = Told(session)
    state.export()
    assert "Export is under way" in str(state.needs())
    runner.jobs[0].step()
    assert session.task is not None
    assert session.task.progress is not None
    session.task.stop()
    runner.finish()
    assert told == ["Stopped before anything was written."]
    assert state.exported is None
    assert not (both_stages / "project-export-onnx").exists()
    assert state.needs() is None
    session.close()


def test_what_fails_as_the_network_is_read_is_told(session: Session, both_stages: Path):
    state = ExportState(session)
    session.open(both_stages / "project")
    state.choose_form(Exportable.ONNX)
    assert state.needs() is None
    for checkpoint in (both_stages / "project" / "runs").glob("*/*.safetensors"):
        checkpoint.unlink()
    told = Told(session)
    state.export()
    assert "the round's checkpoint is missing" in told[-1]
    assert state.exported is None
