"""A labels layer saved from napari is an indexed PNG in the layer's own colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest
from PIL import Image

pytest.importorskip("napari")

from napari.layers import Labels, Layer

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.indexed_png import decode
from napari_protoseg.plugin.sample_data import sample_tissue
from napari_protoseg.plugin.writers import write_labels
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA


def written(layer: object, path: Path) -> list[str]:
    data, meta, _ = layer.as_layer_data_tuple()
    return write_labels(str(path), data, meta)


def test_values_colours_and_classes_survive(tmp_path: Path):
    mask = Layer.create(*sample_tissue()[1])
    path = tmp_path / "mask.png"
    assert written(mask, path) == [str(path)]
    read = decode(path)
    assert np.array_equal(read.values, mask.data)
    assert read.fingerprint == TISSUE_SCHEMA.fingerprint
    colors = Image.open(path).getpalette()
    assert colors is not None
    for c in TISSUE_SCHEMA.classes:
        assert bytes(colors[3 * c.id : 3 * c.id + 3]).hex().upper() == c.color[1:]


def test_a_layer_without_classes_keeps_napari_s_colours(tmp_path: Path):
    values = np.zeros((4, 5), np.int32)
    values[1:3, 2] = 3
    layer = Labels(values)
    written(layer, tmp_path / "mask.png")
    image = Image.open(tmp_path / "mask.png")
    assert np.array_equal(np.array(image), values)
    seen = np.array(image.convert("RGB"))[1, 2]
    assert np.allclose(seen / 255, layer.get_color(3)[:3], atol=0.01)


def test_napari_saves_labels_with_this_writer(tmp_path: Path, npe2pm: Any):
    npe2pm.register(PluginManifest.from_distribution("napari-protoseg"))
    layer = Layer.create(*sample_tissue()[1])
    saved = layer.save(str(tmp_path / "mask.png"), plugin="napari-protoseg")
    assert saved == [str(tmp_path / "mask.png")]
    assert decode(tmp_path / "mask.png").fingerprint == TISSUE_SCHEMA.fingerprint


@pytest.mark.parametrize("data", [np.zeros((2, 3, 4), np.uint8), np.full((2, 3), 300)])
def test_what_an_indexed_png_cannot_hold_is_refused(tmp_path: Path, data: np.ndarray):
    with pytest.raises(ExportError, match="values 0 to 255"):
        write_labels(str(tmp_path / "mask.png"), data, {})
    assert not list(tmp_path.iterdir())
