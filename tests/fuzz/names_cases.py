"""Hostile names of images and folders, which may hold labels."""

from __future__ import annotations

from pathlib import Path
from random import Random

from driven_jobs import finish
from fuzzed_reader import FuzzedReader
from image_files import noise
from mutations import FILE_NAMES, TEXTS

from napari_protoseg.labels.brackets import bare_name
from napari_protoseg.labels.reader import read_labels
from napari_protoseg.labels.source import find_labels
from napari_protoseg.schema import ClassSchema

_SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
_ALL = ClassSchema.from_names(["tumour", "stroma", "necrosis"])


def _without(*gone: int, merged: tuple[tuple[int, int], ...] = ()) -> ClassSchema:
    """Return the classes that are left of three."""
    classes = tuple(known for known in _ALL.classes if known.id not in gone)
    return ClassSchema(classes=classes, retired=gone, merged=merged)


# What holds, and what held before, the newest first.
_HISTORIES: tuple[tuple[ClassSchema | None, tuple[ClassSchema, ...]], ...] = (
    (None, ()),
    (_SCHEMA, (ClassSchema.from_names(["tumour"]),)),
    (_ALL, (_SCHEMA,)),
    (_without(2), (_ALL,)),
    (_without(2), (_ALL, _SCHEMA)),
    (_without(1, merged=((1, 3),)), (_ALL, _SCHEMA)),
    (_without(3, 1, merged=((3, 1), (1, 2))), (_without(3, merged=((3, 1),)), _ALL)),
    (_without(3, 1, merged=((3, 1),)), (_without(3, merged=((3, 1),)), _ALL)),
    (_ALL, (_without(2), _ALL, _without(1))),
)
_BRACKETS = (
    "[1 0]", "[0 1]", "[1, 1]", "[10]", "[1]", "[1 0 1]", "[]", "[ ]", "[2 0]", "[1;0]", "[1 0",
    "1 0]", "[[1 0]]", "[1 0][0 1]", "[\u0661 \u0660]", "[1\n0]", "[-1 0]", "[1.0 0]", "[nan]",
    "[1 0] copy", "[1 1 0]", "[0 1 1]", "[101]", "[0]", "[0, 0, 1]",
)  # fmt: skip
_FOLDERS = ("tumour", "stroma", "TUMOUR", "train", "images", "necrosis", "..a", "tumour ")


def _make(random: Random, folder: Path) -> Path:
    return folder / random.choice(FILE_NAMES)


def _paths(random: Random, images: Path) -> list[Path]:
    labels = random.random() < 0.6
    folders = random.random()
    usual = random.sample(_BRACKETS, random.choice((1, 1, 2, 5)))
    paths = []
    for number in range(random.randint(1, 6)):
        name = f"{number}{random.choice(FILE_NAMES)}"[:100]
        if random.random() < 0.1:
            text = random.choice(TEXTS)[:50].replace("/", "").replace("\0", "")
            name += text.encode("utf-8", "replace").decode()
        if labels:
            name += random.choice(usual)
        place = images
        if folders < 0.5 and random.random() < 0.9:
            chosen = _FOLDERS[:2] if folders < 0.3 else _FOLDERS
            place = images / random.choice(chosen)
        paths.append(place / f"{name}{random.choice(('.png', '.PNG', '.tif'))}")
    return sorted(paths)


def _read(path: Path, random: Random) -> None:
    paths = _paths(random, path)
    schema, earlier = random.choice(_HISTORIES)
    assert all(bare_name(file) for file in paths)
    if random.random() < 0.95:
        found = find_labels(path, paths, None, schema, earlier)
        assert all(len(label) == len(found.schema.classes) for label in found.labels.values())
        return
    for number, file in enumerate(paths):
        file.parent.mkdir(parents=True, exist_ok=True)
        noise("RGB", 40 + number // 2).save(file, format="png")
    if random.random() < 0.3:
        odd = path / b"no unicode \xff.png".decode("utf-8", "surrogateescape")
        noise("RGB").save(odd, format="png")
    finish(read_labels(path, schema=schema, earlier=earlier, workers=1))


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=12_000,
    code={
        "napari_protoseg/labels/brackets.py": (),
        "napari_protoseg/labels/folders.py": (),
        "napari_protoseg/labels/source.py": (
            "find_labels", "_from_brackets", "_extended",
        ),
    },
)  # fmt: skip
