"""What a person may ask of the second stage on the page of training, and what it takes."""

from __future__ import annotations

from collections.abc import Callable

from psygnal import Signal

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Job
from napari_protoseg.jobs.models import can_go_on, newest_trained_round
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.jobs.segment import SegmentRequest, resume_segmentation, segment_project
from napari_protoseg.jobs.train import TrainedRound
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, Stage
from napari_protoseg.workbench.session import Session

OPTIONS = (
    "pixels.decoder",
    "start",
    "config.epochs",
    "config.batch_size",
    "config.backbone_rate",
    "config.head_rate",
    "pixels.loss",
    "pixels.ignored",
    "pixels.absence_weight",
    "config.averaged",
    "config.held_out",
    "config.seed",
)
"""Fields of the request that a person may change."""


class SecondStage:
    """Request and rounds of the segmentation network; the page of training shows how one goes.

    Parameters
    ----------
    session
        What all pages share.
    begin
        Drives a job that trains, of a new round or of one that was begun.
    """

    changed = Signal()
    """What is asked for has changed."""

    options = OPTIONS

    def __init__(
        self,
        session: Session,
        begin: Callable[[Job[TrainedRound | None], Round | None], None],
    ) -> None:
        self.session = session
        self.request = SegmentRequest()
        self.options_problem: str | None = None
        self.unfinished: Round | None = None
        """The newest round, where it has not ended and can go on."""
        self._begin = begin
        self._has_teacher = False

    def needs(self) -> str | None:
        """Return why none can be trained now; None where one can. Nothing is read for it."""
        reason = self._cannot_run()
        if reason is None and not self._has_teacher:
            return "Train on the labels first: it learns from the masks of that model."
        return reason or self.options_problem

    def resume_needs(self) -> str | None:
        """Return why no training of one can go on now; None where one can."""
        reason = self._cannot_run()
        if reason is None and self.unfinished is None:
            return "No training of a segmentation network was stopped."
        return reason

    def set_options(self, request: SegmentRequest, problem: str | None = None) -> None:
        """Take what a person has filled in.

        Parameters
        ----------
        request
            With the options; the last valid ones where there is a problem.
        problem
            What is wrong with what is filled in, as a sentence.
        """
        self.request, self.options_problem = request, problem
        self.changed.emit()

    def train(self) -> None:
        """Begin a round as `request` says, by the recipe that was chosen for masks.

        Raises
        ------
        TrainingError
            None can begin now.
        ProjectError
            The recipe is of another version of this program.
        """
        require_no_reason(self.needs(), "Then train it.")
        session, project = self.session, self.session.require_project()
        job = segment_project(
            project, self.request, recipe_of(project), device=session.device, now=session.now
        )
        self._begin(job, None)

    def resume(self) -> None:
        """Go on with the newest round, where it was stopped.

        Raises
        ------
        TrainingError
            None can go on now.
        CheckpointError
            What it has saved is damaged.
        """
        require_no_reason(self.resume_needs(), "Then resume.")
        session, project = self.session, self.session.require_project()
        job = resume_segmentation(project, device=session.device, now=session.now)
        self._begin(job, self.unfinished)

    def forget(self) -> None:
        """Know nothing of any project."""
        self._has_teacher, self.unfinished = False, None

    def read(self, project: Project) -> None:
        """Read what decides whether a training can begin, or go on.

        Raises
        ------
        ProjectError, StorageError
        """
        self._has_teacher = newest_trained_round(project) is not None
        newest = project.latest_round(stage=Stage.SEGMENTATION)
        self.unfinished = newest if newest is not None and can_go_on(newest) else None

    def _cannot_run(self) -> str | None:
        if self.session.project is None:
            return "Open a project first."
        return self.session.cannot_write()


def require_no_reason(reason: str | None, remedy: str) -> None:
    """Raise `TrainingError` where there is a reason, as a sentence, why no training can begin."""
    if reason is not None:
        raise TrainingError(reason.rstrip("."), where="training", remedy=remedy)
