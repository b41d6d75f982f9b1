"""What should be gone and is still there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import Any


def alive(left: Iterable[weakref.ref[Any]]) -> list[str]:
    """Name what is still there; the things themselves would be kept by that."""
    gc.collect()
    return [type(thing).__name__ for thing in (ref() for ref in left) if thing is not None]
