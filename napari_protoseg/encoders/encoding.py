"""Running an encoder over many images, streaming, through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.encoders.cache import CachedResults, FeatureCache, FeatureKind
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
            image = read_checked(item, self.read)
            result = encode_to_dense(self.encoder, [image])[0]
        return result.astype(np.float16, copy=False)

    def of_batch(
        self, content_hashes: Sequence[str], images: NDArray[np.uint8]
    ) -> NDArray[np.float16]:
        """Return the features of images that are read already: float16 (n, width, h, w).

        What is cached and what is computed is rounded alike.

        Parameters
        ----------
        content_hashes
            Of the images' files.
        images
            (n, height, width, 3), RGB.

        Raises
        ------
        StorageError, WeightsError
        """
        found = [self.cached.read(content_hash) for content_hash in content_hashes]
        missing = [number for number, result in enumerate(found) if result is None]
        if missing:
            encoded = encode_to_dense(self.encoder, [images[number] for number in missing])
            for number, result in zip(missing, encoded, strict=True):
                found[number] = result
        return np.stack([result for result in found if result is not None]).astype(
            np.float16, copy=False
        )


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
    hashes = {item.content_hash for item in items}
    known = cached.read_many(hashes)
    missing = [item for item in items if item.content_hash not in known]
    results = [cached]
    if dense_bytes(encoder, missing) <= cache.budget_bytes / 2:
        results.append(cache.results(encoder.identity, FeatureKind.DENSE))
    batches = encode_missing(encoder, missing, results, batch_size=batch_size, read=read)
    with closing(batches):
        for batch, (embeddings, *_) in batches:
            known |= dict(zip((item.content_hash for item in batch), embeddings, strict=True))
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
    batches = encode_missing(encoder, missing, [cached], batch_size=batch_size, read=read)
    with closing(batches):
        for batch, _ in batches:
            done |= {item.content_hash for item in batch}
            if (yield Progress("Encoding images", len(done), len(hashes))) is Request.STOP:
                break
    if not missing:
        yield Progress("Encoding images", len(done), len(hashes))
    return DenseFeatures(encoder, cached, read)
