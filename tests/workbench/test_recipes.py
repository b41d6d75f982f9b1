"""Each model has the recipe that suits it, unless a person has chosen another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from driven_jobs import finish
from inline_runner import InlineRunner
from pydantic import ValidationError
from tiny_backbone import TINY, tiny_weights
from tiny_project import CPU, NOW
from typer.testing import CliRunner

from napari_protoseg.cli.commands import application
from napari_protoseg.events import Progress
from napari_protoseg.jobs import preparation
from napari_protoseg.jobs.preparation import TrainRequest, prepare_new, scorer_of
from napari_protoseg.jobs.previews import EpochPreview
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import REFERENCE, LabelCondition, Recipe, default_recipe
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.training.config import PLAIN, PRESETS, RELEASED, Compat, Preset, TrainingConfig
from napari_protoseg.workbench.session import Session


def released(folder: Path) -> TrainRequest:
    """Two steps of a small network in the released form."""
    weights = tiny_weights(folder)
    small = {"backbone": TINY, "epochs": 1, "batch_size": 8, "max_pairs": 2}
    return TrainRequest(config=TrainingConfig(**RELEASED, **small), backbone_weights=weights)


def test_a_model_of_the_released_form_makes_masks_by_the_released_recipe(
    tmp_path: Path, banked: Path
):
    folder = banked / "project"
    with Project.open(folder) as project:
        assert recipe_of(project) == Recipe()
        image = project.images()[0]
        job = train_project(
            project, released(tmp_path), device=CPU, now=lambda: NOW, preview=lambda: image
        )
        _, events = finish(job)
        assert recipe_of(project) == REFERENCE
    (preview,) = (event for event in events if isinstance(event, EpochPreview))
    present = [n for n, value in enumerate(image.label) if value]
    # Each map is scaled by itself, which no share of a pixel is.
    assert all(preview.class_maps[n].min() < 0.1 for n in present)

    out = tmp_path / "masks"
    ran = CliRunner().invoke(application, ["predict", str(folder), "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    assert Recipe.read(out / "recipe.json") == REFERENCE

    chosen = Recipe(labels=LabelCondition.NONE, flip=False)
    with Project.open(folder) as project:
        project.set_recipe_json(chosen.model_dump_json())
        assert recipe_of(project) == chosen
    ran = CliRunner().invoke(application, ["predict", str(folder), "--out", str(tmp_path / "b")])
    assert ran.exit_code == 0, ran.output
    assert Recipe.read(tmp_path / "b" / "recipe.json") == chosen


def record_round(project: Project, request: TrainRequest) -> None:
    begun = project.new_round(1, request.model_dump_json(), created=NOW)
    project.update_round(begun.id, RoundStatus.FINISHED, finished=NOW)


def test_the_workbench_takes_the_recipe_of_the_newest_model(banked: Path):
    session = Session(InlineRunner())
    assert session.recipe == Recipe()
    session.open(banked / "project")
    project = session.require_project()
    paper = TrainRequest(preset=Preset.PAPER)
    for request, recipe in (
        (paper, REFERENCE),
        (TrainRequest(config=PLAIN, kind=ModelKind.PLAIN_CAM), Recipe()),
        (paper, REFERENCE),
        (TrainRequest(preset=Preset.QUICK), Recipe()),
    ):
        record_round(project, request)
        assert session.recipe == recipe
    record_round(project, paper)
    session.set_recipe(Recipe(flip=False))
    assert session.recipe == Recipe(flip=False)
    session.close_project()


def test_epochs_of_the_released_form_are_scored_by_its_recipe(
    tmp_path: Path, banked: Path, monkeypatch: pytest.MonkeyPatch
):
    used: list[Recipe] = []

    class Noted(Predictor):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            used.append(self.recipe)

    monkeypatch.setattr(preparation, "Predictor", Noted)
    with Project.open(banked / "project") as project:
        prepared, _ = prepare_new(project, released(tmp_path), CPU)
        mask = next((banked / "validation" / "masks").iterdir())
        masked = [replace(image, mask_path=mask) for image in prepared.training[:2]]
        score, events = finish(scorer_of(replace(prepared, masked=masked))(prepared.model))
    assert score is not None
    assert events == [Progress("Measuring on 2 masks", 2, 2)]
    assert [recipe.normalisation for recipe in used] == [REFERENCE.normalisation]
    assert [recipe.merge for recipe in used] == [REFERENCE.merge]


def test_the_released_form_is_told_once_and_normalises_pixels_alone():
    assert PRESETS[Preset.PAPER].model_dump().items() >= dict(RELEASED).items()
    assert default_recipe(Compat.REFERENCE) == REFERENCE
    with pytest.raises(ValidationError, match="cosine false"):
        TrainingConfig(**RELEASED | {"cosine": True})
