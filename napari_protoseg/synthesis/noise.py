"""Smooth random fields, the raw material of borders, fibres and granules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], scale: float | tuple[float, float]
) -> NDArray[np.float64]:
    """Draw a smooth random field: a cubic B-spline over normally distributed coefficients.

    Written as elementwise sums, not matrix products: the value of a pixel must not depend
    on the linear algebra library of the machine.

    Parameters
    ----------
    rng
        Source of the coefficients.
    shape
        Height and width in pixels.
    scale
        Distance of the spline's knots in pixels, at least 1; a pair (down, across) gives
        streaks.

    Returns
    -------
    (H, W), mean about 0, standard deviation about 1.
    """
    down, across = scale if isinstance(scale, tuple) else (scale, scale)
    first_row, row_weights = _spline(rng.random(), shape[0], down)
    first_column, column_weights = _spline(rng.random(), shape[1], across)
    knots = rng.standard_normal((int(first_row[-1]) + 4, int(first_column[-1]) + 4))
    wide = sum(column_weights[t] * knots.take(first_column + t, axis=1) for t in range(4))
    wide = np.asarray(wide, dtype=np.float64)
    field = sum(row_weights[t][:, None] * wide.take(first_row + t, axis=0) for t in range(4))
    # The mean square of a cubic B-spline over uncorrelated coefficients is 151/315 per axis.
    return np.asarray(field, dtype=np.float64) / (151 / 315)


def _spline(
    offset: float, length: int, scale: float
) -> tuple[NDArray[np.intp], tuple[NDArray[np.float64], ...]]:
    """Return the first of four knots for every pixel of an axis, and the four weights."""
    position = offset + np.arange(length) / scale
    first = position.astype(np.intp)
    t = position - first
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    return first, weights
