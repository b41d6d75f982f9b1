"""Names of mask files: one flat name for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from napari_protoseg.images.flat_names import flat_name
from napari_protoseg.project.records import ImageRecord


def mask_names(images: Sequence[ImageRecord]) -> list[str]:
    """Name the mask of each image: as the image, folders below the common one set before it.

    Parameters
    ----------
    images
        At least one.

    Returns
    -------
    list of str
        File names without suffix.
    """
    parents = [image.path.parent for image in images]
    common = Path(os.path.commonpath(parents)) if len({p.anchor for p in parents}) == 1 else None
    return [flat_name(image.path.relative_to(common or image.path.parent)) for image in images]
