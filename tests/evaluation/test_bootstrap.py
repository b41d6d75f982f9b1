from __future__ import annotations

import numpy as np
import pytest

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.bootstrap import bootstrap_interval
from napari_protoseg.evaluation.confusion import mean_iou


def matrices(n: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    hits, misses = generator.integers(1, 100, (2, n, 2))
    result = np.zeros((n, 2, 3), np.int64)
    result[:, [0, 1], [0, 1]] = hits
    result[:, [0, 1], [2, 2]] = misses
    return result


def test_the_interval_holds_the_figure_and_repeats_with_its_seed():
    stack = matrices(40)
    groups = list(range(40))
    low, high = bootstrap_interval(stack, groups, mean_iou, seed=1)
    assert low < mean_iou(stack.sum(0)) < high
    assert (low, high) == bootstrap_interval(stack, groups, mean_iou, seed=1)


def test_tiles_of_one_image_are_drawn_together():
    stack = matrices(12)
    alike = np.repeat(stack, 10, axis=0)
    names = np.repeat([f"image {k}" for k in range(12)], 10).tolist()
    assert bootstrap_interval(alike, names, mean_iou, seed=1) == pytest.approx(
        bootstrap_interval(stack, list(range(12)), mean_iou, seed=1)
    )


def test_resamples_agree_with_drawing_group_by_group():
    stack = matrices(5)
    drawn = np.random.default_rng(9).multinomial(5, np.full(5, 0.2), size=50)
    values = [mean_iou(sum(n * m for n, m in zip(row, stack, strict=True))) for row in drawn]
    expected = np.quantile(values, [0.025, 0.975])
    low, high = bootstrap_interval(stack, "abcde", mean_iou, seed=9, rounds=50)
    assert [low, high] == pytest.approx(expected)


@pytest.mark.parametrize("groups", [["a"] * 4, ["a", "b"]])
def test_one_group_or_too_few_names_are_refused(groups: list[str]):
    with pytest.raises(EvaluationError, match="group"):
        bootstrap_interval(matrices(4), groups, mean_iou, seed=0)
