"""Encoding many images streams through a cache that may be lost, full or damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.encoder import FrozenEncoder, create_encoder
from napari_protoseg.encoders.encoding import embed_images, encode_dense
from napari_protoseg.encoders.passes import EncodeItem
from napari_protoseg.errors import ImageError, StorageError, WeightsError
from napari_protoseg.events import Job, Progress, Request, Result

PLENTY = 10**9

ROOM_FOR_EMBEDDINGS = 19_000
"""A budget of bytes that the dense features of a tile would fill to more than the half."""


class Counted:
    """Counts the images that go through an encoder."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.batches: list[int] = []
        encoder.model.conv_stem.register_forward_hook(
            lambda module, inputs, output: self.batches.append(len(output))
        )

    @property
    def images(self) -> int:
        return sum(self.batches)


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    return create_encoder(device="cpu")


def read_png(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[EncodeItem]:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    made = []
    for number, (height, width) in enumerate([(64, 64)] * 5 + [(48, 80)] * 3 + [(37, 41)]):
        path = folder / f"{number}.png"
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        made.append(EncodeItem(path, content_hash, height, width))
    return made


def finish(job: Job[Result]) -> Result:
    try:
        while True:
            next(job)
    except StopIteration as end:
        return end.value


def embed(encoder, items, folder: Path, *, budget: int = PLENTY, batch_size: int = 4):
    cache = FeatureCache(folder, budget)
    return finish(embed_images(encoder, items, cache, batch_size=batch_size, read=read_png))


def encode(encoder, items, folder: Path, *, budget: int = PLENTY):
    cache = FeatureCache(folder, budget)
    return finish(encode_dense(encoder, items, cache, batch_size=4, read=read_png))


def blocks(folder: Path, kind: str = "*") -> list[Path]:
    return [path.parent for path in folder.glob(f"{kind}-*/*/zarr.json")]


def test_embeddings_are_those_of_each_image_alone(encoder, items, tmp_path: Path) -> None:
    together = embed(encoder, items, tmp_path / "a")
    assert together.shape == (len(items), encoder.width)
    assert together.dtype == np.float32
    alone = [embed(encoder, [item], tmp_path / "b", batch_size=1)[0] for item in items]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_the_order_of_files_changes_nothing(encoder, items, tmp_path: Path) -> None:
    forwards = embed(encoder, items, tmp_path / "a")
    backwards = embed(encoder, items[::-1], tmp_path / "b")
    np.testing.assert_array_equal(forwards, backwards[::-1])


def test_a_second_run_does_not_encode(encoder, items, tmp_path: Path) -> None:
    first = embed(encoder, items, tmp_path)
    counted = Counted(encoder)
    second = embed(encoder, items, tmp_path)
    np.testing.assert_array_equal(first, second)
    assert counted.images == 0


def test_only_new_images_are_encoded(encoder, items, tmp_path: Path) -> None:
    embed(encoder, items[:4], tmp_path)
    counted = Counted(encoder)
    embed(encoder, items, tmp_path)
    assert counted.images == len(items) - 4


def test_one_content_is_encoded_once(encoder, items, tmp_path: Path) -> None:
    counted = Counted(encoder)
    rows = embed(encoder, [items[0], items[0], items[0]], tmp_path)
    assert counted.images == 1
    np.testing.assert_array_equal(rows[0], rows[2])


def test_batches_hold_one_size_and_fewer_of_large_images(encoder, tmp_path: Path) -> None:
    made = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        side = 64 if number < 3 else 512
        Image.new("RGB", (side, side), (number, 0, 0)).save(path)
        made.append(EncodeItem(path, f"{number}", side, side))
    counted = Counted(encoder)
    embed(encoder, made, tmp_path / "cache", batch_size=8)
    assert counted.batches == [3, 2, 1]


def test_other_weights_do_not_share_a_cache(encoder, items, tmp_path: Path) -> None:
    embed(encoder, items, tmp_path)
    other = encoder.identity.model_copy(update={"weights_sha256": "0" * 64})
    results = FeatureCache(tmp_path, PLENTY).results(other, FeatureKind.EMBEDDING)
    assert items[0].content_hash not in results
    assert results.read(items[0].content_hash) is None


def test_dense_features_are_read_one_by_one(encoder, items, tmp_path: Path) -> None:
    features = encode(encoder, items, tmp_path)
    counted = Counted(encoder)
    embeddings = embed(encoder, items, tmp_path)
    for item, embedding in zip(items, embeddings, strict=True):
        dense = features.of(item)
        assert dense.dtype == np.float16
        assert dense.shape == (encoder.width, -(-item.height // 16), -(-item.width // 16))
        np.testing.assert_allclose(
            dense.astype(np.float32).mean(axis=(1, 2)), embedding, rtol=5e-3, atol=5e-3
        )
    assert counted.images == len(items)


def test_one_pass_gives_embeddings_and_dense_features(encoder, items, tmp_path: Path) -> None:
    alone = encode(encoder, items, tmp_path / "dense alone")
    counted = Counted(encoder)
    embed(encoder, items, tmp_path / "both")
    features = encode(encoder, items, tmp_path / "both")
    for item in items:
        np.testing.assert_array_equal(features.of(item), alone.of(item))
    assert counted.images == len(items)


def test_dense_features_never_crowd_out_embeddings(encoder, items, tmp_path: Path) -> None:
    embed(encoder, items[:1], tmp_path, budget=ROOM_FOR_EMBEDDINGS)
    assert len(blocks(tmp_path, "embedding")) == 1
    assert not blocks(tmp_path, "dense")


def test_features_of_a_batch_are_the_same_cached_or_not(encoder, items, tmp_path: Path) -> None:
    features = encode(encoder, items[:3], tmp_path)
    pixels = np.stack([read_png(item.path) for item in items[:5]])
    counted = Counted(encoder)
    found = features.completed([features.known(item.content_hash) for item in items[:5]], pixels)
    assert counted.images == 2
    assert found.dtype == np.float16
    for item, of_item in zip(items, found, strict=False):
        np.testing.assert_allclose(of_item, features.of(item), rtol=2e-3, atol=1e-3)


def test_features_come_one_after_another_wherever_they_are(encoder, items, tmp_path: Path) -> None:
    features = encode(encoder, items, tmp_path)
    alone = [features.of(item) for item in items]
    damaged, *_ = blocks(tmp_path)
    _flip_a_bit(damaged)
    for _ in range(2):
        for of_item, expected in zip(features.each(items), alone, strict=True):
            np.testing.assert_allclose(of_item, expected, rtol=1e-2, atol=1e-2)
    assert not damaged.exists()


def _truncate(block: Path) -> None:
    for chunk in (block / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-9])


def _flip_a_bit(block: Path) -> None:
    for chunk in (block / "c").rglob("*"):
        if chunk.is_file():
            content = bytearray(chunk.read_bytes())
            content[10] ^= 1
            chunk.write_bytes(content)


def _lose_the_data(block: Path) -> None:
    for chunk in (block / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()


def _scramble_the_record(block: Path) -> None:
    (block / "zarr.json").write_text("{ not json")


def _replace_by_another_array(block: Path) -> None:
    record = json.loads((block / "zarr.json").read_text())
    record["attributes"] = {}
    (block / "zarr.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip_a_bit, _lose_the_data, _scramble_the_record, _replace_by_another_array],
)
def test_a_damaged_block_is_computed_again(encoder, items, tmp_path: Path, damage) -> None:
    sound = embed(encoder, items, tmp_path)
    (block,) = blocks(tmp_path, "embedding")
    damage(block)
    counted = Counted(encoder)
    np.testing.assert_array_equal(embed(encoder, items, tmp_path), sound)
    assert counted.images == len(items)
    np.testing.assert_array_equal(embed(encoder, items, tmp_path), sound)
    assert counted.images == len(items)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, _lose_the_data])
def test_dense_features_survive_damage(encoder, items, tmp_path: Path, damage) -> None:
    sound = encode(encoder, items, tmp_path / "sound")
    features = encode(encoder, items, tmp_path / "cache")
    for block in blocks(tmp_path / "cache"):
        damage(block)
    for item in items:
        np.testing.assert_allclose(features.of(item), sound.of(item), rtol=1e-2, atol=1e-2)


def test_foreign_files_among_the_blocks_do_no_harm(encoder, items, tmp_path: Path) -> None:
    sound = embed(encoder, items, tmp_path)
    (block,) = blocks(tmp_path, "embedding")
    (block.parent / "notes.txt").write_text("hello")
    (block.parent / "empty").mkdir()
    np.testing.assert_array_equal(embed(encoder, items, tmp_path), sound)


def test_an_unfinished_block_of_a_killed_run_is_not_read(encoder, items, tmp_path: Path) -> None:
    embed(encoder, items, tmp_path)
    (block,) = blocks(tmp_path, "embedding")
    block.rename(block.with_name(f".{block.name}.1"))
    counted = Counted(encoder)
    embed(encoder, items, tmp_path)
    assert counted.images == len(items)


def test_over_budget_the_oldest_blocks_go(encoder, items, tmp_path: Path) -> None:
    for item in items[:4]:
        embed(encoder, [item], tmp_path, budget=ROOM_FOR_EMBEDDINGS)
    (size,) = {sum(f.stat().st_size for f in b.rglob("*") if f.is_file()) for b in blocks(tmp_path)}
    embed(encoder, items[4:5], tmp_path, budget=2 * size)
    left = FeatureCache(tmp_path, PLENTY).results(encoder.identity, FeatureKind.EMBEDDING)
    assert [item.content_hash in left for item in items[:5]] == [False] * 3 + [True] * 2


def test_a_budget_of_nothing_still_gives_results(encoder, items, tmp_path: Path) -> None:
    expected = embed(encoder, items, tmp_path / "a")
    np.testing.assert_array_equal(embed(encoder, items, tmp_path / "b", budget=0), expected)
    dense = encode(encoder, items, tmp_path / "b", budget=0)
    assert dense.of(items[0]).shape == (encoder.width, 4, 4)
    assert blocks(tmp_path / "b") == []


def test_a_stopped_run_keeps_what_it_has(encoder, items, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PLENTY)
    job = embed_images(encoder, items, cache, batch_size=2, read=read_png)
    event = next(job)
    assert isinstance(event, Progress)
    with pytest.raises(StopIteration) as end:
        job.send(Request.STOP)
    assert end.value.value is None
    counted = Counted(encoder)
    embed(encoder, items, tmp_path)
    assert counted.images == len(items) - event.done


def test_a_closed_run_keeps_what_it_has(encoder, items, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PLENTY)
    job = encode_dense(encoder, items, cache, batch_size=2, read=read_png)
    event = next(job)
    job.close()
    assert isinstance(event, Progress)
    results = FeatureCache(tmp_path, PLENTY).results(encoder.identity, FeatureKind.DENSE)
    assert sum(item.content_hash in results for item in items) == event.done > 0


def test_progress_counts_up_to_all_images(encoder, items, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PLENTY)
    for _ in range(2):
        job = embed_images(encoder, items, cache, batch_size=2, read=read_png)
        events = [event for event in job if isinstance(event, Progress)]
        done = [event.done for event in events]
        assert done == sorted(done)
        assert (done[-1], events[-1].total) == (len(items), len(items))


def test_no_images_give_no_rows(encoder, tmp_path: Path) -> None:
    assert embed(encoder, [], tmp_path).shape == (0, encoder.width)


def test_an_image_of_another_size_than_recorded_is_named(encoder, items, tmp_path: Path) -> None:
    wrong = EncodeItem(items[0].path, items[0].content_hash, 10, 20)
    with pytest.raises(ImageError, match=r"0\.png.* 64 x 64 pixels, not 20 x 10"):
        embed(encoder, [wrong], tmp_path)


def test_features_that_are_not_finite_are_an_error(items, tmp_path: Path) -> None:
    broken = create_encoder(device="cpu")
    next(broken.model.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match="not finite"):
        embed(broken, items[:1], tmp_path)
    assert blocks(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_a_storage_error(encoder, items, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder belongs")
    with pytest.raises(StorageError, match="cache"):
        embed(encoder, items, tmp_path / "cache")
