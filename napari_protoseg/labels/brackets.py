"""Image-level labels in brackets in file names: ``[1 0 0 1]``, ``[1, 1, 0]``, ``[1101]``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.names import shown
from napari_protoseg.labels.records import Label

_LAST_BRACKET = re.compile(r"\[([^\[\]]*)\][^\[\]]*$")
_DIGITS = re.compile(r"[01]+|[01](?:\s+[01])+|[01](?:\s*,\s*[01])+")


def has_bracket(path: Path) -> bool:
    """Tell whether the name of `path` holds a pair of square brackets before its suffix."""
    return _LAST_BRACKET.search(path.stem) is not None


def bare_name(path: Path) -> str:
    """Return the name of `path` without its suffix and the label in its last bracket.

    That is what tells images from each other: the names of many end in the same label.
    """
    bracket = _LAST_BRACKET.search(path.stem)
    if bracket is None or _digits(bracket[1]) is None:
        return path.stem
    rest = path.stem[bracket.end(1) + 1 :]
    return (path.stem[: bracket.start()] + rest).strip("-_ ") or path.stem


def bracket_label(path: Path) -> Label | None:
    """Return the label in the last bracket before the suffix, or None without a bracket.

    One digit for each class, 1 present and 0 absent, together or parted by spaces or by
    commas. The order of the classes is not in the name.

    Raises
    ------
    LabelError
        The bracket holds something else.
    """
    bracket = _LAST_BRACKET.search(path.stem)
    if bracket is None:
        return None
    digits = _digits(bracket[1])
    if digits is None:
        raise LabelError(
            f"the bracket in its name holds {bracket[1]!r}, which is not a label",
            where=shown(path),
            remedy="Write it as [1 0 0 1], [1, 0, 0, 1] or [1001], or give labels in a table.",
        )
    return digits


def matching_bracket(path: Path, length: int) -> Label | None:
    """Return the label in the name of `path` if it is one for `length` classes, else None."""
    bracket = _LAST_BRACKET.search(path.stem)
    digits = _digits(bracket[1]) if bracket else None
    return digits if digits is not None and len(digits) == length else None


def bracket_labels(paths: Iterable[Path]) -> dict[Path, Label]:
    """Return the label of each path that has a bracket in its name.

    Raises
    ------
    LabelError
        A bracket is no label, or two of them differ in their number of digits.
    """
    labels = {path: label for path in paths if (label := bracket_label(path)) is not None}
    by_length = {len(label): path for path, label in labels.items()}
    if len(by_length) > 1:
        listed = ", ".join(f"{n} in {shown(path.name)}" for n, path in sorted(by_length.items()))
        raise LabelError(
            f"the labels in the names differ in their number of digits: {listed}",
            where=shown(next(iter(labels)).parent),
            remedy="One folder has one list of classes: rename the files, or part them.",
        )
    return labels


def _digits(content: str) -> Label | None:
    stripped = content.strip()
    if not _DIGITS.fullmatch(stripped):
        return None
    return tuple(int(character) for character in stripped if character in "01")
