from __future__ import annotations

import numpy as np
import pytest

from napari_protoseg.evaluation.trivial import even_split, last_named


def test_classes_present_share_an_image_evenly_and_everywhere_alike():
    mask = even_split((6, 12), (1, 0, 1, 1))
    assert mask.shape == (6, 12)
    assert np.bincount(mask.ravel(), minlength=4).tolist() == [24, 0, 24, 24]
    assert np.bincount(mask[:, :6].ravel(), minlength=4).tolist() == [12, 0, 12, 12]


def test_the_last_class_present_fills_an_image():
    assert np.unique(last_named((4, 5), (1, 1, 0))).tolist() == [1]


@pytest.mark.parametrize("label", [(0, 0, 0), (-1, -1, 0)])
@pytest.mark.parametrize("predict", [even_split, last_named])
def test_a_label_that_names_nothing_leaves_an_image_unlabelled(predict, label):
    assert np.unique(predict((4, 5), label)).tolist() == [3]
