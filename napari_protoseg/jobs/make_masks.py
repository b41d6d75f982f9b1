"""The job that brings the masks of a project up to its newest round."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import torch

from napari_protoseg.errors import LOST, StorageError
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.jobs.lost_masks import named_by_reason
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

    So is one whose mask is damaged or gone, with nobody's work in it; it is to be accepted anew.
    One that cannot be read just then is left as it is.
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
    accepted = [i.known_id for i in images if reviews.get(i.known_id) is ReviewStatus.ACCEPTED]
    lost: set[int] = set()
    unread: dict[int, StorageError] = {}
    for done, image_id in enumerate(accepted):
        if (yield Progress("Looking at accepted masks", done, len(accepted))) is Request.STOP:
            return None
        try:
            project.require_sound_mask(image_id)
        except LOST:
            lost.add(image_id)
        except StorageError as error:
            unread[image_id] = error
    kept = set(accepted) - lost
    open_ones = [image for image in images if image.known_id not in kept]
    if kept:
        yield Notice(f"{len(kept)} accepted masks are left as they are.")
    yield from named_by_reason("Accepted, and not looked at", unread)
    if lost:
        words = f"{len(lost)} accepted masks are damaged or gone"
        yield Notice(
            f"{words}: those that are made again are to be accepted anew.", Severity.WARNING
        )
    made = yield from predict_project(project, open_ones, trained, muting, device=device, now=now)
    return None if made is None else MadeMasks(made, len(kept))
