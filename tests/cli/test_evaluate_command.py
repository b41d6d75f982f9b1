"""`protoseg evaluate`: the figures of the evaluation, under the protocol that the masks ask for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from terminal_runs import USAGE, protoseg, refusal
from tiny_project import CLASSES, NAMES

from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.predict import PREDICTION_RECORD

REVERSED = ",".join(reversed(NAMES))


@pytest.fixture(scope="module")
def predicted(trained_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation images with their predictions, given and predicted labels."""
    place = tmp_path_factory.mktemp("predicted")
    images = trained_workspace / "validation" / "images"
    for labels in ("given", "predicted"):
        args = ("--images", images, "--labels", labels, "--out", place / labels)
        protoseg("predict", trained_workspace / "project", *args)
    shutil.copytree(trained_workspace / "validation", place / "truth")
    return place


def evaluated(place: Path, *more: str | Path, labels: str = "given") -> dict[str, Any]:
    file = place / "figures.json"
    args = ["--predictions", place / labels, "--masks", place / "truth/positions", *more]
    if "--classes" not in more:
        args += ["--classes", CLASSES]
    protoseg("evaluate", *args, "--json", file)
    figures = json.loads(file.read_text())
    file.unlink()
    assert isinstance(figures, dict)
    return figures


def ious(figures: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["iou"] for row in figures["scores"]["classes"]}


def test_the_figures_are_those_of_counting_pixels(predicted: Path):
    intersection, union = np.zeros(4), np.zeros(4)
    for path in (predicted / "truth" / "masks").iterdir():
        truth, mask = read_mask(path), read_mask(predicted / "given" / path.name)
        mask[truth == 0] = 0
        for position in range(4):
            t, m = truth == position + 1, mask == position + 1
            intersection[position] += (t & m).sum()
            union[position] += (t | m).sum()
    figures = evaluated(predicted)
    assert list(ious(figures).values()) == pytest.approx(list(intersection / union))
    assert figures["scores"]["mean_iou"] == pytest.approx((intersection / union).mean())
    assert figures["images"] == 4
    assert len(figures["trivial"]) == 2


def test_the_table_shows_each_class_the_mean_and_the_protocol(predicted: Path):
    args = ("--predictions", predicted / "given", "--masks", predicted / "truth/positions")
    said = protoseg("evaluate", *args, "--classes", CLASSES).out
    figures = evaluated(predicted)
    for name, iou in ious(figures).items():
        assert any(line.startswith(name) and f"{iou:.3f}" in line for line in said.splitlines())
    assert f"{figures['scores']['mean_iou']:.3f}" in said
    assert figures["protocol_name"] in said


def test_the_classes_that_masks_hold_are_compared_with_the_labels(predicted: Path):
    place = predicted / "truth" / "positions"
    names = sorted(path.name for path in place.iterdir())
    labels = np.array(
        [[int(k) for k in name.split("[")[1].split("]")[0].split()] for name in names]
    )
    held = np.array(
        [
            [position + 1 in read_mask(predicted / "predicted" / name) for position in range(4)]
            for name in names
        ]
    )
    hits = ((labels == 1) & held).sum(0)
    f1 = 2 * hits / ((labels == 1).sum(0) + held.sum(0))
    assert evaluated(predicted, labels="predicted")["image_level_f1"] == pytest.approx(list(f1))


def test_masks_in_other_codes_than_said_are_noticed(predicted: Path):
    masks = ("--predictions", predicted / "given", "--masks", predicted / "truth" / "masks")
    said = protoseg("evaluate", *masks, "--classes", CLASSES).err
    assert "true masks hold a class that their image-level label excludes" in said
    said = protoseg("evaluate", *masks, "--classes", CLASSES, "--mask-codes", "project").err
    assert "excludes" not in said


def test_the_record_beside_the_masks_says_which_labels_they_had(predicted: Path):
    for labels in ("given", "predicted"):
        figures = evaluated(predicted, labels=labels)
        assert figures["protocol"]["labels"] == labels


def test_predictions_are_read_by_class_id_whatever_the_order_of_the_classes(
    predicted: Path, tmp_path: Path
):
    truth = tmp_path / "reversed"
    truth.mkdir()
    for path in (predicted / "truth" / "positions").iterdir():
        values = read_mask(path)
        turned = np.where(values < 4, 3 - values.astype(int), 4).astype(np.uint8)
        Image.fromarray(turned).save(truth / path.name)
    args = ("--predictions", predicted / "given", "--masks", truth, "--classes", REVERSED)
    file = tmp_path / "figures.json"
    protoseg("evaluate", *args, "--json", file)
    assert ious(json.loads(file.read_text())) == pytest.approx(ious(evaluated(predicted)))


