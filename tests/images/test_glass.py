from __future__ import annotations

import numpy as np

from napari_protoseg.images.tissue import glass_mask, white_fraction


def test_bright_pixels_without_stain_are_glass_and_others_are_not() -> None:
    glass, shade, eosin, dark = (240, 238, 242), (219, 219, 219), (250, 222, 240), (120, 60, 140)
    image = np.array([[glass, shade], [eosin, dark]], dtype=np.uint8)
    np.testing.assert_array_equal(glass_mask(image), [[True, False], [False, False]])
    assert white_fraction(image) == 0.25


def test_level_and_spread_can_be_chosen() -> None:
    image = np.array([[(219, 219, 219), (250, 222, 240)]], dtype=np.uint8)
    np.testing.assert_array_equal(glass_mask(image, level=200, spread=30), [[True, True]])
