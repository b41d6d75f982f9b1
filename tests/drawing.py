"""A person who draws, as in the window: by the journal of an image."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.project.records import StoredMask
from napari_protoseg.review.journal import Journal


def draw(
    project: Project,
    image_id: int,
    mask: NDArray[np.uint8],
    *,
    person: str = "Ada",
    now: datetime,
) -> StoredMask:
    """Let a person make the mask of an image this one by one stroke; return it as it is stored."""
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    edited.introduce(person, project.introduce(person))
    step = edited.stroke(mask, author=person, now=now)
    assert step is not None, "the mask is this one already"
    assert journal.append([step]) == [Outcome.AS_MADE]
    journal.fold()
    stored = project.read_mask(image_id)
    assert stored is not None
    return stored
