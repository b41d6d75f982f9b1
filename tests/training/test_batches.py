"""Batches: the same for the same seed, from any one on, of one size, and with their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import unweighted

from napari_protoseg.errors import ImageError
from napari_protoseg.images.reading import read_image
from napari_protoseg.training.images import (
    Batch,
    TrainingImage,
    epoch_batches,
    plain_batches,
)


def write(folder: Path, *sizes: tuple[int, int]) -> list[TrainingImage]:
    folder.mkdir(exist_ok=True)
    made = []
    for number, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        made.append(TrainingImage(path, (number % 2, -1)))
    return made


def epoch(images: list[TrainingImage], **changes: int) -> list[Batch]:
    options = {"batch_size": 2, "max_side": 64, "seed": 0, "epoch": 0} | changes
    return list(epoch_batches(images, read_image, **options))


def plain(images: list[TrainingImage], batch_size: int = 9, max_side: int = 64) -> list[Batch]:
    return list(plain_batches(images, read_image, batch_size=batch_size, max_side=max_side))


def alike(ours: list[Batch], theirs: list[Batch]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(ours, theirs, strict=True)
    )


def pixels(image: TrainingImage) -> torch.Tensor:
    return torch.from_numpy(read_image(image.path).copy()).permute(2, 0, 1).float() / 255


def test_the_same_seed_and_epoch_give_the_same_batches(tmp_path: Path):
    images = write(tmp_path, *[(40, 48)] * 7)
    first = epoch(images)
    assert [len(batch.images) for batch in first] == [2, 2, 2, 1]
    assert alike(epoch(images), first)
    assert not alike(epoch(images, epoch=1), first)
    assert not alike(epoch(images, seed=1), first)


@pytest.mark.parametrize("first", range(6))
def test_an_epoch_is_taken_up_at_any_batch(tmp_path: Path, first: int):
    images = write(tmp_path, *[(40, 70), (64, 64), (96, 32)] * 3)
    assert alike(epoch(images, first=first), epoch(images)[first:])


def test_every_image_comes_once_with_its_label(tmp_path: Path):
    images = write(tmp_path, *[(64, 64)] * 5)

    def content(image: torch.Tensor) -> tuple[float, ...]:
        """Describe an image however it is mirrored or turned."""
        return tuple(image.flatten().sort().values[::97].tolist())

    seen = [
        (content(image), tuple(label.tolist()))
        for batch in epoch(images)
        for image, label in zip(batch.images, batch.labels, strict=True)
    ]
    assert sorted(seen) == sorted((content(pixels(i)), i.label) for i in images)


def test_images_are_mirrored_and_turned_by_quarters(tmp_path: Path):
    (image,) = write(tmp_path, (32, 32))
    original = pixels(image)
    views = {
        tuple(np.rot90(v, k, axes=(1, 2)).ravel()[:40].tolist()): (mirrored, k)
        for mirrored, v in enumerate((original.numpy(), original.numpy()[:, :, ::-1]))
        for k in range(4)
    }
    seen = {
        views[tuple(batch.images[0].flatten()[:40].tolist())]
        for number in range(60)
        for batch in epoch([image], epoch=number)
    }
    assert seen == {(mirrored, k) for mirrored in (0, 1) for k in range(4)}


def test_plain_batches_keep_order_and_pixels(tmp_path: Path):
    images = write(tmp_path, *[(32, 32)] * 3)
    batches = plain(images, batch_size=2)
    assert [batch.labels[:, 0].tolist() for batch in batches] == [[0, 1], [0]]
    together = torch.cat([batch.images for batch in batches])
    assert torch.equal(together, torch.stack([pixels(image) for image in images]))
    assert together.dtype == torch.float32
    assert 0 <= float(together.min()) < float(together.max()) <= 1


def test_sides_are_filled_up_by_reflection_to_multiples_of_32(tmp_path: Path):
    (image,) = write(tmp_path, (40, 50))
    (batch,) = plain([image])
    assert batch.images.shape == (1, 3, 64, 64)
    original = pixels(image)
    assert torch.equal(batch.images[0, :, :40, :50], original)
    assert torch.equal(batch.images[0, :, 40:, :50], original.flip(1)[:, :24])
    assert torch.equal(batch.images[0, :, :40, 50:], original.flip(2)[:, :, :14])


def test_an_image_much_smaller_than_its_batch_is_reflected_again_and_again(tmp_path: Path):
    small, large = write(tmp_path, (36, 40), (128, 128))
    (batch,) = plain([small, large], max_side=128)
    assert batch.images.shape == (2, 3, 128, 128)
    original = pixels(small)
    assert torch.equal(batch.images[0, :, 36:72, :40], original.flip(1))
    assert torch.equal(batch.images[0, :, 72:108, :40], original)
    assert set(batch.images[0].unique().tolist()) == set(original.unique().tolist())


def test_images_of_mixed_sizes_share_the_side_of_the_largest(tmp_path: Path):
    images = write(tmp_path, (33, 64), (64, 40), (32, 32))
    assert [batch.images.shape[2:] for batch in plain(images)] == [(64, 64)]
    assert [batch.images.shape[2:] for batch in plain(images[2:])] == [(32, 32)]
    for batch in epoch(images):
        assert batch.images.shape[2] == batch.images.shape[3]
        assert batch.images.shape[2] % 32 == 0


def test_larger_images_are_cut_in_the_middle_for_looking(tmp_path: Path):
    (image,) = write(tmp_path, (100, 150))
    (batch,) = plain([image], max_side=64)
    assert torch.equal(batch.images[0], pixels(image)[:, 18:82, 43:107])
    (half,) = plain([image], max_side=128)
    assert torch.equal(half.images[0, :, :100], pixels(image)[:, :, 11:139])


def test_larger_images_are_cut_anew_in_each_epoch_for_training(tmp_path: Path):
    (image,) = write(tmp_path, (100, 150))
    original = pixels(image)
    corners = set()
    for number in range(8):
        (batch,) = epoch([image], epoch=number, max_side=64)
        assert batch.images.shape == (1, 3, 64, 64)
        corners.add(float(batch.images[0, 0, 0, 0]))
        assert set(batch.images.unique().tolist()) <= set(original.unique().tolist())
    assert len(corners) > 4


def test_a_batch_is_cut_in_order():
    batch = unweighted(torch.arange(5.0).view(5, 1, 1, 1), torch.arange(10.0).view(5, 2))
    parts = batch.split(2)
    assert [part.images.flatten().tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.labels[:, 0].tolist() for part in parts] == [[0, 2], [4, 6], [8]]


def test_no_images_give_no_batches():
    assert plain([]) == []


def test_an_unreadable_image_is_named_when_its_batch_is_due(tmp_path: Path):
    images = write(tmp_path, *[(32, 32)] * 4)
    images[3].path.unlink()
    batches = plain_batches(images, read_image, batch_size=1, max_side=64)
    for _ in range(3):
        next(batches)
    with pytest.raises(ImageError, match=r"3\.png"):
        next(batches)


def test_batches_that_nobody_wants_any_more_are_let_go(tmp_path: Path):
    batches = epoch_batches(
        write(tmp_path, *[(32, 32)] * 8), read_image, batch_size=1, max_side=64, seed=0, epoch=0
    )
    next(batches)
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
