"""The known encoders as plain text with columns of fixed width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_COLUMNS = ("name", "patch", "width", "micrometres per pixel", "licence", "weights")
_ABSENT = "-"


def encoder_table(encoders: Sequence[dict[str, Any]]) -> str:
    """Render what `describe_encoders` says, one encoder in each line."""
    rows = [list(_COLUMNS)]
    rows += [
        [_ABSENT if known[column] is None else str(known[column]) for column in _COLUMNS]
        for known in encoders
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            "Any other model of timm that gives feature maps is an encoder too: name it, and a "
            "file of its weights.",
            "Use one: protoseg bank PROJECT --encoder NAME --encoder-weights FILE",
        ]
    )
