"""A cache of encoder results on disk: blocks of images in Zarr, oldest out first.

Layout: ``<folder>/<kind>-<fingerprint of the encoder>/<block>``, where a block is one Zarr v3
array of up to 64 images with results of one shape, and lists their content hashes in its
attributes. A block is written aside and renamed, so it is complete or absent; checksums
tell a damaged one, which is removed and computed again. Everything here may be deleted at
any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.project.array_store import FileStore
from napari_protoseg.storage import storage_errors

BLOCK_IMAGES = 64
"""Most images of one block."""

BLOCK_BYTES = 2**25
"""Size in bytes at which a block is closed, however few images it holds."""

# What Zarr raises over files that are damaged or not Zarr's; FileNotFoundError where another
# process has removed the block for its own budget, the other two where a file and a folder have
# changed places.
_DAMAGED = (
    ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError,
    AssertionError, MemoryError, FileNotFoundError, NotADirectoryError, IsADirectoryError,
)  # fmt: skip


Features = NDArray[np.float32 | np.float16]
"""Results as the cache keeps them."""


class FeatureKind(Enum):
    """What is kept of an image: its embedding, or its whole feature map."""

    EMBEDDING = "embedding"
    DENSE = "dense"

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.float16]:
        """Type of the cached numbers."""
        return _DTYPES[self]

    @property
    def dimensions(self) -> int:
        """Dimensions of an array of such results: images first, then numbers, then places."""
        return 2 if self is FeatureKind.EMBEDDING else 4


_DTYPES: dict[FeatureKind, np.dtype[np.float32] | np.dtype[np.float16]] = {
    FeatureKind.EMBEDDING: np.dtype(np.float32),
    FeatureKind.DENSE: np.dtype(np.float16),
}


class FeatureCache:
    """A folder of cached encoder results with a size budget.

    Parameters
    ----------
    folder
        Made at the first write.
    budget_bytes
        When a write makes the files of all sets larger than this, the oldest blocks go.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes

    def results(self, encoder: EncoderIdentity, kind: FeatureKind) -> CachedResults:
        """Open the results of one encoder and kind, whether or not there are any yet."""
        folder = self.folder / f"{kind.value}-{encoder.fingerprint}"
        return CachedResults(self, folder, kind, encoder.width)

    def evict(self) -> None:
        """Remove the oldest blocks, of whatever encoder, until the budget is kept.

        Raises
        ------
        StorageError
        """
        with storage_errors(self.folder):
            # Unfinished blocks of a killed process are found too: nobody else removes them.
            blocks = sorted(_found(block) for block in self.folder.glob("*/*"))
            total = sum(size for _, _, size in blocks)
            for _, block, size in blocks:
                if total <= self.budget_bytes:
                    return
                _remove(block)
                total -= size


@dataclass(frozen=True)
class _Block:
    folder: Path
    array: zarr.Array[Any]


@dataclass(frozen=True)
class _Place:
    block: _Block
    row: int


