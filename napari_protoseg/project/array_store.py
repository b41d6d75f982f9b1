"""Folders of Zarr arrays: what is read is a file, and what is written is on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest
from zarr.core.buffer import BufferPrototype
from zarr.storage import LocalStore

from napari_protoseg.storage import would_wait, write_atomically


class NoFileError(ValueError):
    """A named pipe or a device stands where a file of an array belongs."""


class FileStore(LocalStore):
    """A folder of which nothing but files is opened: a named pipe is waited for without end.

    Each read raises `NoFileError` where something else stands there.
    """

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of one file, or None where there is none."""
        _require_file(self.root / key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of one file, or None where there is none."""
        _require_file(self.root / key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of files, None for those that are not there."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            _require_file(self.root / key)
        return await super().get_partial_values(prototype, wanted)


class SyncedStore(FileStore):
    """A folder whose every file is complete or absent, and on the disk once it is set."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._writing = threading.Lock()
        self._is_over = False

    def end(self) -> None:
        """Let nothing be written from now on.

        Where one write fails, zarr goes on with those that it has begun beside it: others may have
        the rows by then.
        """
        with self._writing:
            self._is_over = True

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one file."""
        with self._writing:
            if self._is_over:
                raise RuntimeError(f"{key} comes too late")
            write_atomically(self.root / key, value.to_bytes())

    # Not handed to another thread: writes are one after the other, as the disk takes them.
    async def set(self, key: str, value: Buffer) -> None:
        """Write one file."""
        self.set_sync(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write one file where there is none."""
        if not await self.exists(key):
            self.set_sync(key, value)


def _require_file(path: Path) -> None:
    """Let pass what is a file, and what the reader itself refuses: a folder, or nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if would_wait(mode):
        raise NoFileError(f"{path} is not a file")
