"""File names: how they are shown in messages, and what a pattern finds in them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from napari_protoseg.errors import LabelError


def shown(name: str | Path) -> str:
    """Return a name fit for a message: quoted and escaped where it would garble it."""
    text = os.fspath(name)
    return text if text.isprintable() else repr(text)


@dataclass(frozen=True)
class NamePattern:
    """A regular expression over file names and the option that it was given with."""

    expression: re.Pattern[str]
    group: str | int
    option: str

    @classmethod
    def compiled(cls, text: str, *, option: str, group: str) -> Self:
        """Compile `text`; what it finds is the group named `group`, else the first one.

        Raises
        ------
        LabelError
            Not a regular expression, or one without a group.
        """
        try:
            expression = re.compile(text)
        except re.error as error:
            raise LabelError(
                f"{text!r} is not a regular expression ({error})",
                where=option,
                remedy=r"An example that works: '^(?P<case>[^-]+)-'.",
            ) from error
        if not expression.groups:
            raise LabelError(
                f"{text!r} has no group in parentheses",
                where=option,
                remedy="Put parentheses around the part of the name that is meant.",
            )
        return cls(expression, group if group in expression.groupindex else 1, option)

    def found_in(self, path: Path) -> str | None:
        """Return what the group matches in the name of `path`, or None."""
        match = self.expression.search(path.name)
        return (match[self.group] or None) if match else None


def pixel_size(text: str, where: str) -> float:
    """Return micrometres per pixel from `text`.

    Raises
    ------
    LabelError
        Not a number above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise LabelError(
            f"{text!r} is not a number of micrometres per pixel",
            where=where,
            remedy="Give a number above 0, such as 0.5.",
        )
    return value
