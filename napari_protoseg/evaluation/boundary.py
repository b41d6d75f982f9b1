"""Boundary IoU: how well the outlines of a class agree, whatever the size of its areas.

After Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR
2021: of each class only the pixels within a distance d of its outline are compared, d being 2 %
of the image diagonal. As in the authors' implementation d is a number of erosions by a 3 x 3
square, and an area that reaches the edge of the image has its outline there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.evaluation.protocol import Background

BAND = 0.02
"""Width of the band as a share of the image diagonal."""


def boundary_counts(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    classes: int,
    background: Background = Background.IGNORE,
) -> NDArray[np.int64]:
    """Count the pixels that the outline bands of truth and prediction share and cover.

    Parameters
    ----------
    truth, prediction
        Class positions of shape ``(height, width)``; every value past ``classes - 1`` is
        background in `truth` and unlabelled in `prediction`.
    classes
        Number of classes C.
    background
        IGNORE: a prediction is cut off where truth is background, so that tissue's edge
        towards what takes no part is an outline of both. COUNT: background is one class more.

    Returns
    -------
    Shape ``(C, 2)``, or ``(C + 1, 2)`` where background counts: intersections and unions.
    They add up over images.
    """
    true = np.minimum(truth, classes)
    predicted = np.minimum(prediction, classes)
    if background is Background.IGNORE:
        predicted = np.where(true == classes, classes, predicted)
    rows = classes + 1 if background is Background.COUNT else classes
    distance = max(1, round(BAND * float(np.hypot(*truth.shape))))
    true_band, predicted_band = _band(true, distance), _band(predicted, distance)

    def count(positions: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount(positions, minlength=classes + 1)[:rows].astype(np.int64)

    shared = count(true[true_band & predicted_band & (true == predicted)])
    covered = count(true[true_band]) + count(predicted[predicted_band]) - shared
    return np.stack([shared, covered], axis=-1)


def boundary_iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the boundary IoU of each class of `boundary_counts`, 0..1, NaN where absent."""
    shared, covered = counts[..., 0], counts[..., 1]
    result = np.full(covered.shape, np.nan)
    np.divide(shared, covered, out=result, where=covered > 0)
    return result


def _band(positions: NDArray[np.integer], distance: int) -> NDArray[np.bool_]:
    """Mark each pixel within `distance` (chessboard) of a pixel of another class or of the edge.

    One pass serves all classes: a pixel lies deep within its own class where the square around
    it holds no two neighbours that differ.
    """
    padded = np.pad(positions.astype(np.int16), distance, constant_values=-1)
    across = _boxes(padded[:, 1:] != padded[:, :-1], 2 * distance + 1, 2 * distance)
    down = _boxes(padded[1:] != padded[:-1], 2 * distance, 2 * distance + 1)
    return (across + down) > 0


def _boxes(marks: NDArray[np.bool_], height: int, width: int) -> NDArray[np.int32]:
    """Count the marks in every box of the given size, by way of a summed-area table."""
    table = np.pad(marks.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32), ((1, 0), (1, 0)))
    boxes: NDArray[np.int32] = (
        table[height:, width:]
        - table[:-height, width:]
        - table[height:, :-width]
        + table[:-height, :-width]
    )
    return boxes
