"""Records of images that are not there, for what goes by their size alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_protoseg.project import ImageRecord


def records_of(folder: Path, sizes: Sequence[tuple[int, int]]) -> Iterator[ImageRecord]:
    """Yield a record for each height and width, with a label of three classes."""
    for number, (height, width) in enumerate(sizes):
        yield ImageRecord(
            path=folder / f"{number:02d}.png",
            content_hash=str(number),
            width=width,
            height=height,
            label=(1, 1, 1),
        )
