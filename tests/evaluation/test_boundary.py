from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.morphology import erosion

from napari_protoseg.evaluation.boundary import BAND, boundary_counts, boundary_iou
from napari_protoseg.evaluation.protocol import Background


def eroded_band(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cheng et al.'s own way: what erosions by a 3 x 3 square take away, outside being empty."""
    steps = max(1, round(BAND * float(np.hypot(*area.shape))))
    core = np.pad(area, 1)
    for _ in range(steps):
        core = erosion(core, np.ones((3, 3), bool))
    return area & ~core[1:-1, 1:-1]


def blobs(seed: int, shape: tuple[int, int] = (70, 110)) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 4, (7, 11))
    return np.kron(coarse, np.ones((10, 10)))[: shape[0], : shape[1]].astype(np.uint8)


@pytest.mark.parametrize("shape", [(70, 110), (69, 37), (5, 3)])
def test_one_pass_equals_eroding_each_class_by_itself(shape: tuple[int, int]):
    truth, prediction = blobs(1, shape), np.roll(blobs(1, shape), 3, axis=1)
    counts = boundary_counts(truth, prediction, 3, Background.COUNT)
    for position in range(4):
        true = eroded_band(truth == position)
        predicted = eroded_band(prediction == position)
        assert counts[position].tolist() == [(true & predicted).sum(), (true | predicted).sum()]


def test_a_prediction_is_not_judged_where_the_truth_is_background():
    truth = blobs(2)
    spilled = np.where(truth == 3, 0, truth)
    counts = boundary_counts(truth, spilled, 3)
    assert boundary_iou(counts).tolist() == [1.0, 1.0, 1.0]
    assert boundary_iou(boundary_counts(truth, spilled, 3, Background.COUNT))[0] < 1


def test_a_ragged_outline_costs_more_than_it_does_in_plain_iou():
    truth = np.full((200, 200), 1, np.uint8)
    truth[40:160, 40:160] = 0
    ragged = truth.copy()
    ragged[40:160:8, 40:44] = 1
    intersection, union = ((truth == 0) & (ragged == 0)).sum(), (truth == 0).sum()
    assert boundary_iou(boundary_counts(truth, ragged, 2))[0] < intersection / union


def test_an_absent_class_is_nan():
    truth = np.zeros((20, 20), np.uint8)
    assert np.isnan(boundary_iou(boundary_counts(truth, truth, 2))[1])