def test_true_masks_may_hold_the_ids_of_the_project(predicted: Path):
    plain = evaluated(predicted)
    more = ("--masks", predicted / "truth/masks", "--mask-codes", "project")
    assert evaluated(predicted, *more)["scores"] == plain["scores"]
    assert ious(evaluated(predicted, *more, "--classes", REVERSED)) == pytest.approx(ious(plain))


def test_without_a_record_ids_count_from_one_in_class_order(predicted: Path, tmp_path: Path):
    copy = Path(shutil.copytree(predicted / "given", tmp_path / "given"))
    (copy / PREDICTION_RECORD).unlink()
    more = ("--predictions", copy)
    assert evaluated(predicted, *more)["scores"] == evaluated(predicted)["scores"]
    assert ious(evaluated(predicted, *more, "--classes", REVERSED)) != ious(evaluated(predicted))


def test_counted_background_makes_figures_that_are_no_better(predicted: Path):
    counted = evaluated(predicted, "--background", "count")
    assert counted["protocol"]["background"] == "count"
    assert all(iou <= ious(evaluated(predicted))[name] for name, iou in ious(counted).items())


def test_a_table_of_labels_makes_the_trivial_predictions(predicted: Path, tmp_path: Path):
    truth, guesses = tmp_path / "truth", tmp_path / "guesses"
    truth.mkdir()
    guesses.mkdir()
    rows = []
    for number, path in enumerate(sorted((predicted / "truth" / "positions").iterdir())):
        shutil.copy(path, truth / f"{number}.png")
        shutil.copy(predicted / "given" / path.name, guesses / f"{number}.png")
        digits = path.stem[path.stem.index("[") + 1 : -1].split()
        rows.append(",".join([f"{number}.png", *digits]))
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([f"file,{CLASSES}", *rows]) + "\n")
    args = ("--predictions", guesses, "--masks", truth, "--classes", CLASSES)
    without = protoseg("evaluate", *args)
    assert "trivial predictions are left out" in without.err
    file = tmp_path / "figures.json"
    protoseg("evaluate", *args, "--labels", table, "--json", file)
    assert json.loads(file.read_text())["trivial"] == evaluated(predicted)["trivial"]


def test_quiet_still_shows_the_figures(predicted: Path, tmp_path: Path):
    args = ("--predictions", predicted / "given", "--masks", predicted / "truth/positions")
    file = tmp_path / "figures.json"
    ran = protoseg("evaluate", *args, "--classes", CLASSES, "--json", file, "--quiet")
    assert ran.err == ""
    assert ran.out == protoseg("evaluate", *args, "--classes", CLASSES).out
    assert json.loads(file.read_text())["protocol_name"] in ran.out


def test_what_cannot_be_compared_is_refused_by_name(predicted: Path, tmp_path: Path):
    copy = Path(shutil.copytree(predicted / "given", tmp_path / "given"))
    first, second, *_ = sorted(path.name for path in copy.glob("*].png"))
    truth = predicted / "truth" / "positions"
    file = tmp_path / "figures.json"
    args = ("evaluate", "--predictions", copy, "--masks", truth, "--json", file)

    Image.fromarray(read_mask(copy / second)[:-1]).save(copy / second)
    assert second in refusal(*args, "--classes", CLASSES, untouched=tmp_path)
    (copy / first).unlink()
    assert first in refusal(*args, "--classes", CLASSES, untouched=tmp_path)
    assert "glass" in refusal(*args, "--classes", f"{CLASSES},glass", untouched=tmp_path)
    said = refusal(*args, "--classes", f"{CLASSES},{NAMES[0]}", untouched=tmp_path)
    assert "stands twice" in said
    (copy / PREDICTION_RECORD).write_text("{}")
    assert PREDICTION_RECORD in refusal(*args, "--classes", CLASSES, untouched=tmp_path)


def test_a_folder_that_is_not_there_is_named(predicted: Path, tmp_path: Path):
    masks = tmp_path / "absent"
    args = ("--predictions", predicted / "given", "--masks", masks, "--classes", CLASSES)
    assert str(masks) in refusal("evaluate", *args, untouched=masks, code=4)


def test_an_unknown_protocol_is_wrong_usage(predicted: Path):
    args = ("--predictions", predicted, "--masks", predicted, "--classes", CLASSES)
    assert "zero-based" in protoseg("evaluate", *args, "--mask-codes", "both", code=USAGE).err
