"""Steps are recorded in order by threads of their own, which hold out on a full disk."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from time import monotonic

from napari_protoseg.errors import (
    LOST,
    ProjectClosedError,
    ProjectError,
    ProjectLockedError,
    ProtosegError,
)
from napari_protoseg.project.edits import EditKind, NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.project.records import FreshConfidence
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

_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class _Fold:
    """A mask is to be stored with the steps before this one."""


_Waiting = tuple[int, NewStep | _Fold]
"""An image, and what is to be done of it."""


@dataclass
class _Line:
    """One kind of work, done in order by a thread of its own, and what has become of it."""

    of: type[NewStep | _Fold]
    failure: ProtosegError | None = None
    has_failed: bool = False
    """Also while another try has worked, but not all is done that waited."""
    set_aside: set[int] = field(default_factory=set)
    """Images that have failed, and are not tried before all are again."""
    due: float = 0.0
    """When that is."""
    is_urged: bool = False


class Recorder:
    """Records the steps of a project's images, in order, off the thread that makes them.

    Masks are stored by another thread: no step waits while a large one is made ready. The
    confidence of a prediction is stored then, and unknown (0) where the program is killed before.

    A step is safe on disk once it is no longer `unsynced`. Where it cannot be recorded, nothing
    is dropped: the listener is told, and it is tried again every few seconds, and whenever `retry`
    is called. So it is whatever the reason, and also where nobody has foreseen it. What cannot be
    recorded of one image holds up no other's.

    Parameters
    ----------
    project
        Where steps are recorded; it must stay open until the recorder is closed.
    tell
        Is called with each event, in a thread of the recorder's; it must return soon, and not call
        the recorder's `flush` or `close`.
    retry_seconds
        How long to wait before it is tried again.
    """

    def __init__(
        self,
        project: Project,
        tell: Callable[[RecorderEvent], None],
        *,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._project = self._first_project = project
        self._tell = tell
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._confidence: dict[int, FreshConfidence] = {}
        self._handed_over: Counter[Outcome] = Counter()
        self._is_closing = False
        self._has_ended = False
        self._steps, self._masks = _Line(NewStep), _Line(_Fold)
        self._threads = [
            threading.Thread(target=self._work, args=(line,), name=name, daemon=True)
            for line, name in ((self._steps, "recorder"), (self._masks, "mask writer"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unsynced(self) -> tuple[NewStep, ...]:
        """The steps that are not on disk yet, in order."""
        with self._changed:
            return tuple(item for _, item in self._waiting if isinstance(item, NewStep))

    @property
    def failure(self) -> ProtosegError | None:
        """Why steps cannot be recorded; None while they can."""
        with self._changed:
            return self._steps.failure

    @property
    def failure_of_masks(self) -> ProtosegError | None:
        """Why masks cannot be stored; None while they can."""
        with self._changed:
            return self._masks.failure

    @property
    def handed_over(self) -> Counter[Outcome]:
        """What has become of the steps that were recorded in another opening of the project."""
        with self._changed:
            return self._handed_over.copy()

    def record(self, image_id: int, step: NewStep) -> None:
        """Let a step be recorded; return at once."""
        self._add(image_id, step)

    def fold(self, image_id: int) -> None:
        """Let the mask of an image be stored with all steps so far; return at once."""
        self._add(image_id, _Fold())

    def retry(self) -> None:
        """Try now what could not be recorded."""
        with self._changed:
            self._urge(self._steps, self._masks)

    def go_on_in(self, project: Project) -> None:
        """Record in another opening of the same project from now on, also what waits.

        It returns at once. What is just being recorded in the one before may still end there; where
        it fails, it is tried in the other.
        """
        with self._changed:
            self._project = project
        self.retry()

    def flush(self, timeout_seconds: float | None = None, *, with_masks: bool = True) -> None:
        """Wait until all is on disk.

        Parameters
        ----------
        timeout_seconds
            How long at most; None: as long as it takes.
        with_masks
            Wait for masks that are to be stored, too, and not for the steps alone.

        Raises
        ------
        ProtosegError
            All was tried once more, and some of it has failed: that is still kept and tried again.
        TimeoutError
            It has taken longer.
        """
        lines = (self._steps, self._masks) if with_masks else (self._steps,)
        with self._changed:
            self._urge(*(line for line in lines if line.failure is not None))

            def is_waiting() -> bool:
                return any(map(self._is_waiting, lines))

            def failures() -> list[ProtosegError]:
                """Of steps; of masks once no step waits, which whoever gives up would lose."""
                count = self._steps_waiting()
                return [
                    line.failure
                    for line in lines
                    if line.failure and (line is self._steps or not count)
                    if not (line.is_urged or self._next(line))  # nothing is left to try
                ]

            def is_settled() -> bool:
                return not is_waiting() or bool(failures()) or self._has_ended

            if not self._changed.wait_for(is_settled, timeout_seconds):
                count = self._steps_waiting()
                steps = "1 step is" if count == 1 else f"{count} steps are"
                raise TimeoutError(f"{steps} not recorded yet" if count else "masks are not stored")
            if is_waiting() and failures():
                raise failures()[0]
            if is_waiting():
                raise RuntimeError("the recorder has ended before all was recorded")

    def close(self, timeout_seconds: float | None = None) -> None:
        """Wait until all is on disk, then end; closing twice is allowed.

        Raises
        ------
        ProtosegError, TimeoutError
            As by `flush`; the recorder then goes on.
        """
        self.flush(timeout_seconds)
        self._end(timeout_seconds)

    def abandon(self, timeout_seconds: float | None = None) -> tuple[NewStep, ...]:
        """End after what is just being recorded; return the steps that are lost by it.

        Where that takes longer than `timeout_seconds`, its steps are among them: they are recorded
        wholly or not at all once the disk answers, and nothing after them.
        """
        self._end(timeout_seconds)
        return self.unsynced

    def _end(self, timeout_seconds: float | None) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        deadline = None if timeout_seconds is None else monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(None if deadline is None else max(deadline - monotonic(), 0))

    def _add(self, image_id: int, item: NewStep | _Fold) -> None:
        with self._changed:
            if self._is_closing or self._has_ended:
                raise RuntimeError("the recorder has ended")
            self._waiting.append((image_id, item))
            self._changed.notify_all()

    def _urge(self, *lines: _Line) -> None:
        for line in lines:
            line.is_urged = True
        self._changed.notify_all()

    def _work(self, line: _Line) -> None:
        try:
            while self._has_work(line):
                self._try(line)
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _has_work(self, line: _Line) -> bool:
        """Wait until there is something to try; False where the recorder is to end."""

        def has_next() -> bool:
            return bool(self._next(line)) or self._is_closing

        with self._changed:
            if line.set_aside:
                rest = max(line.due - monotonic(), 0)
                self._changed.wait_for(lambda: line.is_urged or has_next(), rest)
                if line.is_urged or monotonic() >= line.due:
                    line.set_aside.clear()
            self._changed.wait_for(has_next)
            line.is_urged = False
            return not self._is_closing

    def _next(self, line: _Line) -> list[_Waiting]:
        """Return what to try first: a run of steps of one image, or a fold of recorded steps."""
        if line is self._steps:
            steps = [
                waiting
                for waiting in self._waiting
                if isinstance(waiting[1], NewStep) and waiting[0] not in line.set_aside
            ]
            return list(takewhile(lambda waiting: waiting[0] == steps[0][0], steps))
        unrecorded = set()
        for waiting in self._waiting:
            image_id, item = waiting
            if isinstance(item, NewStep):
                unrecorded.add(image_id)
            elif image_id not in unrecorded | line.set_aside:
                return [waiting]
        return []

    def _try(self, line: _Line) -> None:
        """Record the steps that wait first, in one transaction, or store the first mask."""
        with self._changed:
            project, tried = self._project, self._next(line)
        image_id = tried[0][0]
        try:
            if line is self._steps:
                steps = [item for _, item in tried if isinstance(item, NewStep)]
                events = self._record(project, image_id, steps)
            else:
                events = self._store(project, image_id)
        except ProtosegError as error:
            self._fail(line, image_id, project, error)
            return
        except Exception as error:  # noqa: BLE001 (it is told, and what waits must not be lost)
            self._fail(line, image_id, project, _unexpected(project, error))
            return
        if self._note_done(line, tried):
            events.append(RecordingResumed() if line is self._steps else StoringResumed())
        for event in events:
            self._report(event)

    def _fail(self, line: _Line, image_id: int, project: Project, error: ProtosegError) -> None:
        if not self._note_failure(line, image_id, project, error):
            return
        if line is self._steps:
            self._report(RecordingFailed(error, len(self.unsynced)))
        else:
            self._report(StoringFailed(error))

    def _report(self, event: RecorderEvent) -> None:
        """Tell the listener; an error of its own is shown as that of a thread, and ends nothing."""
        try:
            self._tell(event)
        except Exception:  # noqa: BLE001
            found = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(found))

    def _record(self, project: Project, image_id: int, steps: list[NewStep]) -> list[RecorderEvent]:
        outcomes = project.record_steps(image_id, steps)
        with self._changed:
            if project is not self._first_project:
                self._handed_over.update(outcomes)
            if all(outcome is Outcome.AS_MADE for outcome in outcomes):
                self._keep_confidence(image_id, steps)
                return []
            self._confidence.pop(image_id, None)  # others may have stored another prediction
            return [MaskMoved(image_id)]

    def _store(self, project: Project, image_id: int) -> list[RecorderEvent]:
        with self._changed:
            confidence = self._confidence.get(image_id)
        try:
            folded = project.fold_journal(image_id, confidence)
        except (ProjectLockedError, ProjectClosedError):
            raise  # no mask is damaged
        except (ProjectError, *LOST) as error:
            return [FoldFailed(image_id, error)]  # to try again would keep others waiting
        with self._changed:
            if self._confidence.get(image_id) is confidence:  # else there is a newer prediction
                self._confidence.pop(image_id, None)
        return [Folded(image_id)] if folded else []

    def _keep_confidence(self, image_id: int, steps: list[NewStep]) -> None:
        """Keep that of the last prediction until it is stored with the mask."""
        for step in steps:
            if step.edit.kind is EditKind.MODEL:
                self._confidence.pop(image_id, None)
                if step.confidence is not None:
                    kept = FreshConfidence(step.confidence, step.source_after)
                    self._confidence[image_id] = kept

    def _note_done(self, line: _Line, done: list[_Waiting]) -> bool:
        """Note that a try has worked; True where some had failed, and nothing waits any more."""
        with self._changed:
            self._waiting = self._all_but(done)
            if not line.set_aside:
                line.failure = None
            has_resumed = line.has_failed and not self._is_waiting(line)
            if has_resumed:
                line.has_failed = False
            self._changed.notify_all()
            return has_resumed

    def _all_but(self, gone: list[_Waiting]) -> list[_Waiting]:
        others = set(map(id, gone))
        return [waiting for waiting in self._waiting if id(waiting) not in others]

    def _is_waiting(self, line: _Line) -> bool:
        return any(isinstance(item, line.of) for _, item in self._waiting)

    def _steps_waiting(self) -> int:
        return sum(isinstance(item, NewStep) for _, item in self._waiting)

    def _note_failure(
        self, line: _Line, image_id: int, project: Project, failure: ProtosegError
    ) -> bool:
        """Note that a try has failed; False where it was in an opening that was left since."""
        with self._changed:
            if project is not self._project:
                return False
            line.failure = failure
            line.has_failed = True
            line.set_aside.add(image_id)
            line.due = monotonic() + self._retry_seconds
            self._changed.notify_all()
            return True


def _unexpected(project: Project, error: Exception) -> UnexpectedFailure:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    failure = UnexpectedFailure(
        f"it cannot be recorded, for a reason that was not foreseen ({said})",
        where=project.folder,
        remedy="Where that lasts, report it with its details.",
    )
    failure.__cause__ = error
    return failure
