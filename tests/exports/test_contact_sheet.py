from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.exports.contact_sheet import TILE, SheetRow, contact_sheet, write_contact_sheet
from napari_protoseg.exports.indexed_png import color_of
from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
ROW = SheetRow(
    caption="slide-1 [1, 0]",
    image=np.full((100, 100, 3), 128, np.uint8),
    masks={"mask": np.ones((100, 100), np.uint8), "truth": np.full((100, 100), 2, np.uint8)},
    class_maps=np.stack([np.ones((25, 25)), np.zeros((25, 25))]),
)
WITHOUT_TRUTH = replace(ROW, masks={"mask": ROW.masks["mask"]})


def area(sheet: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(sheet) == color).all(-1).sum())


def test_masks_and_truth_appear_in_their_class_colours():
    sheet = contact_sheet([ROW], SCHEMA)
    tumour, stroma = (color_of(c.color) for c in SCHEMA.classes)
    assert area(sheet, tumour) >= TILE * TILE
    assert area(sheet, stroma) >= TILE * TILE
    assert area(contact_sheet([WITHOUT_TRUTH], SCHEMA), stroma) < TILE * TILE


def test_without_any_truth_its_column_is_gone_and_each_class_adds_one():
    full = contact_sheet([ROW, WITHOUT_TRUTH], SCHEMA)
    bare = contact_sheet([WITHOUT_TRUTH], SCHEMA)
    assert ROW.class_maps is not None
    one_class = contact_sheet(
        [replace(WITHOUT_TRUTH, class_maps=ROW.class_maps[:1])], ClassSchema.from_names(["a"])
    )
    assert full.width - bare.width == bare.width - one_class.width > TILE


def test_masks_of_any_number_stand_under_their_titles_without_class_maps():
    blank = np.zeros((100, 100), np.uint8)
    one = replace(ROW, masks={"CAM": blank}, class_maps=None)
    three = replace(one, masks={"CAM": blank, "ours": ROW.masks["mask"], "truth": blank})
    narrow, wide = contact_sheet([one], SCHEMA), contact_sheet([one, three], SCHEMA)
    assert wide.width - narrow.width == 2 * (TILE + 10)
    # Of the second column only the second row has a mask.
    assert area(wide, color_of(SCHEMA.classes[0].color)) < 1.2 * TILE * TILE


def test_pixels_without_a_class_are_a_neutral_grey():
    blank = replace(ROW, masks={"mask": np.zeros((100, 100), np.uint8)})
    added = np.asarray(contact_sheet([blank], SCHEMA)).reshape(-1, 3)
    grey = added[(np.ptp(added.astype(int), axis=1) <= 10) & (added[:, 0] == 214)]
    assert len(grey) >= TILE * TILE


def test_a_map_colours_the_image_the_more_the_higher_it_is():
    stroma = np.array(color_of(SCHEMA.classes[1].color))
    distances = []
    for value in (0.0, 0.5, 1.0):
        maps = np.stack([np.zeros((25, 25)), np.full((25, 25), value)])
        sheet = np.asarray(contact_sheet([replace(ROW, class_maps=maps)], SCHEMA), float)
        middle = sheet.shape[0] // 2
        column = sheet[middle, 28 + 2 * (TILE + 10) + TILE // 2]
        distances.append(np.abs(column - stroma).sum())
    assert distances[0] > distances[1] > distances[2]


def test_images_of_any_shape_and_captions_of_any_length_fit(tmp_path: Path):
    wide = replace(
        ROW,
        caption="x\n" * 400,
        image=ROW.image[:10],
        masks={title: mask[:10] for title, mask in ROW.masks.items()},
    )
    names = ClassSchema.from_names(["a class with a name much longer than its column", "b"])
    write_contact_sheet(tmp_path / "sheet.png", [wide, ROW], names)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] == contact_sheet([ROW], names).width
        assert sheet.size[1] < 2 * contact_sheet([ROW], names).height


def test_no_rows_and_maps_of_other_classes_are_refused():
    with pytest.raises(ExportError, match="no rows"):
        contact_sheet([], SCHEMA)
    assert ROW.class_maps is not None
    with pytest.raises(ExportError, match="class maps of shape"):
        contact_sheet([replace(ROW, class_maps=ROW.class_maps[:1])], SCHEMA)
