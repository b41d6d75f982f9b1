"""Stains and the scanner: from dye densities to the colours of a slide.

A slide of one case has one stain: the directions of both dyes in optical density, how
much of each the tissue took up, the lamp, and the focus. Light passes through dyes by
the law of Beer and Lambert.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Optical density of red, green and blue per dye. A case lies between two published pairs:
# Ruifrok and Johnston, Anal. Quant. Cytol. Histol. 23 (2001), as refined for H&E, and
# Macenko et al., ISBI (2009).
_HAEMATOXYLIN = np.array([[0.644, 0.717, 0.267], [0.563, 0.720, 0.406]])
_EOSIN = np.array([[0.093, 0.954, 0.283], [0.216, 0.801, 0.558]])


@dataclass(frozen=True)
class Stain:
    """How the slide of one case was stained and scanned.

    Parameters
    ----------
    haematoxylin, eosin
        Optical density (natural logarithm) of red, green, blue for a dye density of 1.
    lamp
        Red, green, blue of empty glass, 0..255.
    blur
        Standard deviation of the scanner's point spread, in pixels.
    noise
        Standard deviation of the sensor's noise at full light, in grey levels.
    magnification
        Size of cells relative to the nominal 0.8 micrometres per pixel.
    """

    haematoxylin: NDArray[np.float64]
    eosin: NDArray[np.float64]
    lamp: NDArray[np.float64]
    blur: float
    noise: float
    magnification: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw the stain of one case."""

    def direction(pair: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
        share = rng.random()
        mixed = (1 - share) * pair[0] + share * pair[1] + rng.uniform(-0.02, 0.02, 3)
        return np.asarray(strength * mixed / np.sqrt((mixed**2).sum()), dtype=np.float64)

    return Stain(
        haematoxylin=direction(_HAEMATOXYLIN, rng.uniform(0.85, 1.2)),
        eosin=direction(_EOSIN, rng.uniform(0.8, 1.25)),
        lamp=rng.uniform(238, 248) + rng.uniform(-3, 3, 3),
        blur=rng.uniform(0.55, 0.85),
        noise=rng.uniform(1.0, 1.8),
        magnification=rng.uniform(0.93, 1.1),
    )


def scan(
    haematoxylin: NDArray[np.float64],
    eosin: NDArray[np.float64],
    stain: Stain,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Return the image that a scanner takes of two dye densities.

    Parameters
    ----------
    haematoxylin, eosin
        (H, W), dye densities, 0 is glass.
    stain
        Of the slide.
    rng
        Source of the sensor's noise.

    Returns
    -------
    (H, W, 3), uint8, RGB: ``lamp * exp(-(h * haematoxylin + e * eosin))``, blurred, with noise
    that falls with the light as photon noise does.
    """
    channels = []
    for h, e, lamp in zip(stain.haematoxylin, stain.eosin, stain.lamp, strict=True):
        light = np.exp(-(h * haematoxylin + e * eosin))
        light = ndimage.gaussian_filter(light, stain.blur, truncate=3)
        noise = stain.noise * np.sqrt(light) * rng.standard_normal(light.shape)
        channels.append(np.clip(np.rint(lamp * light + noise), 0, 255).astype(np.uint8))
    return np.stack(channels, axis=-1)
