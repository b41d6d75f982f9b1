"""How well image-level labels are predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import EvaluationError


def image_level_f1(
    truth: NDArray[np.integer], predicted: NDArray[np.integer]
) -> NDArray[np.float64]:
    """F1 of each class over images: ``2 TP / (2 TP + FP + FN)``.

    Parameters
    ----------
    truth, predicted
        Shape ``(n_images, n_classes)``: 1 present, 0 absent, -1 unknown. An entry that is
        unknown in either takes no part.

    Returns
    -------
    Shape ``(n_classes,)``, 0..1; NaN for a class that is present in neither.

    Raises
    ------
    EvaluationError
        The shapes differ.
    """
    if truth.shape != predicted.shape:
        raise EvaluationError(
            f"true labels of shape {truth.shape}, predicted ones of shape {predicted.shape}",
            where="image-level labels",
            remedy="Compare labels of the same images and classes.",
        )
    known = (truth >= 0) & (predicted >= 0)
    true, positive = known & (truth == 1), known & (predicted == 1)
    hits = (true & positive).sum(0)
    named = true.sum(0) + positive.sum(0)
    f1 = np.full(named.shape, np.nan)
    np.divide(2 * hits, named, out=f1, where=named > 0)
    return f1
