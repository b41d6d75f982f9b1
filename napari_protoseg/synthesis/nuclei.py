"""Nuclei and smaller bodies: where they lie, how they are shaped, how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

_COVERED = 0.5


@dataclass(frozen=True)
class NucleusKind:
    """A population of alike bodies.

    Parameters
    ----------
    spacing
        Distance between neighbours, in pixels.
    radius
        Mean semi-axis, in pixels.
    density
        Haematoxylin density of the body.
    occupancy
        Share of the possible places that are taken, 0..1.
    elongation
        Least and greatest ratio of the axes.
    spread
        Relative variation of radius and density.
    rim
        Additional density of the nuclear membrane, relative to the body.
    nucleolus
        Additional density of the nucleolus, relative to the body.
    lobes
        Relative irregularity of the outline.
    """

    spacing: float
    radius: float
    density: float
    occupancy: float = 1.0
    elongation: tuple[float, float] = (1.0, 1.3)
    spread: float = 0.15
    rim: float = 0.0
    nucleolus: float = 0.0
    lobes: float = 0.06


@dataclass(frozen=True)
class Nuclei:
    """Bodies of one or more kinds: arrays of one length (lengths in pixels, angles in radians)."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    long_axis: NDArray[np.float64]
    short_axis: NDArray[np.float64]
    angle: NDArray[np.float64]
    density: NDArray[np.float64]
    rim: NDArray[np.float64]
    nucleolus: NDArray[np.float64]
    lobes: NDArray[np.float64]
    phase: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> Nuclei:
        """Return those of the bodies for which `kept` holds."""
        return Nuclei(*(getattr(self, f.name)[kept] for f in fields(self)))


NO_NUCLEI = Nuclei(*(np.empty(0) for _ in fields(Nuclei)))


def join(parts: Sequence[Nuclei]) -> Nuclei:
    """Return the bodies of all `parts`, in their order."""
    return Nuclei(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Nuclei))
    )


def scatter(
    rng: np.random.Generator,
    kind: NucleusKind,
    size: int,
    *,
    magnification: float = 1.0,
    occupancy: NDArray[np.float64] | None = None,
    direction: NDArray[np.float64] | None = None,
) -> Nuclei:
    """Lay bodies of one kind over a tile: a hexagonal grid, shaken and thinned out.

    Parameters
    ----------
    rng
        Source of every draw.
    kind
        Of the bodies.
    size
        Height and width of the tile in pixels.
    magnification
        Factor on all lengths.
    occupancy
        (size, size), factor on the kind's occupancy at each place.
    direction
        (size, size), angle of the long axis against the rows, in radians; random without.
    """
    spacing = kind.spacing * magnification
    rows = np.arange(-1, size / (spacing * 0.866) + 1)
    columns = np.arange(-1, size / spacing + 1)
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    count = row.size
    y = spacing * (0.866 * row + rng.random() + rng.uniform(-0.28, 0.28, count))
    x = spacing * (column + row % 2 / 2 + rng.random() + rng.uniform(-0.28, 0.28, count))
    at = (np.clip(y.astype(np.intp), 0, size - 1), np.clip(x.astype(np.intp), 0, size - 1))
    chance = kind.occupancy * (1.0 if occupancy is None else occupancy[at])
    kept = (rng.random(count) < chance) & (y > 0) & (y < size) & (x > 0) & (x < size)
    radius = kind.radius * magnification * (1 + kind.spread * rng.uniform(-1.7, 1.7, count))
    stretch = np.sqrt(rng.uniform(*kind.elongation, count))
    turned = rng.uniform(0, np.pi, count)
    if direction is not None:
        turned = direction[at] + (turned / np.pi - 0.5) * 0.5
    return Nuclei(
        y=y,
        x=x,
        long_axis=radius * stretch,
        short_axis=radius / stretch,
        angle=turned,
        density=kind.density * (1 + kind.spread * rng.uniform(-1.7, 1.7, count)),
        rim=np.full(count, kind.rim),
        nucleolus=kind.nucleolus * rng.random(count),
        lobes=np.full(count, kind.lobes),
        phase=rng.uniform(0, 2 * np.pi, count),
    ).where(kept)


def draw(
    nuclei: Nuclei, owner: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Draw bodies.

    Parameters
    ----------
    nuclei
        What to draw.
    owner
        A value for each of the bodies.
    size
        Height and width of the tile in pixels.

    Returns
    -------
    cover
        (size, size), 0..1, how far each pixel lies within a body.
    density
        (size, size), haematoxylin density of the bodies, 0 outside.
    owners
        (size, size), `owner` of the body that covers a pixel, 0 where none does.
    """
    cover = np.zeros((size, size))
    density = np.zeros((size, size))
    owners = np.zeros((size, size), dtype=np.uint8)
    # Small bodies are many and large ones few: each group gets a patch of its own size.
    reach = np.ceil(nuclei.long_axis * 1.25 + 1).astype(np.intp)
    for low, high in ((0, 3), (3, 6), (6, 9), (9, int(reach.max(initial=9)))):
        group = (reach > low) & (reach <= high)
        if not group.any():
            continue
        at, inside, dark, which = _patches(nuclei.where(group), owner[group], size, high)
        np.maximum.at(cover, at, inside)
        np.maximum.at(density, at, dark)
        core = inside > _COVERED
        owners[at[0][core], at[1][core]] = which[core]
    return cover, density, owners


def _patches(
    nuclei: Nuclei, owner: NDArray[np.uint8], size: int, reach: int
) -> tuple[
    tuple[NDArray[np.intp], NDArray[np.intp]],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.uint8],
]:
    """Return the pixels that each body touches: place, cover, density and owner."""
    near = np.arange(-reach, reach + 1)
    rows = np.floor(nuclei.y).astype(np.intp)[:, None, None] + near[:, None]
    columns = np.floor(nuclei.x).astype(np.intp)[:, None, None] + near
    rows, columns = np.broadcast_arrays(rows, columns)
    dy = rows - nuclei.y[:, None, None]
    dx = columns - nuclei.x[:, None, None]
    cos, sin = np.cos(nuclei.angle)[:, None, None], np.sin(nuclei.angle)[:, None, None]
    along = (cos * dx + sin * dy) / nuclei.long_axis[:, None, None]
    across = (cos * dy - sin * dx) / nuclei.short_axis[:, None, None]
    distance = np.sqrt(along**2 + across**2)
    seen = (distance < 1.6) & (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    body = np.nonzero(seen)[0]
    along, across, distance = along[seen], across[seen], distance[seen]

    turn = np.arctan2(across, along) + nuclei.phase[body]
    outline = 1 + nuclei.lobes[body] * (np.cos(2 * turn) + np.cos(3 * turn + 1))
    ratio = distance / outline
    # An edge of about one pixel, however large the body.
    inside = np.clip(0.5 + (1 - ratio) * nuclei.short_axis[body], 0, 1)
    membrane = np.exp(-(((ratio - 0.82) / 0.2) ** 2))
    spot = (along - 0.3 * np.cos(nuclei.phase[body])) ** 2 + (across - 0.25) ** 2
    relief = 1 + nuclei.rim[body] * membrane + nuclei.nucleolus[body] * np.exp(-spot / 0.06)
    return (rows[seen], columns[seen]), inside, inside * nuclei.density[body] * relief, owner[body]
