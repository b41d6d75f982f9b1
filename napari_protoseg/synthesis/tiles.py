"""Tiles: regions with curved borders, each filled with one appearance, and the exact mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ImageError
from napari_protoseg.synthesis.noise import smooth_noise
from napari_protoseg.synthesis.nuclei import draw, join
from napari_protoseg.synthesis.stain import draw_stain, scan
from napari_protoseg.synthesis.tissue import APPEARANCES, CLASS_OF, TISSUE_SCHEMA, Appearance, paint

_LEAST_SIZE = 32
_SINGLE_CLASS_CHANCE = 0.3
_THIRD_CLASS_CHANCE = 0.4
_GLASS_CHANCE = 0.25
# A seed is split into independent streams by a key; the first number says what it is for.
_STAIN_STREAM, _TILE_STREAM = 0, 1


@dataclass(frozen=True)
class Region:
    """One part of a tile.

    Parameters
    ----------
    appearance
        What fills it.
    share
        Part of the tile's area, above 0; the shares of a tile sum to 1.
    """

    appearance: Appearance
    share: float


@dataclass(frozen=True)
class SyntheticTile:
    """An image and what is where in it.

    Parameters
    ----------
    image
        (H, W, 3), uint8, RGB.
    mask
        (H, W), uint8: 0 glass, k = class id k of `TISSUE_SCHEMA`.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def synthesize_tile(
    seed: int,
    case: int,
    tile: int,
    *,
    size: int = 224,
    regions: tuple[Region, ...] | None = None,
) -> SyntheticTile:
    """Make one tile; the same numbers give the same pixels.

    Parameters
    ----------
    seed
        Of the whole collection, at least 0.
    case
        Number of the case, at least 0; all tiles of a case share stain and scanner.
    tile
        Number of the tile within its case, at least 0.
    size
        Height and width in pixels, at least 32.
    regions
        What the tile holds; drawn at random without: one to three classes and, in one tile
        of four, glass.

    Raises
    ------
    ImageError
        A number is out of its range.
    """
    if min(seed, case, tile) < 0 or size < _LEAST_SIZE:
        raise ImageError(
            f"no tile has seed {seed}, case {case}, number {tile} and size {size}",
            where="synthetic tissue",
            remedy=f"Use numbers of at least 0 and a size of at least {_LEAST_SIZE}.",
        )
    stain = draw_stain(_stream(seed, _STAIN_STREAM, case))
    rng = _stream(seed, _TILE_STREAM, case, tile)
    regions = _draw_regions(rng) if regions is None else regions
    area = _partition(rng, [region.share for region in regions], size)

    textures = [paint(r.appearance, rng, size, stain.magnification) for r in regions]
    haematoxylin = np.choose(area, [texture.haematoxylin for texture in textures])
    eosin = np.choose(area, [texture.eosin for texture in textures])
    bodies = []
    for number, texture in enumerate(textures):
        at = (texture.nuclei.y.astype(np.intp), texture.nuclei.x.astype(np.intp))
        bodies.append(texture.nuclei.where(area[at] == number))
    ids = np.array([CLASS_OF[region.appearance] for region in regions], dtype=np.uint8)
    owner = np.repeat(ids, [len(part.y) for part in bodies])
    cover, density, owners = draw(join(bodies), owner, size)

    chromatin = np.clip(1 + 0.12 * smooth_noise(rng, (size, size), 1.6), 0.5, 1.5)
    thickness = np.clip(1 + 0.07 * smooth_noise(rng, (size, size), 60), 0.8, 1.2)
    haematoxylin = haematoxylin * (1 - cover) + density * chromatin
    eosin = eosin * (1 - 0.55 * cover)
    # A nucleus that crosses a border belongs, whole, to the class that it was drawn for.
    mask = np.where(owners > 0, owners, ids[area])
    return SyntheticTile(scan(haematoxylin * thickness, eosin * thickness, stain, rng), mask)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _draw_regions(rng: np.random.Generator) -> tuple[Region, ...]:
    count = 1 if rng.random() < _SINGLE_CLASS_CHANCE else 2 + (rng.random() < _THIRD_CLASS_CHANCE)
    ids = rng.permutation(TISSUE_SCHEMA.ids)[:count]
    looks = [APPEARANCES[class_id][rng.integers(len(APPEARANCES[class_id]))] for class_id in ids]
    glass = rng.uniform(0.08, 0.35) if rng.random() < _GLASS_CHANCE else 0.0
    shares = rng.uniform(0.5, 1.5, count)
    shares *= (1 - glass) / shares.sum()
    regions = [Region(look, float(share)) for look, share in zip(looks, shares, strict=True)]
    if glass:
        regions.insert(int(rng.integers(count + 1)), Region(Appearance.GLASS, glass))
    return tuple(regions)


def _partition(rng: np.random.Generator, shares: list[float], size: int) -> NDArray[np.intp]:
    """Return, for each pixel, the number of its region: smooth noise cut at quantiles."""
    area = np.full((size, size), len(shares) - 1)
    free = np.ones((size, size), dtype=bool)
    left = 1.0
    for number, share in enumerate(shares[:-1]):
        height = smooth_noise(rng, (size, size), 62) + 0.35 * smooth_noise(rng, (size, size), 18)
        taken = free & (height >= np.quantile(height[free], 1 - share / left))
        area[taken] = number
        free &= ~taken
        left -= share
    return area
