from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish
from PIL import Image

from napari_protoseg.errors import EvaluationError, StorageError
from napari_protoseg.evaluation.folder import evaluate_folder, mask_names, read_pair
from napari_protoseg.evaluation.protocol import Background, ImageLabels, MaskCodes, Protocol
from napari_protoseg.evaluation.scores import Evaluation
from napari_protoseg.evaluation.table import table
from napari_protoseg.evaluation.trivial import Trivial
from napari_protoseg.events import Notice, Progress, Request
from napari_protoseg.schema import ClassSchema, TissueClass

# Ids are neither zero-based nor in order, so that no mask is right by accident.
SCHEMA = ClassSchema(
    classes=(
        TissueClass(id=7, name="tumour", color="#D55E00"),
        TissueClass(id=3, name="stroma", color="#0072B2"),
    ),
    retired=(1, 2),
)
GIVEN = Protocol(labels=ImageLabels.GIVEN)


def save(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    predictions, masks = tmp_path / "predictions", tmp_path / "masks"
    save(masks / "a.png", [[0, 0, 1, 2]])
    save(predictions / "a.png", [[7, 3, 3, 7]])
    save(masks / "case 2" / "b.png", [[1, 1], [1, 9]])
    save(predictions / "case 2" / "b.png", [[3, 0], [3, 3]])
    return predictions, masks


LABELS = {"a.png": (1, 1), "case 2/b.png": (0, 1)}


def test_figures_come_from_one_confusion_matrix_over_the_folder(folders):
    evaluation, events = finish(evaluate_folder(*folders, SCHEMA, LABELS, GIVEN))
    assert evaluation.scores.confusion == ((1, 1, 0), (0, 3, 1))
    tumour, stroma = evaluation.scores.classes
    assert (tumour.iou, stroma.iou) == (1 / 2, 3 / 5)
    assert evaluation.scores.mean_iou == pytest.approx(0.55)
    assert evaluation.scores.background is None
    assert evaluation.images == evaluation.images_in_all == 2
    assert events[-1] == Progress("Comparing masks", 2, 2)


def test_counted_background_makes_false_positives_and_is_a_class_of_its_own(folders):
    protocol = Protocol(labels=ImageLabels.GIVEN, background=Background.COUNT)
    evaluation, _ = finish(evaluate_folder(*folders, SCHEMA, LABELS, protocol))
    assert evaluation.scores.confusion == ((1, 1, 0), (0, 3, 1), (1, 1, 0))
    assert evaluation.scores.background is not None
    assert evaluation.scores.background.iou == 0
    assert evaluation.scores.mean_iou == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert evaluation.scores.mean_iou_with_background == pytest.approx((1 / 3 + 1 / 2) / 3)


def test_project_masks_hold_class_ids_and_zero(tmp_path: Path):
    save(tmp_path / "m" / "a.png", [[7, 3, 0]])
    save(tmp_path / "p" / "a.png", [[0, 1, 0]])
    protocol = Protocol(
        labels=ImageLabels.PREDICTED,
        mask_codes=MaskCodes.PROJECT,
        prediction_codes=MaskCodes.ZERO_BASED,
    )
    evaluation, _ = finish(evaluate_folder(tmp_path / "p", tmp_path / "m", SCHEMA, None, protocol))
    assert evaluation.scores.confusion == ((1, 0, 0), (0, 1, 0))


def test_trivial_predictions_stand_beside_where_there_are_labels(folders):
    evaluation, _ = finish(evaluate_folder(*folders, SCHEMA, LABELS, GIVEN))
    beside = {entry.prediction: entry.scores for entry in evaluation.trivial}
    assert beside[Trivial.LAST_NAMED].confusion == ((0, 2, 0), (0, 4, 0))
    assert beside[Trivial.EVEN_SPLIT].confusion == ((1, 1, 0), (1, 3, 0))
    without, _ = finish(evaluate_folder(*folders, SCHEMA, None, GIVEN))
    assert without.trivial == ()


def test_json_and_table_name_the_protocol_and_leave_gaps_for_absent_classes(folders):
    schema = ClassSchema(
        classes=(*SCHEMA.classes, TissueClass(id=9, name="necrosis", color="#009E73"))
    )
    labels = {name: (*label, 0) for name, label in LABELS.items()}
    predictions, masks = folders
    save(masks / "a.png", [[0, 0, 1, 255]])
    evaluation, _ = finish(evaluate_folder(predictions, masks, schema, labels, GIVEN))
    stored = json.loads(evaluation.to_json())
    name = "given image labels, background ignored, zero-based masks, project predictions"
    assert stored["protocol_name"] == name
    assert stored["scores"]["classes"][2]["iou"] is None
    assert Evaluation.model_validate_json(evaluation.to_json()) == evaluation
    text = table(evaluation)
    assert name in text
    assert re.search(r"^necrosis +0 +- +- +- +- +- +-$", text, re.MULTILINE)
    assert re.search(r"^tumour +2 +0\.500 ", text, re.MULTILINE)


def test_a_counted_background_has_its_rows_in_the_table(folders):
    protocol = Protocol(labels=ImageLabels.GIVEN, background=Background.COUNT)
    evaluation, _ = finish(evaluate_folder(*folders, SCHEMA, LABELS, protocol))
    lines = [line.split("  ")[0] for line in table(evaluation).splitlines()]
    assert lines.count("background") == 2
    assert "mean with background" in lines


def test_stopping_gives_the_figures_so_far_and_says_so(folders):
    job = evaluate_folder(*folders, SCHEMA, LABELS, GIVEN)
    next(job), next(job)
    with pytest.raises(StopIteration) as end:
        job.send(Request.STOP)
    assert (end.value.value.images, end.value.value.images_in_all) == (1, 2)
    assert "stopped after 1 of 2 images" in table(end.value.value)


def test_predictions_without_a_mask_are_mentioned(folders):
    save(folders[0] / "extra.png", [[0]])
    _, events = finish(evaluate_folder(*folders, SCHEMA, LABELS, GIVEN))
    assert next(event for event in events if isinstance(event, Notice)).text.startswith("1 ")


def break_by_deleting(predictions: Path, masks: Path) -> None:
    (predictions / "a.png").unlink()


def break_the_size(predictions: Path, masks: Path) -> None:
    save(predictions / "a.png", [[7]])


def break_the_value(predictions: Path, masks: Path) -> None:
    save(predictions / "a.png", [[7, 3, 5, 7]])


def break_the_file(predictions: Path, masks: Path) -> None:
    (predictions / "a.png").write_text("not an image")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_by_deleting, "no prediction"),
        (break_the_size, "1 x 1 pixels, but the true mask has 4 x 1"),
        (break_the_value, "value 5 is no class id"),
        (break_the_file, "not a PNG"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_named(folders, damage, reason):
    damage(*folders)
    with pytest.raises(EvaluationError, match=reason) as refusal:
        finish(evaluate_folder(*folders, SCHEMA, LABELS, GIVEN))
    assert refusal.value.where == str(folders[0] / "a.png")
    assert refusal.value.remedy


@pytest.mark.parametrize("labels", [{"a.png": (1, 1)}, {**LABELS, "case 2/b.png": (1, 0, 1)}])
def test_a_missing_or_ill_fitting_label_is_named(folders, labels):
    with pytest.raises(EvaluationError) as refusal:
        finish(evaluate_folder(*folders, SCHEMA, labels, GIVEN))
    assert refusal.value.where == "case 2/b.png"


def test_a_folder_without_masks_and_no_folder_are_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, match="no PNG"):
        finish(evaluate_folder(tmp_path, tmp_path, SCHEMA, None, GIVEN))
    with pytest.raises(StorageError):
        finish(evaluate_folder(tmp_path, tmp_path / "missing", SCHEMA, None, GIVEN))


