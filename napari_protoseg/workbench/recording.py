"""The recorder of the open project: begun and ended with it, and what a person is told of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial

from psygnal import Signal

from napari_protoseg.errors import ProjectError, ProjectLockedError, ProtosegError
from napari_protoseg.events import Severity
from napari_protoseg.project.edits import EditKey, NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.review.journal import Recovered, recover
from napari_protoseg.review.recorder import Recorder
from napari_protoseg.review.recorder_events import (
    Folded,
    FoldFailed,
    MaskMoved,
    RecorderEvent,
    RecordingFailed,
    RecordingResumed,
    StoringFailed,
    StoringResumed,
    UnexpectedFailure,
)
from napari_protoseg.workbench.patience import AGAIN_SECONDS
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Problem


class Recording:
    """Records what is done to the masks of the open project, in threads of the recorder's.

    What the recorder tells there is handed over to the main thread before anything is done of it.

    Parameters
    ----------
    session
        Whose project it is.
    """

    moved = Signal(int)
    """Others have changed the mask of an image, by its id, while it was edited."""
    resumed = Signal()
    """What could not be recorded has been."""
    held_up = Signal()
    """Steps cannot be recorded, from now on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._recorder: Recorder | None = None
        self._is_told = False
        self._is_locked_out = False
        self._unexpected: set[str] = set()
        session.when_opened.append(self._begin)
        session.before_closing.append(self._end)
        session.when_reopening.append(self._go_on_in)

    @property
    def is_held_up(self) -> bool:
        """Whether steps cannot be recorded just now."""
        return self._recorder is not None and self._recorder.failure is not None

    @property
    def waiting_edits(self) -> set[EditKey]:
        """The edits that were made, undone or redone since what is on disk."""
        steps = () if self._recorder is None else self._recorder.unsynced
        return {step.edit.key for step in steps}

    def record(self, image_id: int, step: NewStep) -> None:
        """Let a step be recorded; return at once. In a project that is read-only nothing is.

        Raises
        ------
        ProjectError
            Nothing is recorded, though the project is not read-only.
        """
        if self._recorder is not None:
            self._recorder.record(image_id, step)
        elif not self._session.require_project().is_read_only:
            raise ProjectError(
                "what was drawn is not recorded",
                where=f"image {image_id}",
                remedy="Open the project again; please report it.",
            )

    def fold(self, image_id: int) -> None:
        """Let the mask of an image be stored with all steps so far; return at once."""
        if self._recorder is not None:
            self._recorder.fold(image_id)

    def flush(self) -> None:
        """Wait until every step is on disk.

        Raises
        ------
        ProtosegError
            Some are not; they are kept, and it is tried again.
        """
        self._wait(with_masks=False)

    def settle(self) -> bool:
        """Wait until every step is on disk, and the masks are stored that can be.

        A mask that cannot be stored now is told of, and stored later: no step of it is lost. A
        damaged one is told of, and is tried again with the next step alone.

        Returns
        -------
        bool
            Whether no mask waits to be stored.

        Raises
        ------
        ProtosegError
            Some steps are not on disk; they are kept, and it is tried again.
        """
        self.flush()
        try:
            self._wait(with_masks=True)
        except ProtosegError as error:
            self._session.messages.stand(_of_masks(error))
            return False
        self._stand_for_masks()
        return True

    def _go_on_in(self, project: Project) -> None:
        if self._recorder is not None:
            self._recorder.go_on_in(project)

    def _begin(self) -> None:
        """Bring masks up to date that a killed program could not, and record from now on."""
        project = self._session.project
        if project is None or project.is_read_only:
            return
        self._is_told = self._is_locked_out = False
        self._unexpected.clear()
        self._recorder = Recorder(project, partial(self._tell, project))
        self._session.attempt(partial(self._recover, project))

    def _recover(self, project: Project) -> None:
        recovery = recover(project)
        for recovered in recovery.recovered:
            self._session.say(_of_recovered(project, recovered), Severity.WARNING)
        problems = [Problem.of(error) for error in recovery.failed]
        for problem in {problem.sentence: problem for problem in problems}.values():
            self._session.tell(problem, stays=True)  # a full disk is so for each image: said once

    def _end(self) -> None:
        """Wait for what is not on disk yet; whoever closes all the same has been asked."""
        session, recorder, self._recorder = self._session, self._recorder, None
        if recorder is None:
            return
        try:
            session.patience.wait(recorder.close, session.require_project().folder)
        except ProtosegError as error:
            lost = len(recorder.abandon(AGAIN_SECONDS))
            if lost:
                session.say(f"{_steps(lost)} could not be saved: {error}", Severity.WARNING)
            self._tell_unexpected(error)
        session.messages.lift()
        others = _of_others(recorder.handed_over)
        if others:
            session.say(others, Severity.WARNING)

    def _wait(self, *, with_masks: bool) -> None:
        if self._recorder is not None:
            flush = partial(self._recorder.flush, with_masks=with_masks)
            self._session.patience.wait(flush, self._session.require_project().folder)

    def _tell(self, project: Project, event: RecorderEvent) -> None:
        """Hand an event over; in a thread of the recorder's."""
        self._session.runner.hand_over(partial(self._hear, project, event))

    def _hear(self, project: Project, event: RecorderEvent) -> None:
        session = self._session
        if project is not session.project or self._recorder is None:
            return  # it was closed meanwhile
        error = event.error if isinstance(event, RecordingFailed | StoringFailed) else None
        if error is not None or isinstance(event, RecordingResumed | StoringResumed):
            self._follow_lock(error)
        if error is not None:
            self._tell_unexpected(error)
        match event:
            case RecordingFailed(error, waiting):
                session.messages.stand(
                    f"What you do is not saved: {error} Steps that are kept in memory, and tried "
                    f"again every few seconds: {waiting}."
                )
                if not self._is_told:
                    self._is_told = True
                    self.held_up.emit()
            case StoringFailed(error) if not self.is_held_up:  # else there is worse to be told
                session.messages.stand(_of_masks(error))
            case RecordingResumed() if not self.is_held_up:  # else it has failed again since
                self._is_told = False
                self._stand_for_masks()
                all_is_there = not self._recorder.unsynced
                more = ": all that you have drawn is on disk." if all_is_there else "."
                session.say(f"Saving goes on{more}")
                self.resumed.emit()
            case StoringResumed() if not self.is_held_up:
                self._stand_for_masks()
            case FoldFailed(_, error):
                more = "" if self.is_held_up else " What you draw is recorded."
                session.say(f"{error}{more}", Severity.WARNING)
            case MaskMoved(image_id):
                self.moved.emit(image_id)
            case Folded():
                session.reviewed.emit()

    def _stand_for_masks(self) -> None:
        """Let no warning stand but that masks cannot be stored, where it is so."""
        failure = None if self._recorder is None else self._recorder.failure_of_masks
        if failure is None:
            self._session.messages.lift()
        else:
            self._session.messages.stand(_of_masks(failure))

    def look_who_writes(self) -> None:
        """Tell where it was found only now that another program has taken the project over."""
        project = self._session.project
        if self._recorder is None or self._is_locked_out:
            return
        if project is None or not project.is_read_only:
            return
        self._is_locked_out = True
        notice = project.lock_notice()
        if notice is not None:
            self._session.said.emit(notice)
        self._session.task_changed.emit()

    def _tell_unexpected(self, error: ProtosegError) -> None:
        """Tell once, with its details, of an error that nobody has foreseen."""
        cause = error.__cause__ if isinstance(error, UnexpectedFailure) else None
        if cause is not None and str(error) not in self._unexpected:
            self._unexpected.add(str(error))
            self._session.tell(Problem.of(cause), stays=True)

    def _follow_lock(self, error: ProtosegError | None) -> None:
        """Tell once that another program has taken the project over, whatever failed before."""
        was = self._is_locked_out
        self._is_locked_out = isinstance(error, ProjectLockedError)
        if self._is_locked_out and not was:
            self._session.task_changed.emit()


