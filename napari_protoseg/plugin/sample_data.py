"""Sample data for napari: synthetic tissue of several cases, and where each class is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.plugin.class_colors import class_features, label_colors
from napari_protoseg.synthesis.sample import SAMPLE_SEED
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

_CASES = 3
_TILES_OF_A_CASE = 4

LayerData = tuple[NDArray[np.uint8], dict[str, Any], str]
"""Data, keyword arguments and type of a napari layer."""


def sample_project() -> list[LayerData]:
    """Open a project of synthetic tissue in the workbench; made first where there is none yet.

    Returns
    -------
    An image layer (H, W, 3), uint8, RGB, of one tile: napari wants a layer of every sample.
    """
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is not None:
        from napari_protoseg.plugin.commands import open_sample

        open_sample(viewer)
    tile = synthesize_tile(SAMPLE_SEED, 0, 0)
    return [(tile.image, {"name": "A synthetic tile", "rgb": True}, "image")]


def sample_tissue() -> list[LayerData]:
    """Return a mosaic of synthetic tiles and its exact mask; each row of tiles is one case.

    Returns
    -------
    An image layer (H, W, 3), uint8, RGB, and a labels layer (H, W), uint8, whose value k is
    class id k and whose 0 is glass.
    """
    rows = [
        [synthesize_tile(SAMPLE_SEED, case, tile) for tile in range(_TILES_OF_A_CASE)]
        for case in range(_CASES)
    ]
    image = np.vstack([np.hstack([tile.image for tile in row]) for row in rows])
    mask = np.vstack([np.hstack([tile.mask for tile in row]) for row in rows])
    return [
        (image, {"name": "Synthetic tissue", "rgb": True}, "image"),
        (
            mask,
            {
                "name": "Classes",
                "colormap": label_colors(TISSUE_SCHEMA),
                "features": class_features(TISSUE_SCHEMA, unlabelled="glass"),
                "opacity": 0.4,
            },
            "labels",
        ),
    ]
