"""Running an encoder over many images: in batches, streaming, through the cache."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_protoseg.encoders.cache import (
    BLOCK_BYTES,
    BLOCK_IMAGES,
    CachedResults,
    FeatureCache,
    FeatureKind,
    Features,
)
from napari_protoseg.encoders.encoder import FrozenEncoder
from napari_protoseg.errors import ImageError, WeightsError
from napari_protoseg.events import Job, Progress, Request

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


@dataclass(frozen=True)
class DenseFeatures:
    """Dense features of images: from the cache where they are there, else computed.

    Parameters
    ----------
    encoder, cached, read
        Where they come from.
    """

    encoder: FrozenEncoder
    cached: CachedResults
    read: ReadImage

    def of(self, item: EncodeItem) -> NDArray[np.float16]:
        """Return the features of one image: float16 (width, h, w).

        Raises
        ------
        StorageError, ImageError, WeightsError
        """
        result = self.cached.read(item.content_hash)
        if result is None:
            image = _read_checked(item, self.read)
            result = _encode(self.encoder, FeatureKind.DENSE, [image])[0]
        return result.astype(np.float16, copy=False)


def embed_images(
    encoder: FrozenEncoder,
    items: Sequence[EncodeItem],
    cache: FeatureCache,
    *,
    batch_size: int,
    read: ReadImage,
) -> Job[NDArray[np.float32] | None]:
    """Embed `items`.

    The result does not depend on the order of `items`, nor (as far as the arithmetic of
    floats allows) on what was in the cache.

    Parameters
    ----------
    encoder, items, cache
        What encodes what, and where results are kept.
    batch_size
        Images of up to 256 x 256 pixels that go through the encoder at once; of larger
        ones there are fewer, so that memory depends on `batch_size` alone.
    read
        Reads an image; called from threads.

    Returns
    -------
    Array or None
        float32 (n, width), rows as in `items`; None after a stop. What has been computed
        until then is in the cache.

    Raises
    ------
    ImageError
        An image cannot be read, or is not of the size that its item says.
    WeightsError
        The encoder gives values that are not finite.
    StorageError
        The cache cannot be written.
    """
    cached = cache.results(encoder.identity, FeatureKind.EMBEDDING)
    hashes = {item.content_hash for item in items}
    known = cached.read_many(hashes)
    missing = [item for item in items if item.content_hash not in known]
    batches = _encode_missing(
        encoder, missing, cached, FeatureKind.EMBEDDING, batch_size=batch_size, read=read
    )
    with closing(batches):
        for batch, results in batches:
            known |= dict(zip((item.content_hash for item in batch), results, strict=True))
            if (yield Progress("Embedding images", len(known), len(hashes))) is Request.STOP:
                return None
    if not missing:
        yield Progress("Embedding images", len(known), len(hashes))
    rows = [known[item.content_hash] for item in items]
    return np.array(rows, dtype=np.float32).reshape(len(rows), encoder.width)


def encode_dense(
    encoder: FrozenEncoder,
    items: Sequence[EncodeItem],
    cache: FeatureCache,
    *,
    batch_size: int,
    read: ReadImage,
) -> Job[DenseFeatures]:
    """Bring the dense features of `items` into the cache.

    Parameters and errors are those of `embed_images`.

    Returns
    -------
    DenseFeatures
        Gives the features of any image, also of those that a stop or the cache's budget
        left out.
    """
    cached = cache.results(encoder.identity, FeatureKind.DENSE)
    hashes = {item.content_hash for item in items}
    done = {content_hash for content_hash in hashes if content_hash in cached}
    missing = [item for item in items if item.content_hash not in done]
    batches = _encode_missing(
        encoder, missing, cached, FeatureKind.DENSE, batch_size=batch_size, read=read
    )
    with closing(batches):
        for batch, _ in batches:
            done |= {item.content_hash for item in batch}
            if (yield Progress("Encoding images", len(done), len(hashes))) is Request.STOP:
                break
    if not missing:
        yield Progress("Encoding images", len(done), len(hashes))
    return DenseFeatures(encoder, cached, read)


_Batch = tuple[EncodeItem, ...]


def _encode_missing(
    encoder: FrozenEncoder,
    items: Sequence[EncodeItem],
    cached: CachedResults,
    kind: FeatureKind,
    *,
    batch_size: int,
    read: ReadImage,
) -> Generator[tuple[_Batch, Features], None, None]:
    """Yield each batch with its results, writing blocks to the cache on the way."""
    hashes: list[str] = []
    pending: list[Features] = []

    def flush() -> None:
        if pending:
            cached.write(hashes, np.stack(pending))
            hashes.clear()
            pending.clear()

    try:
        with closing(_read_ahead(_batches(items, batch_size), read)) as read_batches:
            for batch, images in read_batches:
                results = _encode(encoder, kind, images)
                for item, result in zip(batch, results, strict=True):
                    if pending and (
                        pending[0].shape != result.shape
                        or len(pending) >= BLOCK_IMAGES
                        or (len(pending) + 1) * result.nbytes > BLOCK_BYTES
                    ):
                        flush()
                    hashes.append(item.content_hash)
                    pending.append(result)
                yield batch, results
    finally:
        # Also where the job is closed or an image fails: what is computed is worth keeping.
        flush()


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
            return batch, pool.map(_read_checked, batch, [read] * len(batch))

        reading = map(start, batches)
        current = next(reading, None)
        while current is not None:
            following = next(reading, None)
            batch, images = current
            yield batch, list(images)
            current = following


def _read_checked(item: EncodeItem, read: ReadImage) -> NDArray[np.uint8]:
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
    encoder: FrozenEncoder, kind: FeatureKind, images: Sequence[NDArray[np.uint8]]
) -> Features:
    """Encode uint8 images of one size: one row each, of the type that `kind` keeps."""
    batch = torch.from_numpy(np.stack(images)).to(encoder.mean.device)
    pixels = batch.permute(0, 3, 1, 2).to(torch.float32) / 255
    compute = encoder.embed if kind is FeatureKind.EMBEDDING else encoder.dense
    with torch.inference_mode():
        features = compute(pixels).cpu().numpy()
    results: Features = features.astype(kind.dtype, copy=False)
    if not np.isfinite(results).all():
        raise WeightsError(
            "the encoder gives values that are not finite",
            where=encoder.identity.name,
            remedy="Check its weights file, or choose another encoder.",
        )
    return results
