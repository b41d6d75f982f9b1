"""Telling bare glass from tissue in an image of a stained section."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WHITE_LEVEL = 220
"""Every channel of a glass pixel is at least this."""

WHITE_SPREAD = 20
"""The channels of a glass pixel lie at most this far apart (pale eosin spreads further)."""


def glass_mask(
    image: NDArray[np.uint8], level: int = WHITE_LEVEL, spread: int = WHITE_SPREAD
) -> NDArray[np.bool_]:
    """Return where an image shows bare glass: bright, and without stain.

    A pixel is glass where its darkest channel is at least `level` and its channels differ
    by at most `spread`. The rule needs no neighbours, so a tile and the slide it was cut
    from agree.

    Parameters
    ----------
    image
        RGB, shape ``(height, width, 3)``, values 0..255.
    level
        Lowest value of the darkest channel, 0..255.
    spread
        Largest difference between the brightest and the darkest channel, 0..255.

    Returns
    -------
    Array of bool, shape ``(height, width)``.
    """
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    darkest = np.minimum(np.minimum(red, green), blue)
    brightest = np.maximum(np.maximum(red, green), blue)
    glass: NDArray[np.bool_] = (darkest >= level) & (brightest - darkest <= spread)
    return glass


def white_fraction(image: NDArray[np.uint8]) -> float:
    """Return the share of an image's pixels (0..1) that are glass by `glass_mask`."""
    return float(glass_mask(image).mean())
