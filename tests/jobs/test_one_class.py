"""A project of one class: it competes with whatever else there is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish
from tiny_backbone import TINY, tiny_weights
from tiny_project import CASE_PATTERN, CASES, CPU, NOW, write_tile

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.errors import TrainingError
from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.events import StepFinished


def project_of_one_class(workspace: Path, *, everywhere: bool) -> Path:
    """Make a project with a bank: of the class alone, or of tiles that do not hold it, too."""
    tiles = workspace / "tiles"
    rows = [("file", "tumour")]
    for case in range(CASES):
        for number in range(4):
            holds = everywhere or number % 2 == 0
            path = write_tile(tiles, case, number, 0 if holds else 1 + number // 2)
            rows.append((path.name, str(int(holds))))
    table = workspace / "labels.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    folder = workspace / "project"
    request = NewProject(folder=folder, images=tiles, labels=table, case_pattern=CASE_PATTERN)
    finish(new_project(request, now=NOW))
    with Project.open(folder) as project:
        bank = BankRequest(config=BankConfig(clusters=2))
        finish(build_project_bank(project, bank, device=CPU, now=NOW))
    return folder


def standard(workspace: Path) -> TrainRequest:
    weights = tiny_weights(workspace)
    config = PRESETS[Preset.STANDARD].model_copy(
        update={"backbone": TINY, "epochs": 8, "batch_size": 4, "head_rate": 1e-2}
    )
    return TrainRequest(config=config, backbone_weights=weights)


@pytest.mark.parametrize("preset", [Preset.QUICK, Preset.STANDARD])
def test_a_single_class_is_found_where_it_is_and_nowhere_else(tmp_path: Path, preset: Preset):
    folder = project_of_one_class(tmp_path, everywhere=False)
    quick = preset is Preset.QUICK
    request = TrainRequest(preset=preset) if quick else standard(tmp_path)
    with Project.open(folder) as project:
        _, events = finish(train_project(project, request, device=CPU, now=lambda: NOW))
        losses = [event.loss for event in events if isinstance(event, StepFinished)]
        assert np.mean(losses[-4:]) < np.mean(losses[:4])
        model = trained_model(project).model
        recipe = Recipe(labels=LabelCondition.PREDICTED)
        predictor = Predictor(model, project.schema.ids, recipe, CPU)
        covered: dict[bool, list[float]] = {True: [], False: []}
        probable: dict[bool, list[float]] = {True: [], False: []}
        for image in project.images():
            found = predictor.predict(read_image(image.path)[None])
            covered[image.label == (1,)].append(float((found.masks > 0).mean()))
            probable[image.label == (1,)].append(float(found.probabilities[0, 0]))
    assert np.mean(probable[True]) > 0.5 > np.mean(probable[False])
    # A network that begins with random weights is sure of a few pixels alone.
    assert np.mean(covered[True]) > (0.5 if quick else 0.05)
    assert np.mean(covered[False]) < (0.1 if quick else 0.5) * np.mean(covered[True])


def test_a_single_class_that_is_in_every_image_is_refused(tmp_path: Path):
    folder = project_of_one_class(tmp_path, everywhere=True)
    with Project.open(folder) as project:
        job = train_project(project, TrainRequest(preset=Preset.QUICK), device=CPU, now=lambda: NOW)
        with pytest.raises(TrainingError, match="tell it from") as caught:
            finish(job)
        assert "such as other" in caught.value.remedy
        assert project.latest_round() is None
