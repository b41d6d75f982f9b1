from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.evaluation.confusion import confusion_matrix, dice, iou
from napari_protoseg.evaluation.protocol import Background


@pytest.mark.parametrize("name", ["equal_clusters.npz", "unequal_clusters.npz"])
def test_overlaps_agree_with_the_reference_implementation(protoseg_data: Path, name: str):
    with np.load(protoseg_data / "parity" / name, allow_pickle=False) as data:
        classes = data["image_labels"].shape[1]
        matrix = confusion_matrix(
            data["ground_truth"], data["pseudo_mask"], classes, Background.COUNT
        )
        for key, ours in (("iou", iou(matrix)), ("dice", dice(matrix))):
            theirs = data[f"{key}_background_counts"]
            assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()
