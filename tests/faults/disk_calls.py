"""The calls by which a process has changed a folder on disk, as `disk_calls.c` has noted them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("disk_calls.c")


@dataclass(frozen=True)
class Call:
    """One call, or a word of the process between two calls (`kind` is ``note``).

    Parameters
    ----------
    number
        Its place among the calls, from 1; several notes may have one.
    kind
        What it does; ``killed`` where the process has died before it or within.
    path, other
        What it changes; a note's text; of a call that was not survived, its kind.
    offset, length
        Where it writes, and how many bytes; of a write that was not survived, how many bytes of
        it have reached the file, and how many there were.
    data
        The bytes, where they were kept.
    """

    number: int
    kind: str
    path: str
    other: str
    offset: int
    length: int
    data: bytes

    @property
    def is_within_a_write(self) -> bool:
        """Whether the process has died when a part of the bytes was written."""
        return self.kind == "killed" and 0 < self.offset < self.length


def read_log(path: Path) -> Iterator[Call]:
    """Yield what a log holds, in order."""
    with path.open("rb") as log:
        for line in log:
            number, kind, place, other, offset, length, payload = line.decode()[:-1].split("\t")
            data = log.read(int(payload))
            yield Call(int(number), kind, place, other, int(offset), int(length), data)


def why_not_built(library: Path) -> str | None:
    """Compile the library that is loaded before all others; say why it cannot be, if so."""
    if sys.platform != "linux":
        return "calls to the disk are seen with LD_PRELOAD, on Linux"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "there is no C compiler, and none could be installed"
    command = [compiler, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, SOURCE]
    built = subprocess.run(
        [*command, "-ldl", "-lpthread"], capture_output=True, text=True, check=False
    )
    if built.returncode != 0 and "stdio.h" in built.stderr:
        return "the headers of the C library are missing, and could not be installed"
    assert built.returncode == 0, built.stderr
    return None
