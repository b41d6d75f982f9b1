"""What a module of this folder says of the reader that it makes hostile input for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class FuzzedReader:
    """One reader, and how its hostile input is made.

    Parameters
    ----------
    make
        Makes the input of a case in an empty folder, and returns what is to be read.
    read
        Reads it; the generator is that of the case, to choose among ways of reading.
    cases
        How many there are in all; a usual run takes every 27th.
    code
        Modules of the package that read, with the functions that do; all of them where none is
        named.
    """

    make: Callable[[Random, Path], Path]
    read: Callable[[Path, Random], object]
    cases: int
    code: Mapping[str, Sequence[str]]


USUAL_SHARE = 27
"""A usual run takes one case of so many."""