def _of_masks(error: ProtosegError) -> str:
    return (
        f"Masks cannot be stored: {error} What you have drawn is recorded, and no mask lacks it; "
        "it is tried again every few seconds."
    )


def _of_recovered(project: Project, recovered: Recovered) -> str:
    """Say what of an image was found in the journal alone."""
    try:
        name = project.image(recovered.image_id).path.name
    except ProjectError:
        name = f"image {recovered.image_id}"
    by = f" of {_listed(recovered.people)}" if recovered.people else ""
    when = recovered.latest.astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"Recovered: {_steps(recovered.steps)}{by} on {name}, the last at {when}. The program had "
        "ended before it stored the mask; it is stored now."
    )


def _of_others(outcomes: Counter[Outcome]) -> str | None:
    """Say what became of steps that had waited while others had the project; None if nothing."""
    over, refused = outcomes[Outcome.OVER_OTHERS], outcomes[Outcome.REFUSED]
    if not (over or refused):
        return None
    told = ["Another program has worked on the same images, or on their classes, meanwhile."]
    if over:
        told.append(f"Steps of yours that are saved over what it has left: {over}.")
    if refused:
        told.append(
            f"Steps of yours that are not done, since its own stand in their way: {refused}. "
            "Look at the images, and do again what is to be."
        )
    return " ".join(told)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
