from __future__ import annotations

import numpy as np
import pytest

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.image_level import image_level_f1


def test_f1_counts_each_class_over_images():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], np.int8)
    predicted = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], np.int8)
    f1 = image_level_f1(truth, predicted)
    assert f1[:2].tolist() == [0.5, 1.0]
    assert np.isnan(f1[2])


def test_unknown_entries_take_no_part():
    truth = np.array([[1], [-1], [0]], np.int8)
    predicted = np.array([[1], [1], [-1]], np.int8)
    assert image_level_f1(truth, predicted).tolist() == [1.0]


def test_labels_of_other_images_are_refused():
    with pytest.raises(EvaluationError, match="shape"):
        image_level_f1(np.zeros((2, 3), np.int8), np.zeros((3, 3), np.int8))
