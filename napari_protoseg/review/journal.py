"""What a project's journals hold when it is opened: found again, folded, and let go of in time.

The journal of an image comes first and its mask on disk after it. A step counts once its row is
committed. The mask on disk holds the steps up to a number that stands beside it and changes in the
same transaction; every reader of the mask sees it with the steps that come after. So a kill at any
moment loses no step and applies none twice.

A history lasts: it is read back when an image is opened again. It is shortened only here, when a
project is opened, so that a person can always undo back to the start of the session: the oldest
edits of an image go first, where there are more than `MOST_EDITS`, or where they take more than
`MOST_BYTES`, and none that the mask on disk does not hold yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import OpenedJournal, Outcome
from napari_protoseg.review.edited_mask import EditedMask

MOST_EDITS = 1000
"""How many edits of an image outlive a session."""

MOST_BYTES = 64 * 1024 * 1024
"""How many bytes the edits of an image may take that outlive a session."""


@dataclass(frozen=True)
class Recovered:
    """Steps of an image that were recorded, and whose program ended before it stored the mask.

    Parameters
    ----------
    image_id
        The image.
    steps
        How many.
    people
        Names of those who have drawn, imported or released, in the order of their first step.
    latest
        When the last step was made.
    """

    image_id: int
    steps: int
    people: tuple[str, ...]
    latest: datetime


@dataclass(frozen=True)
class Recovery:
    """What a person is to be told when a project is opened.

    Parameters
    ----------
    recovered
        What was recorded and is now stored as masks, by image.
    failed
        Why masks could not be stored, of the other images with recorded steps, or why long
        histories could not be let go of; foreseen or not, they are still recorded.
    """

    recovered: tuple[Recovered, ...]
    failed: tuple[Exception, ...]


class Journal:
    """The journal of one image of a project.

    Parameters
    ----------
    project
        Whose image it is. All its methods may be called from any thread.
    image_id
        The image.
    """

    def __init__(self, project: Project, image_id: int) -> None:
        self._project = project
        self._image_id = image_id

    def open(self) -> tuple[EditedMask, Recovered | None]:
        """Return the mask to edit, and what of it was recorded but not stored as a mask.

        Raises
        ------
        ProjectError
            There is no such image, or its mask or its journal is damaged.
        StorageError
            The project cannot be read.
        """
        opened = self._project.open_journal(self._image_id)
        return EditedMask(opened, self._project.schema), recovered_steps(opened)

    def append(self, steps: Sequence[NewStep]) -> list[Outcome]:
        """Record steps in one transaction, synced to the disk when this returns.

        Raises
        ------
        ProjectError
            A step contradicts what the project holds.
        StorageError
            The disk is full, or the project cannot be written; nothing was recorded.
        """
        return self._project.record_steps(self._image_id, steps)

    def fold(self) -> int:
        """Store the mask with every step that was recorded; return how many it did not hold.

        Raises
        ------
        ProjectError
            The mask or the journal is damaged.
        StorageError
            The disk is full, or the project cannot be written; the steps are still recorded.
        """
        return self._project.fold_journal(self._image_id)


def recovered_steps(opened: OpenedJournal) -> Recovered | None:
    """Return what of a journal the mask on disk does not hold; None where it holds all."""
    steps = [recorded.step for recorded in opened.steps if recorded.number > opened.folded]
    if not steps:
        return None
    people = dict.fromkeys(step.edit.author for step in steps if step.edit.author is not None)
    return Recovered(opened.image_id, len(steps), tuple(people), steps[-1].time)


def recover(
    project: Project, *, most_edits: int = MOST_EDITS, most_bytes: int = MOST_BYTES
) -> Recovery:
    """Store the masks that a killed program could not, and let go of long histories.

    To be called when a project is opened, before any image is. Whatever fails is among what is
    returned: what was recorded is still there.
    """
    found = []
    failed: list[Exception] = []
    unfolded: list[int] = []
    try:
        unfolded = project.unfolded_images()
    except Exception as error:  # noqa: BLE001 (told, and nobody is kept from working)
        failed.append(error)
    for image_id in unfolded:
        try:
            recovered = recovered_steps(project.open_journal(image_id))
            project.fold_journal(image_id)
        except Exception as error:  # noqa: BLE001 (told; the other images are not to wait for it)
            failed.append(error)
            continue
        if recovered is not None:
            found.append(recovered)
    try:
        project.shorten_journals(most_edits=most_edits, most_bytes=most_bytes)
    except Exception as error:  # noqa: BLE001 (what was recovered is to be told nonetheless)
        failed.append(error)
    return Recovery(tuple(found), tuple(failed))
