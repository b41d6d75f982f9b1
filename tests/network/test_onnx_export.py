"""The segmentation network as ONNX: the same numbers for images of any number and size."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from tiny_networks import TINY

from napari_protoseg.errors import ExportError
from napari_protoseg.masks.prediction import Predictor
from napari_protoseg.masks.recipe import SEGMENTATION
from napari_protoseg.network import onnx_export
from napari_protoseg.network.backbones import DEFAULT_BACKBONE, create_backbone
from napari_protoseg.network.onnx_export import IMAGES, PROBABILITIES, onnx_content
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.network.segmentation import Decoder, SegmentationNetwork
from napari_protoseg.schema import ClassSchema

CPU = torch.device("cpu")
CLASSES = ClassSchema.from_names(["tumour", "stroma", "lymphocytes"])


def record(backbone: str, decoder: Decoder) -> ModelRecord:
    return ModelRecord(
        kind=ModelKind.SEGMENTATION,
        classes=CLASSES,
        class_positions=(0, 1, 2),
        backbone=backbone,
        competing=True,
        micrometres_per_pixel=0.5,
        decoder=decoder,
    )


def noise(count: int, height: int, width: int) -> NDArray[np.uint8]:
    values = np.random.default_rng(count).integers(0, 256, (count, height, width, 3))
    return values.astype(np.uint8)


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [
        (TINY, Decoder.SEGFORMER),
        pytest.param(TINY, Decoder.DEEPLABV3PLUS, marks=pytest.mark.slow),
        *(pytest.param(DEFAULT_BACKBONE, decoder, marks=pytest.mark.slow) for decoder in Decoder),
    ],
)
@pytest.mark.timeout(900)
def test_onnx_runtime_gives_the_class_maps_of_this_program(backbone: str, decoder: Decoder):
    torch.manual_seed(0)
    network = SegmentationNetwork(create_backbone(backbone), decoder, 3)
    with torch.no_grad():
        network.classifier.weight.mul_(20)  # maps that differ from place to place
    session = onnxruntime.InferenceSession(onnx_content(network, record(backbone, decoder)))
    recipe = SEGMENTATION.model_copy(update={"flip": False})
    ours = Predictor(network, CLASSES.ids, recipe, CPU)
    for shape in ((1, 64, 64), (3, 75, 131), (2, 32, 200)):
        images = noise(*shape)
        (probabilities,) = session.run([PROBABILITIES], {IMAGES: images})
        assert probabilities.shape == (shape[0], 3, *shape[1:])
        expected = ours.predict(images).class_maps
        assert np.ptp(expected) > 0.1
        assert np.abs(probabilities - expected).max() < 1e-4
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(CLASSES.names)
    assert json.loads(told["class_ids"]) == list(CLASSES.ids)
    assert float(told["micrometres_per_pixel"]) == 0.5


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match="onnx, onnxscript") as refused:
        onnx_export.require_packages()
    assert refused.value.on_terminal == 'pip install "napari-protoseg[onnx]"'
