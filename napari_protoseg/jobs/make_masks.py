"""The job that brings the masks of a project up to its newest round."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import torch

from napari_protoseg.events import Job, Notice
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.muted import with_muted_of_bank
from napari_protoseg.jobs.predict import predict_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ReviewStatus


@dataclass(frozen=True)
class MadeMasks:
    """How many masks were made, of how many images that were to get one."""

    made: int
    accepted: int


def make_masks(
    project: Project, recipe: Recipe, *, device: torch.device, now: datetime
) -> Job[MadeMasks | None]:
    """Predict every image that was not accepted in review, with the newest round.

    Pixels that a person has set, or that were imported, stay as they are.

    Parameters
    ----------
    project
        With a trained round.
    recipe
        From maps to masks; the prototypes are muted that are muted in the round's bank.
    device, now
        Where it computes; date of the masks.

    Returns
    -------
    MadeMasks or None
        None after a stop; the masks until then are stored.

    Raises
    ------
    ProjectError, CheckpointError, ImageError, StorageError, TrainingError
    """
    trained = trained_model(project)
    yield from trained.notices()
    muting = with_muted_of_bank(project, recipe, trained.record.kind, trained.round.bank_version)
    reviews = project.review_states()
    images = project.images()
    open_ones = [i for i in images if reviews.get(i.known_id) is not ReviewStatus.ACCEPTED]
    accepted = len(images) - len(open_ones)
    if accepted:
        yield Notice(f"{accepted} accepted masks are left as they are.")
    complete = yield from predict_project(
        project, open_ones, trained, muting, device=device, now=now
    )
    return MadeMasks(len(open_ones), accepted) if complete else None
