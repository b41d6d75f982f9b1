"""Exporting again from the terminal: into the same folder, with what a person has muted."""

from __future__ import annotations

from pathlib import Path

from terminal_runs import protoseg, refusal

from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project


def test_an_earlier_export_is_replaced_when_asked(tmp_path: Path, trained: Path):
    project, out = trained / "project", tmp_path / "out"
    protoseg("export", project, "--format", "png", "--out", out)
    args = ("export", project, "--format", "training", "--out", out)
    assert "--overwrite" in refusal(*args, untouched=out)
    ran = protoseg(*args, "--overwrite")
    assert f"16 masks in {out}" in ran.out
    assert len(list((out / "training_masks").iterdir())) == 16
    assert sorted(path.name for path in out.iterdir()) == [
        "classes.json",
        "training",
        "training_masks",
        "valid",
    ]
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out"]


def test_nothing_but_an_earlier_export_is_replaced(tmp_path: Path, trained: Path):
    out = tmp_path / "out"
    protoseg("export", trained / "project", "--format", "png", "--out", out)
    (out / "thesis.txt").write_text("years of work")
    for place, reason in (
        (out, "holds thesis.txt"),
        (trained / "tiles", "no earlier export"),
        (trained / "project", "this project"),
    ):
        args = ("--format", "png", "--out", place, "--overwrite")
        said = refusal("export", trained / "project", *args, untouched=place)
        assert reason in said


def test_without_a_recipe_file_the_prototypes_muted_in_the_project_are_muted(
    tmp_path: Path, trained: Path
):
    with Project.open(trained / "project") as project:
        project.set_muted_prototypes(1, {1})
    file = tmp_path / "recipe.json"
    file.write_text(Recipe(flip=False).model_dump_json())
    for options, muted in (((), (1,)), (("--recipe", file), ())):
        out = tmp_path / f"out-{len(options)}"
        protoseg("export", trained / "project", "--format", "png", "--out", out, *options)
        record = PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text())
        assert record.recipe.muted == muted
