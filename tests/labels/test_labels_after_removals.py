"""Labels in file names that were given before a class was removed or merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.source import find_labels
from napari_protoseg.schema import ClassSchema

BEFORE = ClassSchema.from_names(["tumour", "stroma", "fat"])
WITHOUT_STROMA = ClassSchema(
    classes=(BEFORE.classes[0], BEFORE.classes[2]), retired=(BEFORE.ids[1],)
)
IN_TUMOUR = WITHOUT_STROMA.model_copy(update={"merged": ((2, 1),)})


def read(schema: ClassSchema, *names: str) -> list[tuple[int, ...]]:
    paths = [Path("tiles") / name for name in names]
    found = find_labels(Path("tiles"), paths, None, schema, [BEFORE])
    return [found.labels[path] for path in paths]


def test_the_digit_of_a_removed_class_is_left_out():
    assert read(WITHOUT_STROMA, "a-[1 1 0].png", "b-[0 1 1].png") == [(1, 0), (0, 1)]


def test_the_digit_of_a_merged_class_makes_the_other_present():
    labels = read(IN_TUMOUR, "a-[1 0 0].png", "b-[0 1 1].png", "c-[0 0 0].png")
    assert labels == [(1, 0), (1, 1), (0, 0)]


def test_as_many_digits_as_there_were_classes_at_two_times_are_refused():
    added = BEFORE.classes[1].model_copy(update={"id": 4, "name": "nerve", "shortcut": "4"})
    schema = ClassSchema(classes=(*WITHOUT_STROMA.classes, added), retired=(2,))
    with pytest.raises(LabelError, match=r"3 digits.*as many classes twice.*table of labels"):
        read(schema, "a-[1 1 0].png")
