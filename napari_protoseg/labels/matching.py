"""Finding the image that a row of a label table means."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.names import shown


class NamesImage(Protocol):
    """A row of a table: its number in the file, and the image as the table writes it."""

    @property
    def number(self) -> int:
        """Row in the file, from 1."""

    @property
    def file(self) -> str:
        """The image."""


Row = TypeVar("Row", bound=NamesImage)


@dataclass(frozen=True)
class MatchedRows(Generic[Row]):
    """Rows of a table by image, and the files of rows that belong to none."""

    by_image: dict[Path, Row]
    without_image: tuple[str, ...]


def match_rows(
    table: Path, rows: Sequence[Row], images: Path, paths: Sequence[Path]
) -> MatchedRows[Row]:
    """Find the image of each of the `rows` of a table among `paths`, which lie below `images`.

    A row means the image at that path below `images`; else the one whose path ends with the
    row's (a bare name, say), or which the row's path ends with (an absolute path, say), if
    there is one alone. Names are compared in Unicode's composed form, since some disks
    decompose accents.

    Raises
    ------
    LabelError
        A row may mean several images, two rows mean the same one, or no row means any.
    """
    relative = {path: _parts(path.relative_to(images).as_posix()) for path in paths}
    exact = {parts: path for path, parts in relative.items()}
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path, parts in relative.items():
        by_name[parts[-1]].append(path)

    by_image: dict[Path, Row] = {}
    without: list[str] = []
    for row in rows:
        parts = _parts(row.file)
        if not parts:
            raise LabelError(
                f"row {row.number} names no image",
                where=shown(table),
                remedy="Fill in the file, or remove the row.",
            )
        candidates = (
            [exact[parts]]
            if parts in exact
            else [p for p in by_name[parts[-1]] if _one_ends_the_other(relative[p], parts)]
        )
        if not candidates:
            without.append(row.file)
            continue
        if len(candidates) > 1:
            listed = ", ".join(shown(path.relative_to(images)) for path in candidates)
            raise LabelError(
                f"row {row.number}: {row.file!r} may mean {listed}",
                where=shown(table),
                remedy="Write the path below the folder of images.",
            )
        (path,) = candidates
        if path in by_image:
            raise LabelError(
                f"rows {by_image[path].number} and {row.number} both mean "
                f"{shown(path.relative_to(images))}",
                where=shown(table),
                remedy="Keep one of them.",
            )
        by_image[path] = row
    if not by_image:
        raise LabelError(
            f"none of its {len(rows)} rows names an image below {shown(images)}: it names "
            f"{without[0]!r}, there is {shown(paths[0].relative_to(images))}",
            where=shown(table),
            remedy="Write file names with their suffix, as they stand in the folder of images.",
        )
    return MatchedRows(by_image, tuple(without))


def _parts(file: str) -> tuple[str, ...]:
    """Return the parts of a path written with either slash."""
    composed = unicodedata.normalize("NFC", file).replace("\\", "/")
    return tuple(part for part in composed.split("/") if part not in {"", "."})


def _one_ends_the_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]
