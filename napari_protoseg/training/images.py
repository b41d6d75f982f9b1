"""Batches of training images: read ahead, augmented, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_protoseg.encoders.passes import ReadImage

_MULTIPLE = 32
_READERS = 4
_AHEAD = 2


@dataclass(frozen=True)
class TrainingImage:
    """An image with its image-level label.

    Parameters
    ----------
    path
        Its file.
    label
        1 present, 0 absent, -1 unknown, for each class in schema order.
    weight
        Of its pixels in the loss.
    """

    path: Path
    label: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """Images of one step.

    Parameters
    ----------
    images
        float32 ``(B, 3, S, S)``, RGB in 0..1, S a multiple of 32.
    labels
        float32 ``(B, N)``: 1 present, 0 absent, -1 unknown.
    weights
        Of each image's pixels in the loss, float32 ``(B,)``.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(self.images.to(device), self.labels.to(device), self.weights.to(device))

    def split(self, size: int) -> list[Batch]:
        """Cut into batches of at most `size` images."""
        starts = range(0, len(self.images), size)
        each = (self.images, self.labels, self.weights)
        return [Batch(*(part[i : i + size] for part in each)) for i in starts]


def epoch_batches(
    images: Sequence[TrainingImage],
    read: ReadImage,
    *,
    batch_size: int,
    max_side: int,
    seed: int,
    epoch: int,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of one epoch in random order, augmented.

    Order and augmentation depend on `seed`, `epoch` and the image's place in `images` alone,
    so an epoch may be taken up at any batch.

    Parameters
    ----------
    images, read
        What is read how; `read` is called from threads.
    batch_size, max_side, seed
        As in `TrainingConfig`.
    epoch
        Number of the epoch.
    first
        Number of the first batch to yield.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(images))
    chunks = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def prepare(index: int) -> NDArray[np.uint8]:
        random = np.random.default_rng([seed, epoch, index])
        return _augmented(_cropped(read(images[index].path), max_side, random), random)

    yield from _read_ahead(chunks[first:], images, prepare)


def plain_batches(
    images: Sequence[TrainingImage], read: ReadImage, *, batch_size: int, max_side: int
) -> Iterator[Batch]:
    """Yield `images` in order, not augmented, the middle of those larger than `max_side`."""
    chunks = [
        np.arange(i, min(i + batch_size, len(images))) for i in range(0, len(images), batch_size)
    ]

    def prepare(index: int) -> NDArray[np.uint8]:
        return _cropped(read(images[index].path), max_side, None)

    yield from _read_ahead(chunks, images, prepare)


def _read_ahead(
    chunks: Sequence[NDArray[np.intp]],
    images: Sequence[TrainingImage],
    prepare: Callable[[int], NDArray[np.uint8]],
) -> Iterator[Batch]:
    """Yield a batch for each chunk of indices, while threads prepare the next ones."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting = [[pool.submit(prepare, int(i)) for i in chunk] for chunk in chunks[:_AHEAD]]
        try:
            for number, chunk in enumerate(chunks):
                ready = [future.result() for future in waiting.pop(0)]
                if number + _AHEAD < len(chunks):
                    following = chunks[number + _AHEAD]
                    waiting.append([pool.submit(prepare, int(i)) for i in following])
                labels = torch.tensor([images[i].label for i in chunk], dtype=torch.float32)
                weights = torch.tensor([images[i].weight for i in chunk], dtype=torch.float32)
                yield Batch(_stacked(ready), labels, weights)
        finally:
            for future in (f for batch in waiting for f in batch):
                future.cancel()


def _cropped(
    image: NDArray[np.uint8], max_side: int, random: np.random.Generator | None
) -> NDArray[np.uint8]:
    """Cut what exceeds `max_side`: from the middle, or from a random place."""
    starts = []
    for length in image.shape[:2]:
        spare = max(length - max_side, 0)
        starts.append(spare // 2 if random is None else int(random.integers(spare + 1)))
    y, x = starts
    return image[y : y + max_side, x : x + max_side]


def _augmented(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror the image or not, and turn it by a multiple of 90 degrees."""
    if random.random() < 0.5:
        image = image[:, ::-1]
    return np.rot90(image, int(random.integers(4)))


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Bring images to one square size by reflection at their borders, and stack them.

    Reflected tissue is tissue of the same image, so its label holds for the padding as well.
    """
    longest = max(side for image in images for side in image.shape[:2])
    side = -(-longest // _MULTIPLE) * _MULTIPLE
    padded = [
        np.pad(i, ((0, side - i.shape[0]), (0, side - i.shape[1]), (0, 0)), mode="symmetric")
        for i in images
    ]
    stacked = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2)
    return stacked.to(torch.float32) / 255
