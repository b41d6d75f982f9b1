"""Paths as they are typed into a line, while they are being typed too."""

from __future__ import annotations

import os
from pathlib import Path


def typed_path(text: str) -> Path | None:
    """Return what is typed as a path, ``~`` as the person's home; None where nothing is.

    A home that is not there stays as it was typed: ``~ann`` on the way to ``~anna``, for one.
    """
    stripped = text.strip()
    # Path.expanduser raises where there is no such home.
    return Path(os.path.expanduser(stripped)) if stripped else None  # noqa: PTH111