class CachedResults:
    """The results of one encoder and kind, by the content hash of the image.

    Several threads may read at once; one writes.

    Parameters
    ----------
    cache
        Whose budget counts.
    folder
        Of the blocks.
    kind
        Decides the type of the numbers.
    width
        Of the encoder: how many numbers there are of each place.
    """

    def __init__(self, cache: FeatureCache, folder: Path, kind: FeatureKind, width: int) -> None:
        self._cache = cache
        self._folder = folder
        self.kind = kind
        self._width = width
        self._places: dict[str, _Place] = {}
        self._removing = Lock()
        with storage_errors(folder):
            blocks = sorted(b for b in folder.glob("*") if not b.name.startswith("."))
        for block in blocks:
            self._index(block)

    def __contains__(self, content_hash: str) -> bool:
        """Tell whether a block lists the image; `read` may still find it damaged."""
        return content_hash in self._places

    def read(self, content_hash: str) -> Features | None:
        """Return the result of one image, or None where it is not there (any more).

        Returns
        -------
        Array
            float32 (d,) for embeddings, float16 (d, h, w) for dense features.

        Raises
        ------
        StorageError
            The cache cannot be read, or a damaged block cannot be removed.
        """
        place = self._places.get(content_hash)
        return None if place is None else self._load(place.block, place.row)

    def read_many(self, content_hashes: Iterable[str]) -> Iterator[tuple[str, Features]]:
        """Yield those results that are there, with the hashes, reading each block once.

        Errors are those of `read`.
        """
        of_block: dict[Path, list[tuple[str, _Place]]] = {}
        for content_hash in content_hashes:
            place = self._places.get(content_hash)
            if place is not None:
                of_block.setdefault(place.block.folder, []).append((content_hash, place))
        for listed in of_block.values():
            results = self._load(listed[0][1].block)
            if results is not None:
                yield from ((content_hash, results[place.row]) for content_hash, place in listed)

    def write(self, content_hashes: Sequence[str], results: Features) -> None:
        """Keep `results`, one row per image, as one block; then keep the budget.

        Parameters
        ----------
        content_hashes
            At most `BLOCK_IMAGES`.
        results
            (n, ...) of one row per hash, finite.

        Raises
        ------
        StorageError
            The disk is full or not writable; nothing of the block is left.
        """
        listed = "\n".join([*content_hashes, str(results.shape)])
        block = self._folder / hashlib.sha256(listed.encode()).hexdigest()[:16]
        with storage_errors(block):
            aside = self._folder / f".{block.name}.{os.getpid()}"
            try:
                _remove(aside)
                aside.mkdir(parents=True)
                array = zarr.create_array(
                    store=aside,
                    shape=results.shape,
                    dtype=self.kind.dtype,
                    chunks=(1, *results.shape[1:]),
                    shards=results.shape,
                    compressors=Crc32cCodec(),
                    fill_value=np.nan,
                    attributes={"content_hashes": list(content_hashes)},
                    overwrite=True,
                )
                array[:] = results.astype(self.kind.dtype)
                _remove(block)
                # Not synced: after a loss of power, checksums tell what did not reach the disk.
                aside.rename(block)
            finally:
                _remove(aside)
        self._cache.evict()
        if block.exists():
            self._index(block)

    def _index(self, block: Path) -> None:
        """Take up the images that `block` lists; remove it where it is none of ours."""
        with storage_errors(block):
            try:
                if block.is_symlink():
                    raise ValueError("a link, which nobody here has made")
                # Of no earlier format of Zarr, whose codecs may be pickles.
                store = FileStore(block, read_only=True)
                array = zarr.open_array(store, mode="r", zarr_format=3)
                hashes = self._listed(block, array)
            except _DAMAGED:
                hashes = None
            if hashes is None:
                _remove(block)
            else:
                opened = _Block(block, array)
                self._places |= {h: _Place(opened, row) for row, h in enumerate(hashes)}

    def _listed(self, block: Path, array: zarr.Array[Any]) -> list[str] | None:
        """Return the images that a block lists; None where it is none of ours."""
        hashes = array.attrs["content_hashes"]
        if not isinstance(hashes, list):
            return None
        is_ours = (
            array.dtype == self.kind.dtype
            and array.ndim == self.kind.dimensions
            and array.shape[:2] == (len(hashes), self._width)
            and array.chunks == (1, *array.shape[1:])
            and array.shards == array.shape
            # Nothing is compressed: what claims to be more was made to exhaust.
            and array.nbytes <= _found(block)[2]
        )
        return [str(h) for h in hashes] if is_ours else None

    def _load(self, block: _Block, row: int | slice = slice(None)) -> Features | None:
        """Read one row of a block, or all; remove the block where it is damaged."""
        with storage_errors(block.folder):
            try:
                result = np.asarray(block.array[row])
            except _DAMAGED:
                result = np.array(np.nan)
            # A missing chunk reads as the fill value, which is not a number.
            if np.isfinite(result).all():
                return result
            with self._removing:
                self._places = {h: p for h, p in self._places.items() if p.block is not block}
                _remove(block.folder)
        return None


def _found(block: Path) -> tuple[int, Path, int]:
    """Return when a block was written, its place, and its size in bytes, without any link.

    Another process may remove it meanwhile: it was then written never, and holds nothing.
    """
    try:
        files = [path.lstat() for path in (block, *block.rglob("*"))]
    except (FileNotFoundError, NotADirectoryError):
        return 0, block, 0
    return files[0].st_mtime_ns, block, sum(f.st_size for f in files if stat.S_ISREG(f.st_mode))


def _remove(block: Path) -> None:
    """Remove a block, or whatever else stands in its place, if it is there."""
    if block.is_dir() and not block.is_symlink():
        shutil.rmtree(block)
    else:
        block.unlink(missing_ok=True)
