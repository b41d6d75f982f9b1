"""The confusion matrix of a split, and the metrics that follow from it alone.

A matrix has a column for each class position and a last one for pixels that the prediction
leaves unlabelled; its rows are the true classes, with a last one for background where background
counts. Matrices of several images add up. Every metric takes stacks too: shape ``(..., rows, C +
1)`` in, leading axes kept. Where a class has no pixel in truth and prediction its value is NaN
and takes no part in a mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.protocol import Background


def confusion_matrix(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    classes: int,
    background: Background = Background.IGNORE,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth, prediction
        Class positions of one shape, 0..C-1; every value past them is background in `truth`
        and unlabelled in `prediction`.
    classes
        Their number C.
    background
        IGNORE: pixels of true background take no part. COUNT: they are a row of their own.

    Returns
    -------
    Shape ``(C, C + 1)``, or ``(C + 1, C + 1)`` where background counts.

    Raises
    ------
    EvaluationError
        The shapes differ, or a value is negative.
    """
    if truth.shape != prediction.shape:
        raise EvaluationError(
            f"truth of shape {truth.shape}, prediction of shape {prediction.shape}",
            where="confusion matrix",
            remedy="Compare masks of one size.",
        )
    if truth.size and min(truth.min(), prediction.min()) < 0:
        raise EvaluationError(
            "a class position is negative",
            where="confusion matrix",
            remedy="Code the classes as 0, 1, ... and background as their number.",
        )
    columns = classes + 1
    rows = columns if background is Background.COUNT else classes
    cells = np.minimum(truth, classes).astype(np.int64) * columns + np.minimum(prediction, classes)
    counts = np.bincount(cells.ravel(), minlength=columns * columns)
    return counts.reshape(columns, columns)[:rows].astype(np.int64)


def iou(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Intersection over union of each row's class: ``TP / (TP + FP + FN)``, 0..1 or NaN."""
    hits, true, predicted = _margins(matrix)
    return _ratio(hits, true + predicted - hits)


def dice(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Dice coefficient of each row's class: ``2 TP / (2 TP + FP + FN)``, 0..1 or NaN."""
    hits, true, predicted = _margins(matrix)
    return _ratio(2 * hits, true + predicted)


def mean_iou(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean IoU over the tissue classes that occur in truth or prediction.

    Background is not among them, not even where it counts; there its pixels lower the IoU of
    the classes predicted on it. `mean_iou_with_background` takes it in as a class.
    """
    return mean_present(iou(matrix)[..., : _tissue_classes(matrix)])


def mean_iou_with_background(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean IoU over every row: the tissue classes and, where it counts, background."""
    return mean_present(iou(matrix))


def frequency_weighted_iou(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """IoU of the tissue classes, weighted by their shares of the true tissue pixels."""
    classes = _tissue_classes(matrix)
    _, true, _ = _margins(matrix)
    weights = true[..., :classes]
    weighted = weights * np.nan_to_num(iou(matrix)[..., :classes])
    return _ratio(weighted.sum(-1), weights.sum(-1))


def pixel_accuracy(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Share of the pixels taking part that are right.

    Where background counts, a background pixel left unlabelled is right.
    """
    hits, true, _ = _margins(matrix)
    return _ratio(hits.sum(-1), true.sum(-1))


def mean_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is not NaN; NaN where nothing is left."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0.0).sum(-1), present.sum(-1))


def _tissue_classes(matrix: NDArray[np.number]) -> int:
    return int(matrix.shape[-1]) - 1


def _margins(
    matrix: NDArray[np.number],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return hits, true and predicted pixels for each row's class."""
    counts = matrix.astype(np.float64)
    rows = counts.shape[-2]
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return hits, counts.sum(-1), counts.sum(-2)[..., :rows]


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """Divide, with NaN where `whole` is 0."""
    share = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=share, where=np.asarray(whole) > 0)
    return share
