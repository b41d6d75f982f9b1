"""From labelled tiles to exported masks, by the commands that a person types."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from terminal_runs import INPUT, USAGE, Ran, protoseg, refusal
from tiny_project import CLASSES, NAMES, SIZE, tree

from napari_protoseg.cli.commands import application
from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.masks.recipe import LabelCondition, Recipe
from napari_protoseg.project.folder import Project


def masks_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: read_mask(path) for path in sorted(folder.glob("*.png"))}


def ids_allowed(name: str) -> set[int]:
    """Return the class ids that the label in a name allows, and unlabelled."""
    digits = name[name.index("[") + 1 : name.index("]")].split()
    return {0} | {k for k, digit in enumerate(digits, start=1) if digit == "1"}


def parsed(ran: Ran) -> dict[str, object]:
    """Return the JSON that is all of standard output."""
    record = json.loads(ran.out)
    assert isinstance(record, dict)
    return record


def test_each_command_names_the_next_and_the_last_one_writes_masks(tmp_path: Path, made: Path):
    project = tmp_path / "fresh"
    ran = protoseg("new", project, "--images", made / "tiles", "--classes", CLASSES)
    assert f"protoseg bank {project}" in ran.out
    assert "16 images to train on" in ran.out

    ran = protoseg("bank", project, "--clusters", "2")
    assert f"protoseg train {project}" in ran.out
    assert ran.out.count("cohesion") == 2 * len(NAMES)
    assert "Apache-2.0" in ran.err

    ran = protoseg("train", project, "--epochs", "1", "--batch-size", "4")
    assert f"protoseg export {project}" in ran.out
    assert "Epoch 1 of 1" in ran.err

    out = tmp_path / "masks"
    ran = protoseg("export", project, "--format", "png", "--out", out)
    masks = masks_in(out)
    assert masks.keys() == {path.name for path in (made / "tiles").iterdir()}
    for name, mask in masks.items():
        assert mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) <= ids_allowed(name)


def test_info_says_how_far_a_project_has_come(trained: Path):
    said = protoseg("info", trained / "project").out
    assert "training images: 16" in said
    assert "round status: finished" in said
    record = parsed(protoseg("info", trained / "project", "--json"))
    assert (record["bank"], record["round"], record["images"]) == (1, 1, 16)


def test_json_is_all_of_standard_output(tmp_path: Path, made: Path):
    project = tmp_path / "fresh"
    args = ("--images", made / "tiles", "--classes", CLASSES)
    assert parsed(protoseg("new", project, *args, "--json"))["training"] == 16
    assert len(parsed(protoseg("bank", project, "--clusters", "1", "--json"))["prototypes"]) == 4
    assert parsed(protoseg("train", project, "--preset", "quick", "--json"))["finished"] is True
    out = tmp_path / "masks"
    assert parsed(protoseg("predict", project, "--out", out, "--json"))["images"] == 16
    out = tmp_path / "export"
    ran = protoseg("export", project, "--format", "training", "--out", out, "--json")
    assert parsed(ran) == {"folder": str(out), "images": 16}


def test_quiet_prints_the_result_alone_where_there_is_nothing_to_warn_of(
    tmp_path: Path, banked: Path
):
    project = banked / "project"
    for command in (
        ("new", tmp_path / "p", "--images", banked / "tiles", "--classes", CLASSES),
        ("train", project, "--preset", "quick"),
        ("predict", project, "--out", tmp_path / "masks"),
        ("export", project, "--format", "png", "--out", tmp_path / "export"),
    ):
        ran = protoseg(*command, "--quiet")
        assert ran.err == "", command[0]
        assert ran.out != "", command[0]


def test_every_command_takes_quiet_and_json():
    for command in application.registered_commands:
        assert command.callback is not None
        assert {"quiet", "json"} <= inspect.signature(command.callback).parameters.keys()


def test_quiet_still_warns(made: Path):
    ran = protoseg("bank", made / "project", "--clusters", "4", "--quiet")
    assert all(line.startswith("Note: ") for line in ran.err.splitlines())
    assert "too few" in ran.err


def test_own_images_are_predicted_under_their_given_labels(tmp_path: Path, trained: Path):
    out = tmp_path / "masks"
    protoseg("predict", trained / "project", "--out", out)
    masks = masks_in(out)
    assert len(masks) == 16
    assert all(set(np.unique(mask)) <= ids_allowed(name) for name, mask in masks.items())
    classes = json.loads((out / "classes.json").read_text())
    assert [entry["value"] for entry in classes["classes"]] == [1, 2, 3, 4]


def test_other_images_are_predicted_under_the_labels_in_their_names(tmp_path: Path, trained: Path):
    out = tmp_path / "masks"
    protoseg(
        "predict", trained / "project", "--images", trained / "validation/images", "--out", out
    )
    masks = masks_in(out)
    assert len(masks) == 4
    assert all(set(np.unique(mask)) <= ids_allowed(name) for name, mask in masks.items())
    record = PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text())
    assert record.recipe.labels is LabelCondition.GIVEN
    assert record.images == 4
    assert record.model.classes.names == NAMES


def test_predicted_labels_need_no_given_ones(tmp_path: Path, trained: Path):
    images = tmp_path / "plain"
    images.mkdir()
    for number, path in enumerate(sorted((trained / "validation/images").iterdir())):
        path.rename(images / f"{number}.png")
    out = tmp_path / "masks"
    project = trained / "project"
    said = refusal("predict", project, "--images", images, "--out", out, untouched=trained)
    assert "--label-file" in said
    assert "--labels predicted" in said
    assert not out.exists()
    protoseg("predict", project, "--images", images, "--labels", "predicted", "--out", out)
    assert masks_in(out).keys() == {"0.png", "1.png", "2.png", "3.png"}
    record = PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text())
    assert record.recipe.labels is LabelCondition.PREDICTED


def test_predicted_labels_leave_names_and_folders_without_a_meaning(tmp_path: Path, trained: Path):
    images = tmp_path / "plain"
    names = ["tumor/at[12,34].png", "tumor/a-[1 1 0 0 1].png", "mine/b-[1 0].png", "c.png"]
    for name, path in zip(names, sorted((trained / "validation/images").iterdir()), strict=True):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(images / name)
    out = tmp_path / "masks"
    project = trained / "project"
    ran = protoseg("predict", project, "--images", images, "--labels", "predicted", "--out", out)
    assert "label" not in ran.err
    assert len(masks_in(out)) == 4


def test_files_of_equal_content_each_get_their_mask(tmp_path: Path, trained: Path):
    images = trained / "validation/images"
    first = sorted(images.iterdir())[0]
    again = images / f"again-{first.name}"
    shutil.copy(first, again)
    for condition in ("given", "predicted"):
        out = tmp_path / condition
        protoseg(
            "predict", trained / "project", "--images", images, "--labels", condition, "--out", out
        )
        masks = masks_in(out)
        assert len(masks) == 5
        assert np.array_equal(masks[first.name], masks[again.name])


def test_a_label_file_gives_the_labels(tmp_path: Path, trained: Path):
    images = tmp_path / "plain"
    images.mkdir()
    for number, path in enumerate(sorted((trained / "validation/images").iterdir())):
        path.rename(images / f"{number}.png")
    table = tmp_path / "labels.csv"
    rows = [f"{number}.png,{NAMES[number]}" for number in range(4)]
    table.write_text("\n".join(["file,classes", *rows]) + "\n")
    out = tmp_path / "masks"
    protoseg(
        "predict", trained / "project", "--images", images, "--label-file", table, "--out", out
    )
    found = [set(np.unique(mask)) - {0} for mask in masks_in(out).values()]
    assert any(found)
    assert all(ids <= {number} for number, ids in enumerate(found, start=1))


def test_a_label_file_without_images_is_wrong_usage(tmp_path: Path, trained: Path):
    project, table = trained / "project", tmp_path / "labels.csv"
    args = ("--label-file", table, "--out", tmp_path / "masks")
    assert "--images" in protoseg("predict", project, *args, code=USAGE).err
    args = ("--images", tmp_path, "--labels", "predicted", *args)
    assert "given labels" in protoseg("predict", project, *args, code=USAGE).err


def test_images_that_a_table_leaves_unlabelled_are_counted(tmp_path: Path, trained: Path):
    images = tmp_path / "plain"
    images.mkdir()
    for number, path in enumerate(sorted((trained / "validation/images").iterdir())):
        path.rename(images / f"{number}.png")
    table, out = tmp_path / "labels.csv", tmp_path / "masks"
    table.write_text(f"file,classes\n0.png,{NAMES[0]}\n")
    args = ("--images", images, "--label-file", table, "--out", out)
    said = protoseg("predict", trained / "project", *args).err
    others = len(list(images.iterdir())) - 1
    assert f"{others} of {others + 1} images have no image-level label" in said
    record = PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text())
    assert (record.images, record.unlabelled) == (others + 1, others)


def test_a_recipe_file_decides_and_stands_beside_the_masks(tmp_path: Path, trained: Path):
    recipe = Recipe(flip=False, stage_weights=(1.0,))
    file = tmp_path / "recipe.json"
    file.write_text(recipe.model_dump_json())
    out = tmp_path / "masks"
    project = trained / "project"
    protoseg("predict", project, "--recipe", file, "--background", "margin", "--out", out)
    used = PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text()).recipe
    assert used.margin is not None
    assert used.model_copy(update={"margin": None}) == recipe.model_copy(
        update={"background": used.background}
    )
    assert any((mask == 0).any() for mask in masks_in(out).values())
    file.write_text('{"flap": true}')
    said = refusal("predict", project, "--recipe", file, "--out", tmp_path / "b", untouched=trained)
    assert "flap" in said


def test_a_training_folder_holds_images_and_zero_based_masks(tmp_path: Path, trained: Path):
    png, training = tmp_path / "png", tmp_path / "training"
    protoseg("export", trained / "project", "--format", "png", "--out", png)
    protoseg("export", trained / "project", "--format", "training", "--out", training)
    for path in (trained / "tiles").iterdir():
        stem, _, digits = path.stem.partition("-")
        name = f"{stem}{digits.replace(' ', '')}.png"
        assert (training / "training" / name).read_bytes() == path.read_bytes()
        values = read_mask(training / "training_masks" / name).astype(int)
        ids = read_mask(png / path.name).astype(int)
        np.testing.assert_array_equal(values, np.where(ids == 0, 4, ids - 1))


@pytest.mark.parametrize("form", ["png", "training"])
def test_an_export_into_a_folder_that_holds_something_is_refused(
    tmp_path: Path, trained: Path, form: str
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    args = ("--format", form, "--out", out)
    said = refusal("export", trained / "project", *args, untouched=tmp_path)
    assert str(out) in said


def test_a_prediction_into_a_folder_that_holds_something_is_refused(tmp_path: Path, trained: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    said = refusal("predict", trained / "project", "--out", out, untouched=tmp_path)
    assert str(out) in said


def test_masks_are_made_once_and_again_where_the_recipe_changes(tmp_path: Path, trained: Path):
    project = trained / "project"
    first = protoseg("export", project, "--format", "png", "--out", tmp_path / "a")
    second = protoseg("export", project, "--format", "png", "--out", tmp_path / "b")
    assert "Making masks" in first.err
    assert "Making masks" not in second.err
    # The record beside the masks is dated; everything else is the same.
    one, other = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert one.pop(PREDICTION_RECORD) and other.pop(PREDICTION_RECORD)
    assert one == other
    recipe = tmp_path / "recipe.json"
    recipe.write_text(Recipe(flip=False).model_dump_json())
    args = ("--format", "png", "--out", tmp_path / "c", "--recipe", recipe)
    assert "Making masks" in protoseg("export", project, *args).err


def test_the_recipe_beside_masks_makes_the_same_masks_again(tmp_path: Path, trained: Path):
    project = trained / "project"
    protoseg("predict", project, "--labels", "predicted", "--out", tmp_path / "a")
    protoseg("predict", project, "--recipe", tmp_path / "a/recipe.json", "--out", tmp_path / "b")
    one, other = masks_in(tmp_path / "a"), masks_in(tmp_path / "b")
    assert all((one[name] == other[name]).all() for name in one)
    record = PredictionRecord.model_validate_json((tmp_path / "b" / PREDICTION_RECORD).read_text())
    assert record.recipe.labels is LabelCondition.PREDICTED


def test_a_prediction_mutes_what_is_muted_in_the_project_unless_a_recipe_file_says_otherwise(
    tmp_path: Path, trained: Path
):
    project = trained / "project"
    protoseg("predict", project, "--out", tmp_path / "all")
    with Project.open(project) as opened:
        opened.set_muted_prototypes(1, {1})
        class_id = opened.schema.ids[1]  # each class has one prototype
    protoseg("predict", project, "--out", tmp_path / "muted")
    file = tmp_path / "all/recipe.json"
    protoseg("predict", project, "--recipe", file, "--out", tmp_path / "as_before")
    made = {name: masks_in(tmp_path / name) for name in ("all", "muted", "as_before")}
    kept = [Recipe.read(tmp_path / name / "recipe.json").muted for name in made]
    assert kept == [(), (1,), ()]
    present = {int(value) for mask in made["all"].values() for value in np.unique(mask)}
    left = {int(value) for mask in made["muted"].values() for value in np.unique(mask)}
    assert present - left == {class_id}
    assert all((made["as_before"][name] == mask).all() for name, mask in made["all"].items())


def test_exported_masks_say_which_labels_they_were_allowed_to_use(tmp_path: Path, trained: Path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(Recipe(labels=LabelCondition.NONE).model_dump_json())
    out = tmp_path / "masks"
    args = ("--format", "png", "--out", out, "--recipe", recipe)
    protoseg("export", trained / "project", *args)
    classes = ("--classes", CLASSES, "--mask-codes", "project")
    said = protoseg("evaluate", "--predictions", out, "--masks", out, *classes).out
    assert "no image labels" in said


def test_options_that_a_preset_cannot_take_are_wrong_usage(banked: Path):
    for options in (
        ("--preset", "quick", "--epochs", "3"),
        ("--preset", "quick", "--backbone-weights", "resnet50.safetensors"),
        ("--compat", "reference", "--matching", "dense"),
        ("--preset", "paper", "--matching", "none"),
    ):
        before = tree(banked)
        said = protoseg("train", banked / "project", *options, code=USAGE).err
        assert "Value error" not in said
        assert tree(banked) == before


def test_nothing_trained_names_the_command_that_trains(tmp_path: Path, banked: Path):
    project = banked / "project"
    for command in (("predict", project), ("export", project, "--format", "png")):
        said = refusal(*command, "--out", tmp_path / "out", untouched=banked, code=INPUT)
        assert f"protoseg train {project}" in said
        assert not (tmp_path / "out").exists()


def test_images_of_any_size_and_folder_are_predicted(tmp_path: Path, trained: Path):
    images = tmp_path / "images"
    first, second, *_ = sorted((trained / "validation/images").iterdir())
    for place, path, size in (("a", first, (50, 70)), ("b", second, (97, 33))):
        (images / place).mkdir(parents=True)
        Image.open(path).resize(size).save(images / place / path.name)
    out = tmp_path / "masks"
    protoseg("predict", trained / "project", "--images", images, "--out", out)
    shapes = {name: mask.shape for name, mask in masks_in(out).items()}
    assert shapes == {f"a__{first.name}": (70, 50), f"b__{second.name}": (33, 97)}


def test_predictions_of_images_in_folders_are_evaluated_by_masks_in_the_same_folders(
    tmp_path: Path, trained: Path
):
    validation, images, truth = trained / "validation", tmp_path / "images", tmp_path / "truth"
    for number, path in enumerate(sorted((validation / "images").iterdir())):
        for kind, place in (("images", images), ("masks", truth)):
            below = place / ("a", "b/c")[number % 2] / "x" / path.name
            below.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(validation / kind / path.name, below)
    out, flat = tmp_path / "masks", tmp_path / "flat"
    protoseg("predict", trained / "project", "--images", images, "--out", out)
    protoseg("predict", trained / "project", "--images", validation / "images", "--out", flat)
    figures = []
    for predictions, masks in ((out, truth), (flat, validation / "masks")):
        file = tmp_path / "figures.json"
        args = ("--predictions", predictions, "--masks", masks, "--classes", CLASSES)
        ran = protoseg("evaluate", *args, "--mask-codes", "project", "--json", file)
        assert "left out" not in ran.err
        figures.append(json.loads(file.read_text())["scores"])
    assert figures[0] == figures[1]
    (out / "z.png").write_bytes(next(out.glob("*.png")).read_bytes())
    assert "1 predictions have no true mask" in protoseg("evaluate", "--predictions", out,
        "--masks", truth, "--classes", CLASSES, "--mask-codes", "project").err  # fmt: skip


def test_names_that_clash_are_found_before_anything_is_predicted(tmp_path: Path, trained: Path):
    images = tmp_path / "images"
    first, second, *_ = sorted((trained / "validation/images").iterdir())
    (images / "a").mkdir(parents=True)
    shutil.copyfile(first, images / "a" / "x-[1 0 0 0].png")
    shutil.copyfile(second, images / "a__x-[1 0 0 0].png")
    out = tmp_path / "masks"
    args = ("predict", trained / "project", "--images", images, "--out", out)
    said = protoseg(*args, code=INPUT).err
    assert "two images would get this name" in said
    assert "Writing masks" not in said
    assert not out.exists()
