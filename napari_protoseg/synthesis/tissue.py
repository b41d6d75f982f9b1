"""The tissue classes: two appearances of each, as dye densities and nuclei.

Classes share colours on purpose. Solid tumour and packed lymphocytes are both blue, dense
collagen and coagulated tissue both pink: what tells them apart is texture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.synthesis.noise import smooth_noise
from napari_protoseg.synthesis.nuclei import NO_NUCLEI, Nuclei, NucleusKind, join, scatter

TISSUE_SCHEMA = ClassSchema.from_names(("tumor", "stroma", "lymphocyte", "necrosis"))


class Appearance(StrEnum):
    """What a region of a tile looks like."""

    SOLID_TUMOR = "solid tumor"
    GLANDULAR_TUMOR = "glandular tumor"
    DENSE_STROMA = "dense collagen"
    LOOSE_STROMA = "loose stroma"
    PACKED_LYMPHOCYTES = "packed lymphocytes"
    SCATTERED_LYMPHOCYTES = "scattered lymphocytes"
    GHOST_NECROSIS = "ghost cells"
    DEBRIS_NECROSIS = "nuclear debris"
    GLASS = "glass"


APPEARANCES: dict[int, tuple[Appearance, ...]] = {
    1: (Appearance.SOLID_TUMOR, Appearance.GLANDULAR_TUMOR),
    2: (Appearance.DENSE_STROMA, Appearance.LOOSE_STROMA),
    3: (Appearance.PACKED_LYMPHOCYTES, Appearance.SCATTERED_LYMPHOCYTES),
    4: (Appearance.GHOST_NECROSIS, Appearance.DEBRIS_NECROSIS),
    UNLABELLED: (Appearance.GLASS,),
}
"""The appearances of each class id."""

CLASS_OF = {look: class_id for class_id, looks in APPEARANCES.items() for look in looks}
"""The class id of each appearance."""


@dataclass(frozen=True)
class Texture:
    """A tile full of one appearance.

    Parameters
    ----------
    haematoxylin, eosin
        (size, size), dye densities between the nuclei, at least 0.
    nuclei
        Anywhere on the tile.
    """

    haematoxylin: NDArray[np.float64]
    eosin: NDArray[np.float64]
    nuclei: Nuclei


_Painter = Callable[[np.random.Generator, int, float], Texture]

_TUMOR = NucleusKind(
    spacing=13.5, radius=5.3, density=0.78, occupancy=0.93, elongation=(1.0, 1.5),
    rim=0.5, nucleolus=0.8, lobes=0.07,
)  # fmt: skip
_COLUMNAR = NucleusKind(
    spacing=9.3, radius=4.3, density=0.9, occupancy=0.97, elongation=(1.5, 2.6),
    rim=0.35, nucleolus=0.4,
)  # fmt: skip
_LUMEN = NucleusKind(spacing=52, radius=8, density=0, occupancy=0.95, spread=0.3)
_MARGIN = 30
_FIBROBLAST = NucleusKind(
    spacing=21, radius=3.3, density=1.0, occupancy=0.6, elongation=(3.0, 6.0), lobes=0.03
)
_STELLATE = NucleusKind(
    spacing=25, radius=3.2, density=0.9, occupancy=0.6, elongation=(1.3, 3.5), lobes=0.12
)
_LYMPHOCYTE = NucleusKind(
    spacing=9.3, radius=3.9, density=1.35, occupancy=0.95, elongation=(1.0, 1.2), rim=0.15
)
_SCATTERED = NucleusKind(
    spacing=12.5, radius=3.8, density=1.3, occupancy=0.72, elongation=(1.0, 1.25), rim=0.15
)
_STRAY = NucleusKind(
    spacing=42, radius=3.8, density=1.35, occupancy=0.3, elongation=(1.0, 1.2), rim=0.15
)
_GHOST = NucleusKind(
    spacing=13.5, radius=5.0, density=0.2, occupancy=0.75, elongation=(1.0, 1.5),
    spread=0.3, rim=0.6, lobes=0.1,
)  # fmt: skip
_PYKNOTIC = NucleusKind(spacing=24, radius=2.6, density=1.3, occupancy=0.4, spread=0.3, lobes=0.12)
_FRAGMENT = NucleusKind(
    spacing=6.0, radius=1.5, density=1.15, occupancy=0.6, elongation=(1.0, 2.0),
    spread=0.42, lobes=0.12,
)  # fmt: skip


def paint(
    appearance: Appearance, rng: np.random.Generator, size: int, magnification: float
) -> Texture:
    """Fill a tile of `size` pixels a side with one appearance.

    Parameters
    ----------
    appearance
        What to paint.
    rng
        Source of every draw.
    size
        Height and width in pixels.
    magnification
        Factor on the size of cells; 1 is about 0.8 micrometres per pixel.
    """
    texture = _PAINTERS[appearance](rng, size, magnification)
    return Texture(
        np.maximum(texture.haematoxylin, 0), np.maximum(texture.eosin, 0), texture.nuclei
    )


def _solid_tumor(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    shape = (size, size)
    clumps = smooth_noise(rng, shape, 7 * magnification)
    grain = smooth_noise(rng, shape, 2)
    return Texture(
        haematoxylin=0.30 + 0.05 * clumps + 0.04 * grain,
        eosin=0.42 + 0.09 * clumps + 0.06 * grain,
        nuclei=join([
            scatter(rng, _TUMOR, size, magnification=magnification),
            scatter(rng, _STRAY, size, magnification=magnification),
        ]),
    )  # fmt: skip


def _glandular_tumor(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    shape = (size, size)
    # Lumens lie beyond the border too, so that glands are cut by it.
    lumens = scatter(rng, _LUMEN, size + 2 * _MARGIN, magnification=magnification)
    y, x = np.mgrid[:size, :size] + float(_MARGIN)
    wall = np.full(shape, np.inf)
    outward = np.zeros(shape)
    for down, right, radius in zip(lumens.y, lumens.x, lumens.long_axis, strict=True):
        away = np.sqrt((y - down) ** 2 + (x - right) ** 2) - radius
        nearer = away < wall
        wall[nearer] = away[nearer]
        outward[nearer] = np.arctan2(y[nearer] - down, x[nearer] - right)
    wall = wall / magnification + 4 * smooth_noise(rng, shape, 14)
    grain = smooth_noise(rng, shape, 2.5)
    secretion = np.clip(0.25 + 0.15 * smooth_noise(rng, shape, 12), 0.08, 0.6)
    tissue = 1 - np.clip(0.5 - wall / 3, 0, 1) * (1 - secretion)
    return Texture(
        haematoxylin=(0.2 + 0.04 * grain + 0.1 * np.clip(wall / 12 - 0.5, 0, 1)) * tissue,
        eosin=(0.45 + 0.09 * grain) * tissue,
        nuclei=scatter(
            rng, _COLUMNAR, size, magnification=magnification,
            occupancy=(wall > 6).astype(np.float64), direction=outward,
        ),
    )  # fmt: skip


def _fibres(
    rng: np.random.Generator, size: int, width: float, length: float, wave: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a field of wavy streaks (mean 0, deviation 1), and their direction in radians."""
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size] - size / 2
    shape = (size, size)
    bend = wave * smooth_noise(rng, shape, 34) + wave / 5 * smooth_noise(rng, shape, 13)
    across = np.cos(angle) * y - np.sin(angle) * x + bend
    along = np.cos(angle) * x + np.sin(angle) * y
    # Streaks are long: along them, one sample in `step` pixels is enough.
    extent, step = int(size * 1.42 + 8 * wave) + 4, 4
    shape = (extent, extent // step)
    streaks = 0.8 * smooth_noise(rng, shape, (width, length / step))
    streaks += 0.6 * smooth_noise(rng, shape, (3 * width, 2 * length / step))
    place = np.stack([across + extent / 2, (along + extent / 2) / step])
    down, right = np.gradient(across)
    return (
        ndimage.map_coordinates(streaks, place, order=1, mode="mirror"),
        np.arctan2(-right, down),
    )


def _dense_stroma(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    streaks, direction = _fibres(rng, size, width=2.3, length=26, wave=9)
    # Bundles part at narrow clefts.
    clefts = np.clip(-streaks - 1.1, 0, 1)
    return Texture(
        haematoxylin=0.12 + 0.03 * streaks,
        eosin=0.58 + 0.1 * streaks - 0.22 * clefts,
        nuclei=join([
            scatter(rng, _FIBROBLAST, size, magnification=magnification, direction=direction),
            scatter(rng, _STRAY, size, magnification=magnification),
        ]),
    )  # fmt: skip


def _loose_stroma(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    streaks, direction = _fibres(rng, size, width=2.4, length=12, wave=15)
    other, _ = _fibres(rng, size, width=1.8, length=9, wave=15)
    mucus = smooth_noise(rng, (size, size), 20)
    fibrils = np.clip(np.maximum(streaks, other) + 0.4 * mucus, -0.8, 2)
    return Texture(
        haematoxylin=0.13 + 0.03 * mucus + 0.02 * fibrils,
        eosin=0.22 + 0.13 * fibrils,
        nuclei=join([
            scatter(rng, _STELLATE, size, magnification=magnification, direction=direction),
            scatter(rng, _STRAY, size, magnification=magnification),
        ]),
    )  # fmt: skip


def _packed_lymphocytes(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    grain = smooth_noise(rng, (size, size), 2.5)
    return Texture(
        haematoxylin=0.26 + 0.06 * grain,
        eosin=0.3 + 0.08 * grain,
        nuclei=scatter(rng, _LYMPHOCYTE, size, magnification=magnification),
    )


def _scattered_lymphocytes(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    shape = (size, size)
    mesh = np.abs(smooth_noise(rng, shape, 5))
    crowd = np.clip(1 + 0.25 * smooth_noise(rng, shape, 25), 0.5, 1.35)
    return Texture(
        haematoxylin=0.14 + 0.03 * smooth_noise(rng, shape, 3),
        eosin=0.46 - 0.14 * mesh,
        nuclei=scatter(rng, _SCATTERED, size, magnification=magnification, occupancy=crowd),
    )


def _ghost_necrosis(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    shape = (size, size)
    clumps = smooth_noise(rng, shape, 6 * magnification)
    grain = smooth_noise(rng, shape, 1.7)
    return Texture(
        haematoxylin=0.12 + 0.03 * clumps + 0.02 * grain,
        eosin=0.55 + 0.1 * clumps + 0.1 * grain - 0.16 * (clumps < -1.1),
        nuclei=join([
            scatter(rng, _GHOST, size, magnification=magnification),
            scatter(rng, _PYKNOTIC, size, magnification=magnification),
        ]),
    )  # fmt: skip


def _debris_necrosis(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    shape = (size, size)
    clumps = smooth_noise(rng, shape, 10)
    grain = smooth_noise(rng, shape, 1.8)
    crowd = np.clip(0.75 + 0.5 * clumps, 0.1, 1.6)
    return Texture(
        haematoxylin=0.2 + 0.05 * clumps + 0.05 * grain,
        eosin=0.46 + 0.08 * clumps + 0.1 * grain,
        nuclei=join([
            scatter(rng, _FRAGMENT, size, magnification=magnification, occupancy=crowd),
            scatter(rng, _PYKNOTIC, size, magnification=magnification),
        ]),
    )  # fmt: skip


def _glass(rng: np.random.Generator, size: int, magnification: float) -> Texture:
    smear = 0.015 + 0.01 * smooth_noise(rng, (size, size), 40 * magnification)
    return Texture(np.zeros((size, size)), smear, NO_NUCLEI)


_PAINTERS: dict[Appearance, _Painter] = {
    Appearance.SOLID_TUMOR: _solid_tumor,
    Appearance.GLANDULAR_TUMOR: _glandular_tumor,
    Appearance.DENSE_STROMA: _dense_stroma,
    Appearance.LOOSE_STROMA: _loose_stroma,
    Appearance.PACKED_LYMPHOCYTES: _packed_lymphocytes,
    Appearance.SCATTERED_LYMPHOCYTES: _scattered_lymphocytes,
    Appearance.GHOST_NECROSIS: _ghost_necrosis,
    Appearance.DEBRIS_NECROSIS: _debris_necrosis,
    Appearance.GLASS: _glass,
}
