from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import napari_protoseg
from napari_protoseg.plugin.sample_data import sample_tissue
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

npe2 = pytest.importorskip("npe2")


def test_installed_package_offers_a_manifest_that_validates() -> None:
    manifest = npe2.PluginManifest.from_distribution("napari-protoseg")
    manifest.validate_imports()
    assert manifest.display_name == "ProtoSeg"
    assert manifest.package_version == version("napari-protoseg") == napari_protoseg.__version__


def test_manifest_beside_the_code_is_that_of_the_repository() -> None:
    package = Path(napari_protoseg.__file__).parent
    repository = package.parent / "napari.yaml"
    if not repository.is_file():
        pytest.skip("the package is not installed from its repository")
    assert (package / "napari.yaml").read_text() == repository.read_text()


def test_sample_layers_are_an_image_and_its_mask_with_the_classes_named() -> None:
    (image, image_options, image_type), (mask, mask_options, mask_type) = sample_tissue()
    assert (image_type, mask_type) == ("image", "labels")
    assert image_options["rgb"]
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (*mask.shape, 3)
    assert set(np.unique(mask)) == {0, *TISSUE_SCHEMA.ids}
    assert {c.id: c.color for c in TISSUE_SCHEMA.classes}.items() <= mask_options[
        "colormap"
    ].items()
    assert mask_options["features"]["class"][1:] == list(TISSUE_SCHEMA.names)


def test_napari_makes_layers_of_the_sample() -> None:
    layers = pytest.importorskip("napari.layers")
    image, mask = (layers.Layer.create(*layer) for layer in sample_tissue())
    assert image.rgb
    first = TISSUE_SCHEMA.classes[0]
    color = tuple(round(255 * part) for part in mask.get_color(first.id)[:3])
    assert "#{:02X}{:02X}{:02X}".format(*color) == first.color
