"""How far a metric would move with other images: the bootstrap over images or cases."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import EvaluationError


def bootstrap_interval(
    per_image_confusions: NDArray[np.integer],
    groups: Sequence[Hashable],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int,
    rounds: int = 2000,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a metric under resampling of whole groups.

    Tiles of one image, or images of one case, are alike; resampled one by one they would make
    the interval too narrow. So groups are drawn with replacement, as many as there are (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).

    Parameters
    ----------
    per_image_confusions
        Shape ``(n, rows, C + 1)``, from `confusion_matrix`.
    groups
        For each of the n the image or case that it comes from.
    statistic
        A metric of `confusion` taking a stack ``(rounds, rows, C + 1)``, such as `mean_iou`.
    seed
        Of the resampling.
    rounds
        Number of resamples.
    coverage
        Share of the resamples within the interval, between 0 and 1.

    Raises
    ------
    EvaluationError
        There are fewer than two groups, or not one for each matrix.
    """
    if len(groups) != len(per_image_confusions):
        raise EvaluationError(
            f"{len(groups)} groups for {len(per_image_confusions)} confusion matrices",
            where="bootstrap",
            remedy="Name one group for each matrix.",
        )
    number_of = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    n_groups = len(number_of)
    if n_groups < 2:
        raise EvaluationError(
            "fewer than two groups, so nothing to resample",
            where="bootstrap",
            remedy="Evaluate images of at least two cases.",
        )
    sums = np.zeros((n_groups, *per_image_confusions.shape[1:]))
    np.add.at(sums, [number_of[group] for group in groups], per_image_confusions)
    drawn = np.random.default_rng(seed).multinomial(
        n_groups, np.full(n_groups, 1 / n_groups), size=rounds
    )
    # Sums of counts stay exact in float64, and its product is much faster than that of integers.
    values = statistic(np.tensordot(drawn.astype(np.float64), sums, axes=1))
    tail = (1 - coverage) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
