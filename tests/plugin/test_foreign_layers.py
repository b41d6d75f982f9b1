"""Layers of others are nobody's business, whatever they say of themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.layers import Image

from napari_protoseg.plugin.layers import KEY, class_of, own_layers, role_of


@pytest.mark.parametrize("said", [{}, {"role": "image"}, {"role": None}, "image", None])
def test_a_layer_that_says_something_else_under_our_key_is_not_ours(said: object):
    layer = Image(np.zeros((4, 4, 3), np.uint8), rgb=True, metadata={KEY: said})
    assert role_of(layer) is None
    assert class_of(layer) is None
    assert list(own_layers([layer])) == []
