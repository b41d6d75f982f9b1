"""The tables of `benchmarks/accuracy.py` say what was measured, each prediction by its own rule."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SOFTMAX, MIN_MAX = "predicted labels, softmax", "predicted labels, min-max"
TILE = 100
"""Pixels of each class in an image."""


@pytest.fixture(scope="module")
def report() -> Iterator[ModuleType]:
    """`benchmarks/accuracy_report.py`, loaded as `accuracy.py` does."""
    if not (FOLDER / "accuracy_report.py").is_file():
        pytest.skip(f"{FOLDER} is no part of this distribution")
    sys.path.insert(0, str(FOLDER))
    import accuracy_report

    yield accuracy_report
    sys.path.remove(str(FOLDER))


def confusion(right: int) -> list[list[int]]:
    """Return the confusion of an image of lung, of each class so many pixels found as they are.

    The others of tumour are found as stroma, those of stroma as tumour.
    """
    matrix = np.zeros((4, 4), dtype=int)
    for own, other in ((0, 1), (1, 0), (2, 2)):
        matrix[own, other] += TILE - right
        matrix[own, own] += right
    return matrix.tolist()


def iou_of(right: int) -> float:
    return right / (2 * TILE - right)


def keep(folder: Path, name: str, right: Mapping[str, int], images: str = "ab") -> None:
    """Write a run in which so much is right by each rule."""
    folder.mkdir(parents=True, exist_ok=True)
    matrices = {
        rule: {image: confusion(share) for image in images} for rule, share in right.items()
    }
    run = {"matrices": matrices, "image-level F1": [0.5, 0.75, 1.0]}
    (folder / f"{name}.json").write_text(json.dumps(run))


def given_and_predicted(right: int) -> dict[str, int]:
    return {f"{labels} labels, softmax": right for labels in ("given", "predicted")}


def written(report: ModuleType, results: Path, marks: str) -> str:
    document = results.parent / "document.md"
    document.write_text(f"before\n<!-- measured: {marks} -->\nformer\n<!-- end -->\nafter\n")
    report.write_report(results, document)
    return document.read_text()


def rows_of(text: str, name: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [line for line in lines if line and line[0].strip("*") == name]


def test_a_row_has_the_mean_over_seeds_and_what_it_is_over_the_plain_cam(
    report: ModuleType, tmp_path: Path
):
    results = tmp_path / "results"
    for seed, right in ((0, 80), (1, 90)):
        keep(results / "lung", f"ours, seed {seed}", given_and_predicted(right))
        keep(results / "lung", f"plain CAM, seed {seed}", given_and_predicted(60))
    text = written(report, results, "lung")
    assert text.startswith("before\n<!-- measured: lung -->\n| Given labels")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "former" not in text
    ours, _, f1 = rows_of(text, "ours")
    mean, spread = np.mean([iou_of(80), iou_of(90)]), np.std([iou_of(80), iou_of(90)], ddof=1)
    assert ours[1:5] == ["2", f"{mean:.3f}", f"{mean:.3f}", "1.000"]
    assert ours[5] == f"**{mean:.3f}** ± {spread:.3f}"
    gain = mean - iou_of(60)
    assert ours[7] == f"{gain:+.3f} ({gain:+.3f} to {gain:+.3f})", "all images are alike"
    assert f1[1:] == ["0.50", "0.75", "1.00"]


def test_the_headlines_of_all_tissues_stand_side_by_side(report: ModuleType, tmp_path: Path):
    results = tmp_path / "results"
    keep(results / "lung", "trivial, split evenly", {"given labels, softmax": 40})
    keep(results / "lung", "ours, seed 0", {"given labels, softmax": 80, SOFTMAX: 70})
    keep(results / "colon", "ours, seed 0", {SOFTMAX: 60})
    text = written(report, results, "summary")
    titles = ["lung, given", "lung, predicted", "colon, given", "colon, predicted"]
    assert rows_of(text, "Mean IoU")[0][1:] == titles
    lung = [f"{iou_of(right):.3f}" for right in (80, 70)]
    of_three_classes = (2 * iou_of(60) + 1) / 3
    assert rows_of(text, "ours")[0][1:] == [*lung, "", f"{of_three_classes:.3f}"]
    assert rows_of(text, "trivial, split evenly")[0][1:] == [f"{iou_of(40):.3f}", "", "", ""]


def test_what_is_compared_with_has_its_best_way_to_masks_and_what_is_installed_its_own(
    report: ModuleType, tmp_path: Path
):
    results = tmp_path / "results"
    for name in ("ours", "plain CAM", "second stage, shared targets"):
        keep(results / "lung", f"{name}, seed 0", {SOFTMAX: 50, MIN_MAX: 90})
    released = {SOFTMAX: 50, MIN_MAX: 60, "predicted labels, released": 70}
    keep(results / "lung", "reference, re-encoding, seed 0", released)
    text = written(report, results, "lung")
    for name, right in (
        ("ours", 50),
        ("plain CAM", 90),
        ("second stage, shared targets", 50),
        ("reference, re-encoding", 70),
    ):
        assert rows_of(text, name)[0][5] == f"**{iou_of(right):.3f}**"


@pytest.mark.parametrize(("right", "said"), [(70, "not reached"), (80, "reached")])
def test_a_bar_is_the_smaller_of_points_and_a_part_of_the_gap(
    report: ModuleType, tmp_path: Path, right: int, said: str
):
    results = tmp_path / "results"
    for name, of_name in (("plain CAM", 69), ("ours", right), ("fully supervised", 95)):
        keep(results / "lung", f"{name}, seed 0", given_and_predicted(of_name))
    text = written(report, results, "lung")
    assert f"0.030, {said} |" in text


def test_folds_show_second_stages_less_their_teacher(report: ModuleType, tmp_path: Path):
    results = tmp_path / "results"
    for fold, right in ((0, 60), (1, 40)):
        keep(results / f"lung, fold {fold}", "ours, seed 0", {SOFTMAX: 50})
        keep(results / f"lung, fold {fold}", "second stage, seed 0", {SOFTMAX: right, MIN_MAX: 99})
    keep(results / "lung, fold 1, GPU", "ours, seed 0", {SOFTMAX: 50})
    keep(results / "lung, fold 1, GPU", "second stage, seed 0", {SOFTMAX: 55})
    keep(results / "lung, fold 1, rate 3e-05", "ours, seed 0", {SOFTMAX: 50})
    text = written(report, results, "folds")
    gains = [f"{iou_of(right) - iou_of(50):+.3f}" for right in (60, 40, 55)]
    assert rows_of(text, "Less its teacher, predicted labels")[0][1:] == [
        "lung, fold 0",
        "lung, fold 1",
    ]
    assert rows_of(text, "second stage") == [["second stage", gains[0], gains[1]]]
    assert rows_of(text, "second stage, GPU") == [["second stage, GPU", "", gains[2]]]


def test_a_tissue_of_which_nothing_was_measured_keeps_its_tables(
    report: ModuleType, tmp_path: Path
):
    text = written(report, tmp_path / "results", "lung")
    assert "former" in text


def test_predictions_of_different_images_are_not_compared(report: ModuleType, tmp_path: Path):
    results = tmp_path / "results"
    keep(results / "lung", "ours, seed 0", {SOFTMAX: 50})
    keep(results / "lung", "plain CAM, seed 0", {SOFTMAX: 50}, images="abc")
    with pytest.raises(ValueError, match="measured on different images"):
        written(report, results, "lung")


def test_masks_without_labels_have_a_table_that_leaves_ablations_out(
    report: ModuleType, tmp_path: Path
):
    results = tmp_path / "results"
    for name in ("ours", "ours, one prototype a class"):
        keep(results / "lung", f"{name}, seed 0", {"none labels, softmax": 70, SOFTMAX: 60})
    text = written(report, results, "lung")
    predicted, without, _ = text.split("\n\n")
    assert without.startswith("| No labels |")
    assert rows_of(without, "ours")[0][5] == f"**{iou_of(70):.3f}**"
    assert not rows_of(without, "ours, one prototype a class")
    assert rows_of(predicted, "ours, one prototype a class")
