"""Running an encoder over many images, streaming, through the cache."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.encoders.cache import CachedResults, FeatureCache, FeatureKind, Features
from napari_protoseg.encoders.encoder import FrozenEncoder
from napari_protoseg.encoders.passes import (
    EncodeItem,
    ReadImage,
    dense_bytes,
    encode_missing,
    encode_to_dense,
    read_checked,
)
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.images.ahead import read_ahead

_IMAGES_AHEAD = 32
"""Images whose cached features are read before they are asked for."""


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
        return self._of(item, self.known(item.content_hash))

    def each(self, items: Iterable[EncodeItem]) -> Generator[NDArray[np.float16], None, None]:
        """Yield the features of one image after another, while threads read the next ones.

        Errors are those of `of`.
        """
        listed = list(items)
        reading = read_ahead(
            self.known,
            [item.content_hash for item in listed],
            cost=lambda _: 1,
            most=_IMAGES_AHEAD,
        )
        with closing(reading):
            for item, known in zip(listed, reading, strict=True):
                yield self._of(item, known)

    def known(self, content_hash: str) -> Features | None:
        """Return what the cache has of an image; called from threads.

        Raises
        ------
        StorageError
        """
        return self.cached.read(content_hash)

    def completed(
        self, known: Sequence[Features | None], images: NDArray[np.uint8]
    ) -> NDArray[np.float16]:
        """Encode those of a batch of images that are not known: float16 (n, width, h, w).

        What is cached and what is computed is rounded alike.

        Parameters
        ----------
        known
            Of each image.
        images
            (n, height, width, 3), RGB.

        Raises
        ------
        WeightsError
        """
        missing = [number for number, result in enumerate(known) if result is None]
        encoded: list[Features] = []
        if missing:
            encoded = list(encode_to_dense(self.encoder, [images[number] for number in missing]))
        computed = iter(encoded)
        features = [next(computed) if result is None else result for result in known]
        return np.stack(features).astype(np.float16, copy=False)

    def _of(self, item: EncodeItem, known: Features | None) -> NDArray[np.float16]:
        if known is None:
            known = encode_to_dense(self.encoder, [read_checked(item, self.read)])[0]
        return known.astype(np.float16, copy=False)


def embed_images(
    encoder: FrozenEncoder,
    items: Sequence[EncodeItem],
    cache: FeatureCache,
    *,
    batch_size: int,
    read: ReadImage,
) -> Job[NDArray[np.float32] | None]:
    """Embed `items`, and keep their dense features too, which the same pass gives.

    These are kept where those of all images fit in half of the cache. The result does not
    depend on the order of `items`, nor (as far as the arithmetic of floats allows) on what was
    in the cache.

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
    # Of many images nothing but their rows is held.
    rows = np.empty((len(items), encoder.width), dtype=np.float32)
    places: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        places.setdefault(item.content_hash, []).append(row)
    done = 0
    for content_hash, embedding in cached.read_many(list(places)):
        rows[places.pop(content_hash)] = embedding
        done += 1
    missing = [items[of_one[0]] for of_one in places.values()]
    total = done + len(missing)
    results = [cached]
    if dense_bytes(encoder, missing) <= cache.budget_bytes / 2:
        results.append(cache.results(encoder.identity, FeatureKind.DENSE))
    batches = encode_missing(encoder, missing, results, batch_size=batch_size, read=read)
    with closing(batches):
        for batch, (embeddings, *_) in batches:
            for item, embedding in zip(batch, embeddings, strict=True):
                rows[places[item.content_hash]] = embedding
            done += len(batch)
            if (yield Progress("Embedding images", done, total)) is Request.STOP:
                return None
    if not missing:
        yield Progress("Embedding images", done, total)
    return rows


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
    batches = encode_missing(encoder, missing, [cached], batch_size=batch_size, read=read)
    with closing(batches):
        for batch, _ in batches:
            done |= {item.content_hash for item in batch}
            if (yield Progress("Encoding images", len(done), len(hashes))) is Request.STOP:
                break
    if not missing:
        yield Progress("Encoding images", len(done), len(hashes))
    return DenseFeatures(encoder, cached, read)