@pytest.mark.parametrize(
    ("split", "arguments", "evenly", "last"),
    [
        ("lung/val", ["tumor,stroma,normal"], (0.39, 0.55, 1.0), None),
        (
            "colon/val",
            [
                "other,benign_gland,malignant_gland",
                *("--tile", "96", "--stride", "96", "--min-fraction", "0.05"),
            ],
            (0.53, 0.45, 0.57),
            (0.46, 0.61, 0.70),
        ),
    ],
)
@pytest.mark.slow
def test_trivial_predictions_reach_their_known_figures_on_tissue(
    tmp_path: Path, protoseg_data: Path, split, arguments, evenly, last
):
    root = protoseg_data / "data"
    cut = [sys.executable, root / "cut_tiles.py", root / split, tmp_path, "--classes", *arguments]
    subprocess.run(cut, check=True, capture_output=True)
    schema = ClassSchema.from_names(arguments[0].split(","))
    masks = tmp_path / "masks"
    labels = {name: tuple(map(int, re.findall(r"\d", name[-13:]))) for name in mask_names(masks)}
    protocol = Protocol(labels=ImageLabels.GIVEN, prediction_codes=MaskCodes.ZERO_BASED)
    evaluation, _ = finish(evaluate_folder(masks, masks, schema, labels, protocol))
    known = {Trivial.EVEN_SPLIT: evenly, Trivial.LAST_NAMED: last}
    for entry in evaluation.trivial:
        if (figures := known[entry.prediction]) is not None:
            assert tuple(round(row.iou or 0, 2) for row in entry.scores.classes) == figures


def test_a_pair_can_be_read_by_itself(folders):
    pair = read_pair(*folders, "a.png", SCHEMA, GIVEN)
    assert pair.truth.tolist() == [[0, 0, 1, 2]]
    assert pair.prediction.tolist() == [[0, 1, 1, 0]]


def test_evaluation_does_not_load_torch():
    code = (
        "import sys, napari_protoseg.evaluation.table, napari_protoseg.evaluation.folder\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
