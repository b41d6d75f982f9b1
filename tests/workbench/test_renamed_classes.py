"""A class that gets another name: what was made under the old one still is of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from inline_runner import InlineRunner
from tiny_backbone import TINY, tiny_weights
from tiny_project import CPU, NAMES, NOW, finish, write_tile

from napari_protoseg.errors import SchemaError
from napari_protoseg.events import Request
from napari_protoseg.jobs.apply import ApplyModel, apply_model
from napari_protoseg.jobs.bank import latest_bank
from napari_protoseg.jobs.export import ExportFormat, export_project
from napari_protoseg.jobs.look import look
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.jobs.train import resume_training, train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import Matching, Preset, TrainingConfig
from napari_protoseg.training.events import EpochFinished
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.session import Session, Settings

RECIPE = Recipe(flip=False)
RENAMED = ("carcinoma", *NAMES[1:])


@pytest.fixture
def state(trained: Path) -> Iterator[LabelsState]:
    session = Session(InlineRunner(), lambda: Settings(device="cpu"))
    state = LabelsState(session)
    session.open(trained / "project")
    yield state
    session.close()


def rename(project: Project, name: str) -> None:
    """Rename the first class as the page does."""
    session = Session(InlineRunner())
    session.project = project
    LabelsState(session).rename_class(project.schema.ids[0], name)


def test_an_empty_name_and_one_that_is_taken_are_refused(state: LabelsState):
    with pytest.raises(SchemaError, match=r"is empty.*a name and a key of its own"):
        state.rename_class(1, "  ")
    with pytest.raises(SchemaError, match="stands twice"):
        state.rename_class(1, NAMES[1].upper())
    assert state.session.require_project().schema.names == NAMES


def test_masks_models_and_banks_go_on_under_the_new_name(state: LabelsState, tmp_path: Path):
    state.rename_class(1, RENAMED[0])
    project = state.session.require_project()
    assert project.schema.names == RENAMED
    image = project.images()[0]
    sight, _ = finish(look(project, image, read_recorded(image), RECIPE, last=None, device=CPU))
    assert sight is not None
    assert set(sight.class_maps) == set(project.schema.ids)
    _, summary = latest_bank(project)
    assert summary.prototypes.keys() == set(NAMES), "as it was when it was built"
    job = export_project(project, ExportFormat.PNG, tmp_path / "out", RECIPE, device=CPU, now=NOW)
    finish(job)
    exported = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert [known["name"] for known in exported["classes"]] == list(RENAMED)
    again = train_project(project, TrainRequest(preset=Preset.QUICK), device=CPU, now=lambda: NOW)
    assert finish(again)[0] is not None, "the bank is fitted again"


def test_it_may_be_called_as_before_again(state: LabelsState):
    state.rename_class(1, "carcinoma")
    state.rename_class(1, NAMES[0])
    (first, *_) = state.session.require_project().schema.classes
    assert (first.name, first.former) == (NAMES[0], ("carcinoma",))


def test_another_class_may_take_the_name_that_is_free_now(state: LabelsState):
    state.rename_class(1, "carcinoma")
    state.rename_class(2, NAMES[0])
    project = state.session.require_project()
    bank, _ = latest_bank(project)
    assert bank.bank.schema.names == NAMES
    assert list(project.schema.positions_of(bank.bank.schema)) == [0, 1, 2, 3]


def test_another_project_finds_the_classes_by_their_new_names(state: LabelsState, tmp_path: Path):
    state.rename_class(1, "carcinoma")
    folder = state.session.require_project().folder
    write_tile(tmp_path / "new", 20, 0, 1)
    with Project.create(
        tmp_path / "other", ClassSchema.from_names([*NAMES[1:], "Carcinoma"]), created=NOW
    ) as other:
        (path,) = (tmp_path / "new").iterdir()
        path.rename(path.with_name("plain.png"))
        request = ApplyModel(images=tmp_path / "new", model_project=folder)
        applied, _ = finish(apply_model(other, request, RECIPE, device=CPU, now=NOW))
        assert applied is not None
        assert applied.predicted == 1


def test_more_images_can_be_added_with_the_table_of_before(state: LabelsState, tmp_path: Path):
    new = write_tile(tmp_path / "new", 20, 0, 1)
    new = new.rename(new.with_name("plain.png"))
    table = tmp_path / "labels.csv"
    table.write_text(f"file,{','.join(NAMES)}\nplain.png,1,1,0,0\n")
    state.rename_class(1, "carcinoma")
    state.intake.edit(Draft(images=str(new.parent), labels=str(table)))
    state.intake.look()
    state.intake.take()
    labels = {image.path.name: image.label for image in state.images.all}
    assert labels["plain.png"] == (1, 1, 0, 0)


def test_a_stopped_training_goes_on(banked: Path, tmp_path: Path):
    weights = tiny_weights(tmp_path)
    config = TrainingConfig(backbone=TINY, epochs=2, batch_size=8, matching=Matching.NONE)
    request = TrainRequest(config=config, backbone_weights=weights)
    with Project.open(banked / "project") as project:
        job = train_project(project, request, device=CPU, now=lambda: NOW)
        finish(job, lambda e: Request.STOP if isinstance(e, EpochFinished) else None)
        rename(project, "carcinoma")
        ended, events = finish(resume_training(project, device=CPU, now=lambda: NOW))
        assert ended is not None
        assert ended.finished
        assert [e.epoch for e in events if isinstance(e, EpochFinished)] == [1]
