"""The true masks of a project's images: read as its masks are seen, also after a class has gone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.protocol import MaskCodes, class_positions
from napari_protoseg.images.reading import read_mask
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import UNLABELLED, ClassSchema


def true_positions(image: ImageRecord, schema: ClassSchema) -> NDArray[np.uint8]:
    """Return the true mask of an image, ``(height, width)``, as positions in the class order.

    The number of classes stands for unlabelled. A class that was merged is read as the other one,
    and one that was removed as unlabelled.

    Raises
    ------
    EvaluationError
        There is no true mask, or it has a value that is no class of the project and never was.
    ImageError, StorageError
    """
    if image.mask_path is None:
        raise EvaluationError(
            "has no true mask", where=image.path, remedy="Measure on images with masks alone."
        )
    values = read_mask(image.mask_path)
    return class_positions(values, schema, MaskCodes.PROJECT, where=image.mask_path)


def true_mask(image: ImageRecord, schema: ClassSchema) -> NDArray[np.uint8]:
    """Return the same with class ids, 0 for unlabelled."""
    values = np.array([*schema.ids, UNLABELLED], dtype=np.uint8)
    return values[true_positions(image, schema)]
