"""What a person is told of masks that are lost, or cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from napari_protoseg.errors import ProtosegError
from napari_protoseg.events import Notice, Severity

_NAMED = 3


def named_by_reason(what_became: str, errors: Mapping[int, ProtosegError]) -> Iterator[Notice]:
    """Warn of images whose masks cannot be read: once for all of one reason and remedy.

    Parameters
    ----------
    what_became
        Of them, such as "Not made again".
    errors
        Why, by image.
    """
    images = defaultdict(list)
    for image_id, error in errors.items():
        place = "" if error.where == f"image {image_id}" else f"{error.where}: "
        images[f"{place}{error.what}. {error.remedy}"].append(image_id)
    for why, of_it in images.items():
        yield Notice(f"{what_became}: {_named(of_it)}: {why}", Severity.WARNING)


def told_without_redo(images: Sequence[int]) -> Iterator[Notice]:
    """Warn of images whose masks were lost and made again, with nothing to redo any more."""
    if images:
        words = "its mask was" if len(images) == 1 else "their masks were"
        why = f"{words} lost, and what was undone there can no longer be redone"
        yield Notice(f"Made again: {_named(images)}: {why}.", Severity.WARNING)


def _named(images: Sequence[int]) -> str:
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return ", ".join(f"image {image_id}" for image_id in images[:_NAMED]) + more
