from __future__ import annotations

import numpy as np
import pytest

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.confusion import (
    confusion_matrix,
    dice,
    frequency_weighted_iou,
    iou,
    mean_iou,
    mean_iou_with_background,
    pixel_accuracy,
)
from napari_protoseg.evaluation.protocol import Background

# Two classes; 2 is background in the truth and unlabelled in the prediction.
TRUTH = np.array([[0, 0, 0, 1], [1, 1, 2, 2]])
PREDICTION = np.array([[0, 0, 1, 1], [1, 2, 0, 2]])


def test_ignored_background_takes_no_part_and_unlabelled_is_a_miss():
    matrix = confusion_matrix(TRUTH, PREDICTION, 2)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 1]]
    assert matrix.dtype == np.int64
    assert iou(matrix).tolist() == [2 / 3, 2 / 4]
    assert dice(matrix).tolist() == [4 / 5, 4 / 6]
    assert pixel_accuracy(matrix) == 4 / 6


def test_counted_background_is_a_false_positive_and_a_class():
    matrix = confusion_matrix(TRUTH, PREDICTION, 2, Background.COUNT)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 1]]
    assert iou(matrix) == pytest.approx([2 / 4, 2 / 4, 1 / 3])
    assert mean_iou(matrix) == pytest.approx(1 / 2)
    assert mean_iou_with_background(matrix) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert pixel_accuracy(matrix) == 5 / 8


def test_every_value_past_the_last_class_is_background():
    far = np.where(TRUTH == 2, 255, TRUTH).astype(np.uint8)
    expected = confusion_matrix(TRUTH, PREDICTION, 2, Background.COUNT)
    assert np.array_equal(confusion_matrix(far, PREDICTION, 2, Background.COUNT), expected)


def test_a_class_absent_from_both_is_nan_and_left_out_of_the_mean():
    matrix = confusion_matrix(TRUTH, PREDICTION, 3)
    absent = confusion_matrix(np.where(TRUTH == 2, 3, TRUTH), np.where(PREDICTION == 2, 3, 0), 3)
    assert np.isnan(iou(absent)[2])
    assert mean_iou(absent) == pytest.approx(np.mean(iou(absent)[:2]))
    assert not np.isnan(iou(matrix)[2])


def test_frequent_classes_weigh_more():
    matrix = np.array([[90, 0, 10], [0, 0, 10]])
    assert frequency_weighted_iou(matrix) == pytest.approx((100 * 0.9 + 10 * 0) / 110)


def test_no_pixels_at_all_give_nan_without_a_warning():
    nothing = np.zeros((2, 3), np.int64)
    for metric in (mean_iou, frequency_weighted_iou, pixel_accuracy):
        assert np.isnan(metric(nothing))


def test_a_stack_of_matrices_gives_a_figure_for_each():
    first = confusion_matrix(TRUTH, PREDICTION, 2)
    second = confusion_matrix(TRUTH, TRUTH, 2)
    for metric in (mean_iou, frequency_weighted_iou, pixel_accuracy):
        stacked = metric(np.stack([first, second]))
        assert stacked.tolist() == [metric(first), metric(second)]


def test_matrices_of_images_add_up_to_that_of_the_split():
    generator = np.random.default_rng(0)
    truth, prediction = generator.integers(0, 5, (2, 6, 16, 16))
    whole = confusion_matrix(truth, prediction, 4)
    parts = (confusion_matrix(t, p, 4) for t, p in zip(truth, prediction, strict=True))
    assert np.array_equal(sum(parts), whole)


def test_different_shapes_and_negative_positions_are_refused():
    with pytest.raises(EvaluationError, match="shape"):
        confusion_matrix(TRUTH, PREDICTION[:1], 2)
    with pytest.raises(EvaluationError, match="negative"):
        confusion_matrix(TRUTH - 1, PREDICTION, 2)
