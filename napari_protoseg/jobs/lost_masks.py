"""What a person is told of masks that are lost, given up, or cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from napari_protoseg.errors import ProtosegError
from napari_protoseg.events import Notice, Severity
from napari_protoseg.jobs.check_report import Finding, Outcome, place
from napari_protoseg.project.folder import Project

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
        where = "" if error.where == f"image {image_id}" else f"{error.where}: "
        images[f"{where}{error.what}. {error.remedy}", error.on_terminal].append(image_id)
    for (why, on_terminal), of_it in images.items():
        text = f"{what_became}: {_named(of_it)}: {why}"
        yield Notice(text, Severity.WARNING, on_terminal)


def told_without_redo(images: Sequence[int]) -> Iterator[Notice]:
    """Warn of images whose masks were lost and made again, with nothing to redo any more."""
    if images:
        words = "its mask was" if len(images) == 1 else "their masks were"
        why = f"{words} lost, and what was undone there can no longer be redone"
        yield Notice(f"Made again: {_named(images)}: {why}.", Severity.WARNING)


def give_up_mask(project: Project, image_id: int, *, now: datetime) -> Finding:
    """Let an image go on without what is lost of its mask and journal; say what it still has.

    Parameters
    ----------
    project
        Open for writing.
    image_id
        The image.
    now
        The time, which masks are from that come from nowhere else.

    Raises
    ------
    ProjectError
        There is no such image, or nothing of it is lost.
    StorageError
        The mask cannot be read just now, or not be written.
    """
    image = project.image(image_id)
    pixels = project.give_up_mask(image_id, now=now)
    what = "what was lost of its mask or its journal is given up"
    remedy = f"Pixels that people have set, propagated or imported, and that are there: {pixels:,}."
    return Finding(Outcome.REPAIRED, place(image), what, remedy)


def _named(images: Sequence[int]) -> str:
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return ", ".join(f"image {image_id}" for image_id in images[:_NAMED]) + more
