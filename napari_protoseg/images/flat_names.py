"""Flat names: one folder holds files of many, each named after the folders that it comes from."""

from __future__ import annotations

from pathlib import PurePath


def flat_name(path: PurePath) -> str:
    """Return the name without suffix that stands for a file in folders: ``b/x.png`` is ``b__x``.

    Parameters
    ----------
    path
        Below the folder that the names are of.
    """
    return "__".join(path.with_suffix("").parts)
