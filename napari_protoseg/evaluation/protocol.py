"""The rules that a comparison of masks was made under, and the reading of mask values by them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from napari_protoseg.errors import EvaluationError
from napari_protoseg.schema import UNLABELLED, ClassSchema


class ImageLabels(Enum):
    """Which image-level labels the predictions were allowed to use."""

    GIVEN = "given"
    PREDICTED = "predicted"
    NONE = "no"
    """The predictions were free to use every class."""
    UNSTATED = "unstated"
    """Nothing beside the predictions says."""


class Background(Enum):
    """What becomes of a pixel whose true value is past the last class."""

    IGNORE = "ignore"
    """It takes no part."""
    COUNT = "count"
    """It is a false positive of the class predicted there."""


class MaskCodes(Enum):
    """What the values of a mask file mean."""

    ZERO_BASED = "zero-based"
    """The position in the class order; every value past the last class is background."""
    PROJECT = "project"
    """0 is unlabelled or background, k is class id k, and there is no other value."""


class Protocol(BaseModel):
    """The rules of one evaluation. Figures under different rules are never compared.

    Parameters
    ----------
    labels
        Which image-level labels the predictions were allowed to use.
    background
        Whether true background takes no part or counts.
    mask_codes
        What the values of the true masks mean.
    prediction_codes
        What the values of the predictions mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: ImageLabels
    background: Background = Background.IGNORE
    mask_codes: MaskCodes = MaskCodes.ZERO_BASED
    prediction_codes: MaskCodes = MaskCodes.PROJECT

    @property
    def name(self) -> str:
        """The rules in words."""
        background = {Background.IGNORE: "ignored", Background.COUNT: "counted"}[self.background]
        return (
            f"{self.labels.value} image labels, background {background}, "
            f"{self.mask_codes.value} masks, {self.prediction_codes.value} predictions"
        )


def class_positions(
    mask: NDArray[np.uint8], schema: ClassSchema, codes: MaskCodes, *, where: str | Path
) -> NDArray[np.uint8]:
    """Translate the values of a mask into positions in the class order.

    Parameters
    ----------
    mask
        Shape ``(height, width)``, values as stored.
    where
        The file that the mask comes from.

    Returns
    -------
    Array of the same shape: 0..C-1 for the C classes, C for background or unlabelled.

    Raises
    ------
    EvaluationError
        A value has no meaning under `codes`.
    """
    n_classes = len(schema.ids)
    if codes is MaskCodes.ZERO_BASED:
        return np.minimum(mask, np.uint8(n_classes))
    heirs = schema.heirs
    known = (UNLABELLED, *schema.ids, *heirs)
    unknown = np.setdiff1d(np.unique(mask), known)
    if unknown.size:
        raise EvaluationError(
            f"value {unknown[0]} is no class id ({', '.join(map(str, schema.ids))}) "
            f"and not {UNLABELLED} (unlabelled)",
            where=where,
            remedy="Name the classes that the masks hold, or read them as zero-based.",
        )
    position_of = np.full(256, n_classes, np.uint8)
    position_of[list(schema.ids)] = np.arange(n_classes, dtype=np.uint8)
    position_of[list(heirs)] = position_of[list(heirs.values())]
    return position_of[mask]
