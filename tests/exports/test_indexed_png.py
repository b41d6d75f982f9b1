from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.indexed_png import decode, palette, write_indexed_png
from napari_protoseg.schema import ClassSchema, TissueClass

SCHEMA = ClassSchema(
    classes=(
        TissueClass(id=7, name="tumour", color="#D55E00"),
        TissueClass(id=3, name="stroma", color="#0072B2"),
    )
)


@pytest.mark.parametrize("values", [np.arange(256), np.array([[0, 7], [3, 7]])])
def test_values_read_back_as_they_were_with_the_schema_they_belong_to(tmp_path: Path, values):
    mask = values.reshape(-1, 2).astype(np.uint8)
    write_indexed_png(tmp_path / "mask.png", mask, SCHEMA)
    read = decode(tmp_path / "mask.png")
    assert np.array_equal(read.values, mask)
    assert read.fingerprint == SCHEMA.fingerprint


def test_other_programs_see_the_colours_of_the_classes(tmp_path: Path):
    write_indexed_png(tmp_path / "mask.png", np.array([[0, 7, 3, 9, 255]], np.uint8), SCHEMA)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))[0].tolist()
    magenta, grey = [255, 0, 255], [224, 224, 224]
    assert shown == [[0, 0, 0], [0xD5, 0x5E, 0x00], [0x00, 0x72, 0xB2], magenta, grey]
    assert palette(SCHEMA).shape == (256, 3)


def test_a_png_of_another_program_has_no_fingerprint(tmp_path: Path):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "mask.png")
    assert decode(tmp_path / "mask.png").fingerprint is None


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), np.int64), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 2), np.uint8)]
)
def test_what_is_no_mask_is_refused_and_leaves_no_file(tmp_path: Path, mask):
    with pytest.raises(ExportError, match="shape"):
        write_indexed_png(tmp_path / "mask.png", mask, SCHEMA)
    assert not list(tmp_path.iterdir())
