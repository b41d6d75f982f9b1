"""One pass of an encoder over images: read ahead, in batches of one size, kept in blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_protoseg.encoders.cache import (
    BLOCK_BYTES,
    BLOCK_IMAGES,
    CachedResults,
    FeatureKind,
    Features,
)
from napari_protoseg.encoders.encoder import FrozenEncoder, mean_over_positions
from napari_protoseg.errors import ImageError, WeightsError

ReadImage = Callable[[Path], NDArray[np.uint8]]
"""Reads an image file as uint8 (H, W, 3), RGB."""

_BATCH_PIXELS_PER_IMAGE = 256 * 256
_READERS = 4


@dataclass(frozen=True)
class EncodeItem:
    """An image to encode.

    Parameters
    ----------
    path
        Its file.
    content_hash
        Of the file; images of one hash are encoded once.
    height, width
        In pixels; images of one size are encoded together.
    """

    path: Path
    content_hash: str
    height: int
    width: int


_Batch = tuple[EncodeItem, ...]


class _Pending:
    """Results on their way to the cache, gathered to blocks."""

    def __init__(self, cached: CachedResults) -> None:
        self.cached = cached
        self._hashes: list[str] = []
        self._results: list[Features] = []

    def add(self, content_hash: str, result: Features) -> None:
        """Take up a result, after those of a full block are written."""
        if self._results and (
            self._results[0].shape != result.shape
            or len(self._results) >= BLOCK_IMAGES
            or (len(self._results) + 1) * result.nbytes > BLOCK_BYTES
        ):
            self.flush()
        self._hashes.append(content_hash)
        self._results.append(result)

    def flush(self) -> None:
        """Write what there is."""
        if self._results:
            self.cached.write(self._hashes, np.stack(self._results))
            self._hashes.clear()
            self._results.clear()


def encode_missing(
    encoder: FrozenEncoder,
    items: Sequence[EncodeItem],
    wanted: Sequence[CachedResults],
    *,
    batch_size: int,
    read: ReadImage,
) -> Generator[tuple[_Batch, list[Features]], None, None]:
    """Yield each batch with its results of each kind, writing blocks to the cache on the way.

    Those of the first kind are what is asked for, the others are kept where they can be.
    """
    pending = [_Pending(cached) for cached in wanted]
    try:
        with closing(_read_ahead(_batches(items, batch_size), read)) as read_batches:
            for batch, images in read_batches:
                results = _encode(encoder, [cached.kind for cached in wanted], images)
                _require_finite(results[0], encoder)
                for block, of_kind in zip(pending, results, strict=True):
                    for item, result in zip(batch, of_kind, strict=True):
                        if block is pending[0] or _is_new(item, result, block.cached):
                            block.add(item.content_hash, result)
                yield batch, results
    finally:
        # Also where the job is closed or an image fails: what is computed is worth keeping.
        _flush_all(pending)


def _flush_all(pending: Iterable[_Pending]) -> None:
    for block in pending:
        block.flush()


def _is_new(item: EncodeItem, result: Features, cached: CachedResults) -> bool:
    # Numbers that are beyond the type in which they are kept are no result.
    return item.content_hash not in cached and bool(np.isfinite(result).all())


def dense_bytes(encoder: FrozenEncoder, items: Iterable[EncodeItem]) -> int:
    """Return what the dense features of distinct images take."""
    sizes = {item.content_hash: (item.height, item.width) for item in items}.values()
    positions = sum(-(-h // encoder.stride) * -(-w // encoder.stride) for h, w in sizes)
    return positions * encoder.width * FeatureKind.DENSE.dtype.itemsize


def _batches(items: Sequence[EncodeItem], batch_size: int) -> Iterator[_Batch]:
    """Cut distinct images into batches of one size, whatever their order in `items`."""
    distinct = {item.content_hash: item for item in items}.values()
    in_order = sorted(distinct, key=lambda item: (item.height, item.width, item.content_hash))
    for (height, width), group in groupby(in_order, key=lambda item: (item.height, item.width)):
        of_one_size = tuple(group)
        fitting = batch_size * _BATCH_PIXELS_PER_IMAGE // (height * width)
        step = max(1, min(batch_size, fitting))
        for start in range(0, len(of_one_size), step):
            yield of_one_size[start : start + step]


def _read_ahead(
    batches: Iterator[_Batch], read: ReadImage
) -> Generator[tuple[_Batch, list[NDArray[np.uint8]]], None, None]:
    """Yield each batch with its images, while threads read those of the next batch."""
    with ThreadPoolExecutor(_READERS) as pool:

        def start(batch: _Batch) -> tuple[_Batch, Iterator[NDArray[np.uint8]]]:
            return batch, pool.map(read_checked, batch, [read] * len(batch))

        reading = map(start, batches)
        current = next(reading, None)
        while current is not None:
            following = next(reading, None)
            batch, images = current
            yield batch, list(images)
            current = following


def read_checked(item: EncodeItem, read: ReadImage) -> NDArray[np.uint8]:
    """Read an image; `ImageError` where it is not of the size that its item says."""
    image = read(item.path)
    if image.shape != (item.height, item.width, 3):
        raise ImageError(
            f"is {image.shape[1]} x {image.shape[0]} pixels, not {item.width} x {item.height} "
            "as when the project was made",
            where=item.path,
            remedy="Restore the original file, or make the project anew.",
        )
    return image


def _encode(
    encoder: FrozenEncoder, kinds: Sequence[FeatureKind], images: Sequence[NDArray[np.uint8]]
) -> list[Features]:
    """Encode uint8 images of one size: for each kind one row each, of the type that it keeps."""
    batch = torch.from_numpy(np.stack(images)).to(encoder.mean.device)
    pixels = batch.permute(0, 3, 1, 2).to(torch.float32) / 255
    results: list[Features] = []
    with torch.inference_mode():
        dense = encoder.dense(pixels)
        for kind in kinds:
            of_kind = _OF_DENSE[kind](dense).cpu().numpy()
            # What is beyond the smaller type becomes infinite, and whoever asked for it is told.
            with np.errstate(over="ignore"):
                results.append(of_kind.astype(kind.dtype, copy=False))
    return results


_OF_DENSE: Mapping[FeatureKind, Callable[[Tensor], Tensor]] = {
    FeatureKind.EMBEDDING: mean_over_positions,
    FeatureKind.DENSE: lambda dense: dense,
}


def encode_to_dense(encoder: FrozenEncoder, images: Sequence[NDArray[np.uint8]]) -> Features:
    """Return the dense features of images of one size; `WeightsError` if they are not finite."""
    (results,) = _encode(encoder, [FeatureKind.DENSE], images)
    _require_finite(results, encoder)
    return results


def _require_finite(results: Features, encoder: FrozenEncoder) -> None:
    if not np.isfinite(results).all():
        raise WeightsError(
            "the encoder gives values that are not finite",
            where=encoder.identity.name,
            remedy="Check its weights file, or choose another encoder.",
        )
