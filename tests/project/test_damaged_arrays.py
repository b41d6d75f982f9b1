"""Masks are written beside what is damaged, or refused, and nothing grows by it without end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from sized_images import records_of

from napari_protoseg.errors import DamagedError, StorageError
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    masks_per_shard,
)
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
SIDE = 256
PER_SHARD = masks_per_shard(SIDE, SIDE)
LARGE = (600, 1000)
STORED = 5


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Some masks of small images are stored; more images than a shard holds have none."""
    sizes = [(SIDE, SIDE)] * (STORED + PER_SHARD + 1) + [LARGE] * 2
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(records_of(tmp_path, sizes))
        project.write_masks([mask_of(image) for image in project.images()[:STORED]], SOURCE)
        yield project


def mask_of(image: ImageRecord, seed: int = 0) -> PredictedMask:
    random = np.random.default_rng([image.known_id, seed])
    shape = (image.height, image.width)
    return PredictedMask(
        image.known_id,
        random.integers(0, 4, shape, dtype=np.uint8),
        random.random(shape).astype(np.float16),
    )


def assert_stored(project: Project, mask: PredictedMask) -> None:
    stored = project.read_mask(mask.image_id)
    assert stored is not None
    np.testing.assert_array_equal(stored.mask, mask.mask)


def files(project: Project) -> set[Path]:
    return {path for path in (project.folder / "arrays.zarr").rglob("*") if path.is_file()}


def damage(project: Project, pattern: str) -> None:
    """Cut files of the arrays short."""
    found = list((project.folder / "arrays.zarr").glob(pattern))
    assert found
    for path in found:
        path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("group", ["masks", "confidence", "origins"])
@pytest.mark.parametrize("count", [1, PER_SHARD + 1], ids=["one", "more than a shard"])
def test_beside_damaged_metadata_masks_are_refused_and_leave_nothing(
    project: Project, group: str, count: int
):
    damage(project, f"{group}/{SIDE}x{SIDE}/zarr.json")
    before = files(project)
    masks = [mask_of(image) for image in project.images()[STORED:][:count]]
    for _ in range(2):
        with pytest.raises(DamagedError, match="the arrays are damaged"):
            project.write_masks(masks, SOURCE)
        assert files(project) == before


def as_another_type(array: dict[str, Any]) -> None:
    array |= {"data_type": "int64", "fill_value": 0}


def in_large_chunks(array: dict[str, Any]) -> None:
    array["chunk_grid"]["configuration"]["chunk_shape"] = [128, SIDE, SIDE]
    array["codecs"] = array["codecs"][0]["configuration"]["codecs"]


def by_another_codec(array: dict[str, Any]) -> None:
    codecs = array["codecs"][0]["configuration"]["codecs"]
    codecs[-1] = {"name": "gzip", "configuration": {"level": 1}}


def by_an_unknown_codec(array: dict[str, Any]) -> None:
    array["codecs"][0]["configuration"]["codecs"][-1] = {"name": "of.another.program"}


def with_another_index(array: dict[str, Any]) -> None:
    array["codecs"][0]["configuration"]["index_codecs"].append(
        {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
    )


@pytest.mark.parametrize("group", ["masks", "confidence", "origins"])
@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        (as_another_type, DamagedError, "another size or type"),
        (in_large_chunks, DamagedError, "another size or type"),
        (by_another_codec, StorageError, "compressed in another way"),
        (by_an_unknown_codec, StorageError, "compressed in another way"),
        (with_another_index, StorageError, "compressed in another way"),
    ],
)
def test_no_mask_is_stored_where_it_cannot_be_read(
    project: Project,
    group: str,
    changed: Callable[[dict[str, Any]], None],
    error: type[Exception],
    words: str,
):
    arrays = project.folder / "arrays.zarr"
    metadata = arrays / group / f"{SIDE}x{SIDE}" / "zarr.json"
    content = metadata.read_text()
    array = json.loads(content)
    changed(array)
    metadata.write_text(json.dumps(array))
    other = arrays / ("masks" if group == "origins" else "origins") / f"{SIDE}x{SIDE}" / "zarr.json"
    moved = other.rename(project.folder / "moved.json")
    image = project.images()[0]
    before = files(project)
    with pytest.raises(error, match=words):
        project.write_mask(mask_of(image, 1), SOURCE)
    assert files(project) == before
    moved.rename(other)
    with pytest.raises(error, match=words):
        project.read_mask(image.known_id)
    metadata.write_text(content)
    assert_stored(project, mask_of(image))


def test_what_another_program_has_noted_of_the_arrays_is_not_gone_by(project: Project):
    images = project.images()
    small, large = images[: STORED + PER_SHARD], images[-2:]
    zarr.consolidate_metadata(project.folder / "arrays.zarr")
    for image in [*small[STORED:], *large]:
        project.write_mask(mask_of(image), SOURCE)
        project.write_mask(mask_of(small[0]), SOURCE)
    for image in [*small, *large]:
        assert_stored(project, mask_of(image))


@pytest.mark.parametrize("group", ["masks", "confidence", "origins"])
def test_beside_a_damaged_shard_masks_are_stored_and_their_shards_used_again(
    project: Project, group: str
):
    images = project.images()[STORED:][: PER_SHARD + 1]
    damage(project, f"{group}/{SIDE}x{SIDE}/c/0/*/*")
    project.write_masks([mask_of(image) for image in images], SOURCE)
    counts = []
    for seed in range(1, 7):
        project.write_mask(mask_of(images[0], seed), SOURCE)
        counts.append(len(files(project)))
        assert_stored(project, mask_of(images[0], seed))
    assert len(set(counts[1:])) == 1, "a mask goes from one shard to another and back"
    for image in images[1:]:
        assert_stored(project, mask_of(image))


def test_damaged_shards_that_no_mask_uses_any_more_are_made_anew(project: Project):
    images = project.images()[:STORED]
    for seed in (1, 2):
        damage(project, f"*/{SIDE}x{SIDE}/c/*/*/*")
        project.write_masks([mask_of(image, seed) for image in images], SOURCE)
        for image in images:
            assert_stored(project, mask_of(image, seed))
    before = files(project)
    with zarr.open_group(project.folder / "arrays.zarr", mode="r").store as store:
        array = zarr.open_array(store, path=f"masks/{SIDE}x{SIDE}", mode="r")
        assert np.all(array[:STORED] < 255), "the first shard can be read again"
    for seed in (3, 4, 5):
        project.write_masks([mask_of(image, seed) for image in images], SOURCE)
        assert files(project) == before


def test_arrays_of_other_shards_keep_no_mask_from_being_stored(project: Project):
    # Other programs may make arrays of other chunks: such masks are not staged beforehand.
    first, second = project.images()[-2:]
    root = zarr.open_group(project.folder / "arrays.zarr", mode="a", zarr_format=3)
    for group, dtype, fill in (
        ("masks", "uint8", 255),
        ("confidence", "float16", float("nan")),
        ("origins", "uint8", 255),
    ):
        root.require_group(group).create_array(
            "600x1000",
            shape=(1, *LARGE),
            dtype=dtype,
            chunks=(1, 256, 256),
            shards=(1, 1024, 1024),
            fill_value=fill,
        )
    for seed in range(2):
        project.write_mask(mask_of(first, seed), SOURCE)  # the second time to another row
    damage(project, "*/600x1000/c/0/*/*")
    for seed in range(3):
        project.write_mask(mask_of(second, seed), SOURCE)
        assert_stored(project, mask_of(second, seed))
    assert_stored(project, mask_of(first, 1))
