"""Masks, confidences and origins as Zarr arrays, one of each for every image size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.codecs import ZstdCodec
from zarr.errors import UnknownCodecError
from zarr.storage import MemoryStore

from napari_protoseg.errors import DamagedError, StorageError
from napari_protoseg.project.array_store import FileStore, SyncedStore
from napari_protoseg.project.records import MOST_PIXELS, has_protected
from napari_protoseg.storage import make_folder, staged, storage_errors, sync, take_place

_CHUNK = 512
_SHARD_PIXELS = 16 * 224 * 224
_MOST_IN_A_SHARD = 64

# Of what is read; what is larger was made to exhaust.
_MOST_IN_A_CHUNK = 2**22

# Other codecs may lose something of what is written, or raise what they like at what is damaged.
_CODECS = {"sharding_indexed", "bytes", "zstd", "crc32c"}
_INDEX_CODECS = {"bytes", "crc32c"}

_DECODING_ERRORS = (
    ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError,
    AssertionError,
)  # fmt: skip

# Name of a group, type of its arrays, and the fill value, which stands in no mask.
_GROUPS: tuple[tuple[str, str, float], ...] = (
    ("masks", "uint8", 255),
    ("confidence", "float16", float("nan")),
    ("origins", "uint8", 255),
)


@dataclass(frozen=True)
class MaskArrays:
    """Mask, confidence and origins of one image, each ``(height, width)``."""

    mask: NDArray[np.uint8]
    confidence: NDArray[np.float16]
    origins: NDArray[np.uint8]

    @property
    def parts(self) -> tuple[NDArray[Any], ...]:
        """The three arrays in the order of their groups."""
        return self.mask, self.confidence, self.origins

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the bytes of the three arrays, hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    @cached_property
    def has_protected(self) -> bool:
        """Whether there is a pixel that no prediction may change."""
        return has_protected(self.origins)

    @property
    def unstaged(self) -> MaskArrays:
        """The same, not on the disk yet, where some of it may have taken its place."""
        return MaskArrays(*self.parts)


@dataclass(frozen=True)
class StagedArrays(MaskArrays):
    """A mask that is on the disk already, and has only to take its place: see `staging`.

    Parameters
    ----------
    shards
        One of each array.
    """

    shards: tuple[_StagedShard, ...]


@dataclass(frozen=True)
class _StagedShard:
    """The file of a shard that holds one mask, and the metadata of the array it belongs to."""

    metadata: dict[str, Any]
    file: Path


def array_name(height: int, width: int) -> str:
    """Return the name of the arrays for images of this size in pixels."""
    return f"{height}x{width}"


def masks_per_shard(height: int, width: int) -> int:
    """Return how many masks of this size in pixels are written as fast as one."""
    if max(height, width) > _CHUNK:
        return 1
    return min(max(_SHARD_PIXELS // (height * width), 1), _MOST_IN_A_SHARD)


class ArrayFolder:
    """The Zarr folder of a project, of which any thread may read.

    Its caller sees to it that one alone writes at a time, and that what is read while another
    writes is looked at by its digest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_there(self) -> bool:
        """Whether there is such a folder, in the place of a former one or not."""
        return self._path.exists()

    @contextmanager
    def staging(self, entry: MaskArrays) -> Iterator[MaskArrays]:
        """Do what takes long of writing a mask before anybody is kept waiting by it.

        Yields the same mask; within, it is written quickly, where it shares no shard.

        Raises
        ------
        StorageError
            The disk is full or cannot be written, or there is too little memory.
        """
        if masks_per_shard(*entry.mask.shape) > 1:
            yield entry
            return
        with ExitStack() as stack:
            shards = []
            with self._shortages():
                with suppress(FileExistsError):
                    self._path.mkdir()  # none above it: a project that was moved is not made anew
                    sync(self._path.parent)
                for part, (_, dtype, fill) in zip(entry.parts, _GROUPS, strict=True):
                    metadata, content = _encoded(part, dtype, fill)
                    file = stack.enter_context(staged(self._path, content))
                    shards.append(_StagedShard(metadata, file))
            ready = StagedArrays(entry.mask, entry.confidence, entry.origins, tuple(shards))
            _ = ready.digest, ready.has_protected
            yield ready

    def write(
        self, rows: Sequence[int], entries: Sequence[MaskArrays], *, anew: bool = False
    ) -> None:
        """Write `entries`, all of one size, to `rows`, and wait until the disk has them.

        Parameters
        ----------
        rows
            Ascending; rows past the end make the arrays grow.
        entries
            As many as `rows`.
        anew
            Leave nothing else in the shards of these rows: no mask uses what is there.

        Raises
        ------
        StorageError
            The disk is full or cannot be written, there is too little memory, or the arrays are
            compressed in another way than masks are.
        DamagedError
            The arrays on disk are damaged.
        """
        with self._errors():
            make_folder(self._path)  # Zarr would make it, and not sync its name
            store = SyncedStore(self._path)
            try:
                self._write(store, rows, entries, anew=anew)
            finally:
                store.end()

    def _write(
        self, store: SyncedStore, rows: Sequence[int], entries: Sequence[MaskArrays], *, anew: bool
    ) -> None:
        height, width = entries[0].mask.shape
        per_shard = masks_per_shard(height, width)
        for number, array in enumerate(self._writable(store, height, width)):
            if rows[-1] >= array.shape[0]:
                array.resize(((rows[-1] // per_shard + 1) * per_shard, height, width))
            if anew:
                if (array.shards or array.chunks)[0] != per_shard:
                    raise ValueError(f"the shards of {array.path} are of another size")
                for emptied in {row // per_shard for row in rows}:
                    self._place(array, emptied).unlink(missing_ok=True)
            common, others = _common(array), {}
            for row, entry in zip(rows, entries, strict=True):
                shard = entry.shards[number] if isinstance(entry, StagedArrays) else None
                if shard is None or shard.metadata != common:
                    others[row] = entry.parts[number]
                    continue
                place = self._place(array, row)
                make_folder(place.parent)
                take_place(shard.file, place)
            for first, stop in _runs(list(others)):
                array[first:stop] = np.stack([others[row] for row in range(first, stop)])

    def _writable(self, store: SyncedStore, height: int, width: int) -> list[zarr.Array[Any]]:
        """Return the arrays of all groups for masks of one size; made where there are none.

        All are looked at before one is made: beside what is damaged none is left.
        """
        found = {
            name: array
            for name, dtype, _ in _GROUPS
            if (array := self._found(store, name, dtype, height, width)) is not None
        }
        root = zarr.open_group(store, mode="a", zarr_format=3, use_consolidated=False)
        groups = {name: root.require_group(name) for name, _, _ in _GROUPS if name not in found}
        return [
            found[name] if name in found else _new_array(groups[name], height, width, dtype, fill)
            for name, dtype, fill in _GROUPS
        ]

    def _place(self, array: zarr.Array[Any], shard: int) -> Path:
        """Return the file of a shard that holds whole masks."""
        return self._path / f"{array.path}/{array.metadata.encode_chunk_key((shard, 0, 0))}"

    def read(self, height: int, width: int, row: int) -> MaskArrays | None:
        """Read what stands in `row` of the arrays for one image size in pixels.

        Returns
        -------
        MaskArrays or None
            None where nothing was ever written there: the folder is gone, or another one stands
            in its place.

        Raises
        ------
        StorageError
            The folder cannot be read, there is too little memory, or the arrays are compressed in
            another way than masks are.
        DamagedError
            The arrays on disk are damaged, or one of them is missing.
        """
        with self._errors():
            parts = [self._part(name, dtype, height, width, row) for name, dtype, _ in _GROUPS]
            pairs = zip(parts, _GROUPS, strict=True)
            if all(part is None or _is_blank(part, fill) for part, (_, _, fill) in pairs):
                return None
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            raise self._damaged("the mask is damaged (a part of it is missing)")
        return MaskArrays(*there)

    def _part(
        self, name: str, dtype: str, height: int, width: int, row: int
    ) -> NDArray[Any] | None:
        """Read a row of the array of one group; None where there is no such array or row."""
        array = self._found(FileStore(self._path, read_only=True), name, dtype, height, width)
        return None if array is None or row >= array.shape[0] else np.asarray(array[row])

    def _found(
        self, store: FileStore, name: str, dtype: str, height: int, width: int
    ) -> zarr.Array[Any] | None:
        """Return the array of one group for masks of one size; None where there is none."""
        path = f"{name}/{array_name(height, width)}"
        mode: Literal["r", "r+"] = "r" if store.read_only else "r+"
        try:
            # Of no earlier format of Zarr, whose codecs may be pickles.
            array = zarr.open_array(store, path=path, mode=mode, zarr_format=3)
        except FileNotFoundError:
            return None
        except UnknownCodecError as error:
            raise self._foreign(path) from error
        if (
            array.shape[1:] != (height, width)
            or array.dtype != np.dtype(dtype)
            or height * width > MOST_PIXELS
            or math.prod(array.chunks) > _MOST_IN_A_CHUNK
            or math.prod(array.shards or ()) > max(_MOST_IN_A_CHUNK, 4 * height * width)
        ):
            raise self._damaged(f"the array {path} has another size or type than its name says")
        if not _are_known(array.metadata.to_dict()["codecs"]):
            raise self._foreign(path)
        return array

    @contextmanager
    def _shortages(self) -> Iterator[None]:
        with storage_errors(self._path):
            try:
                yield
            except MemoryError as error:
                raise StorageError(
                    "there is not enough memory for the arrays",
                    where=self._path,
                    remedy="Close other programs, then try again.",
                ) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._shortages():
            try:
                yield
            # What zarr and its codecs raise for metadata and chunks that they cannot decode.
            except _DECODING_ERRORS as error:
                raise self._damaged(f"the arrays are damaged ({error})") from error

    def _foreign(self, path: str) -> StorageError:
        return StorageError(
            f"the array {path} is compressed in another way than masks are",
            where=self._path,
            remedy="Restore it from a copy, or write it anew with Zstandard alone.",
        )

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(
            what,
            where=self._path,
            remedy="Restore the project folder from a copy. Without one, move this folder away, "
            "keep it for what people have drawn, and make the masks again.",
        )


def _are_known(codecs: Any, known: Set[str] = _CODECS) -> bool:
    """Tell whether an array is stored by nothing but what arrays of masks are stored by."""
    for codec in codecs:
        of_shards = codec.get("configuration", {})
        if (
            codec["name"] not in known
            or not _are_known(of_shards.get("codecs", ()))
            or not _are_known(of_shards.get("index_codecs", ()), _INDEX_CODECS)
        ):
            return False
    return True


def _new_array(
    group: zarr.Group, height: int, width: int, dtype: str, fill: float
) -> zarr.Array[Any]:
    per_shard = masks_per_shard(height, width)
    chunk = (min(height, _CHUNK), min(width, _CHUNK))
    whole = (-(-height // chunk[0]) * chunk[0], -(-width // chunk[1]) * chunk[1])
    return group.create_array(
        array_name(height, width),
        shape=(per_shard, height, width),
        dtype=dtype,
        chunks=(1, *chunk),
        shards=(per_shard, *whole),
        compressors=ZstdCodec(),
        fill_value=fill,
    )


def _encoded(part: NDArray[Any], dtype: str, fill: float) -> tuple[dict[str, Any], bytes]:
    """Encode one part of a mask that has a shard of its own: the array's metadata, the shard."""
    height, width = part.shape
    written: dict[str, Buffer] = {}
    group = zarr.group(MemoryStore(written), zarr_format=3)
    array = _new_array(group, height, width, dtype, fill)
    array[0] = part
    key = f"{array.path}/{array.metadata.encode_chunk_key((0, 0, 0))}"
    return _common(array), written[key].to_bytes()


def _is_blank(part: NDArray[Any], fill: float) -> bool:
    """Tell whether nothing but the fill value stands in a part of a mask."""
    # Of what was written one line tells it already.
    return all(bool(np.all((lines == fill) | np.isnan(lines))) for lines in (part[:1], part))


def _common(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the metadata of an array, but for how many masks it holds."""
    metadata = array.metadata.to_dict()
    metadata["shape"] = array.shape[1:]
    return metadata


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first of each run of consecutive `rows`, and where it stops."""
    start = 0
    for stop in range(1, len(rows) + 1):
        if stop == len(rows) or rows[stop] != rows[stop - 1] + 1:
            yield rows[start], rows[stop - 1] + 1
            start = stop
