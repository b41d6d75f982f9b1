"""A disk that loses power: what was synced is on it, and of the rest what happens to be.

The file is told from its name: to sync a file is to keep its bytes, to sync a folder to keep the
names in it. What POSIX does not promise is not taken for granted, as that a synced new file has
its name. Names that were not synced survive in the order in which they were given, folder by
folder, up to one at random; of the bytes that were not, any of the writes, whole or by half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from disk_calls import Call


@dataclass(eq=False)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    later: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Where bytes were written since; None: where the file was cut."""

    def write(self, offset: int, data: bytes | None) -> None:
        self.later.append((offset, data))

    def sync(self) -> None:
        self.synced = self.with_writes(self.later)
        self.later = []

    def with_writes(self, writes: list[tuple[int, bytes | None]]) -> bytearray:
        content = bytearray(self.synced)
        for offset, data in writes:
            end = offset if data is None else offset + len(data)
            content.extend(bytes(max(end - len(content), 0)))
            if data is None:
                del content[offset:]
            else:
                content[offset:end] = data
        return content


@dataclass(eq=False)
class _Folder:
    now: dict[str, _Node] = field(default_factory=dict)
    synced: dict[str, _Node] = field(default_factory=dict)


_Node = _File | _Folder
_Naming = tuple[_Folder, str, "_Node | None"]
"""In a folder, a name leads to something, or to nothing any more."""


class Disk:
    """What a disk holds of a folder.

    Parameters
    ----------
    folder
        As it is now, all synced.
    place
        Where the calls are made that are to be applied.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self._place = place
        self._root = _read(folder)
        self._namings: list[tuple[_Naming, ...]] = []

    def apply(self, call: Call) -> None:
        """Let a call take effect, in memory and, where it syncs, on the disk."""
        above, name = self._find(call.path)
        node = self._root if call.path == str(self._place) else above.now.get(name)
        match call.kind:
            case "make":
                self._name((above, name, _File()))
            case "make folder":
                self._name((above, name, _Folder()))
            case "remove":
                self._name((above, name, None))
            case "link":
                self._name((*self._find(call.other), node))
            case "rename":
                assert call.offset == 0, "an exchange of two names is not known here"
                self._name((above, name, None), (*self._find(call.other), node))
            case "write" | "cut":
                # A file without a name is gone with the process.
                if isinstance(node, _File):
                    node.write(call.offset, call.data if call.kind == "write" else None)
            case "sync":
                if isinstance(node, _File):
                    node.sync()
                elif node is not None:
                    self._sync_names(node)
            case _:
                raise AssertionError(f"{call.kind} is no call that is known here")

    def tree(self) -> dict[str, bytes | None]:
        """Return the bytes of every file and None for every folder, as a process sees them."""
        return dict(_tree(self._root))

    def lose_power(self, place: Path, random: np.random.Generator | None = None) -> None:
        """Write what is on the disk to a folder that is not there yet.

        Parameters
        ----------
        place
            The folder.
        random
            Chooses what survives that was not synced; None: nothing does.
        """
        names: dict[_Folder, dict[str, _Node]] = {}
        ended: set[_Folder] = set()
        for namings in self._namings if random is not None else ():
            folders = {folder for folder, _, _ in namings}
            if ended & folders or random.random() < 0.3:
                ended |= folders
                continue
            for folder, name, node in namings:
                _set(names.setdefault(folder, dict(folder.synced)), name, node)
        _write(self._root, place, names, random)

    def _find(self, path: str) -> tuple[_Folder, str]:
        folder = self._root
        *above, name = Path(path).relative_to(self._place).parts or ("",)
        for part in above:
            inner = folder.now[part]
            assert isinstance(inner, _Folder)
            folder = inner
        return folder, name

    def _name(self, *namings: _Naming) -> None:
        for folder, name, node in namings:
            _set(folder.now, name, node)
        self._namings.append(namings)

    def _sync_names(self, folder: _Folder) -> None:
        waiting = []
        for namings in self._namings:
            if any(changed is folder for changed, _, _ in namings):
                for changed, name, node in namings:
                    _set(changed.synced, name, node)
            else:
                waiting.append(namings)
        self._namings = waiting


def _set(names: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _read(path: Path) -> _Folder:
    folder = _Folder()
    for entry in path.iterdir():
        folder.now[entry.name] = (
            _read(entry) if entry.is_dir() else _File(bytearray(entry.read_bytes()))
        )
    folder.synced = dict(folder.now)
    return folder


def _tree(folder: _Folder, above: str = "") -> Iterator[tuple[str, bytes | None]]:
    for name, node in folder.now.items():
        if isinstance(node, _Folder):
            yield above + name, None
            yield from _tree(node, f"{above}{name}/")
        else:
            yield above + name, bytes(node.with_writes(node.later))


def _write(
    folder: _Folder,
    place: Path,
    names: dict[_Folder, dict[str, _Node]],
    random: np.random.Generator | None,
) -> None:
    place.mkdir()
    for name, node in names.get(folder, folder.synced).items():
        if isinstance(node, _Folder):
            _write(node, place / name, names, random)
        else:
            (place / name).write_bytes(node.with_writes(_surviving(node.later, random)))


def _surviving(
    writes: list[tuple[int, bytes | None]], random: np.random.Generator | None
) -> list[tuple[int, bytes | None]]:
    if random is None:
        return []
    found = []
    for offset, data in writes:
        fate = random.random()
        if fate < 0.4:
            found.append((offset, data))
        elif fate < 0.6 and data is not None:
            found.append((offset, data[: len(data) // 2]))
    return found
