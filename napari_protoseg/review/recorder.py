"""Steps are recorded in order by a thread of its own, which holds out on a full disk."""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import (
    ProjectError,
    ProjectLockedError,
    ProtosegError,
)
from napari_protoseg.project.edits import EditKind, Step
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.project.records import MaskSource
from napari_protoseg.review.recorder_events import (
    Folded,
    FoldFailed,
    MaskMoved,
    RecorderEvent,
    RecordingFailed,
    RecordingResumed,
    UnexpectedFailure,
)

_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class _Confidence:
    """Of a prediction, and what that came from: where the mask comes from another, it is stale."""

    values: NDArray[np.float16]
    source: MaskSource | None


@dataclass(frozen=True)
class _Fold:
    """A mask is to be stored with the steps before this one."""


class Recorder:
    """Records the steps of a project's images, in order, off the thread that makes them.

    While a mask is folded, steps wait: a large one is best folded when its image is left. The
    confidence of a prediction is stored then, and unknown (0) where the program is killed before.

    A step is safe on disk once it is no longer `unsynced`. Where it cannot be recorded, nothing
    is dropped: the listener is told, and it is tried again every few seconds, and whenever `retry`
    is called. So it is whatever the reason, and also where nobody has foreseen it.

    Parameters
    ----------
    project
        Where steps are recorded; it must stay open until the recorder is closed.
    tell
        Is called with each event, in the recorder's thread; it must return soon, and not call
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
        self._waiting: deque[tuple[int, Step | _Fold]] = deque()
        self._confidence: dict[int, _Confidence] = {}
        self._handed_over: Counter[Outcome] = Counter()
        self._failure: ProtosegError | None = None
        self._has_failed = False
        self._tries = 0
        self._is_urged = False
        self._is_closing = False
        self._has_ended = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def unsynced(self) -> tuple[Step, ...]:
        """The steps that are not on disk yet, in order."""
        with self._changed:
            return tuple(item for _, item in self._waiting if isinstance(item, Step))

    @property
    def failure(self) -> ProtosegError | None:
        """Why steps cannot be recorded; None while they can."""
        with self._changed:
            return self._failure

    @property
    def handed_over(self) -> Counter[Outcome]:
        """What has become of the steps that were recorded in another opening of the project."""
        with self._changed:
            return self._handed_over.copy()

    def record(self, image_id: int, step: Step) -> None:
        """Let a step be recorded; return at once."""
        self._add(image_id, step)

    def fold(self, image_id: int) -> None:
        """Let the mask of an image be stored with all steps so far; return at once."""
        self._add(image_id, _Fold())

    def retry(self) -> None:
        """Try now what could not be recorded."""
        with self._changed:
            self._is_urged = True
            self._changed.notify_all()

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
            It was tried once more, and failed; everything is still kept and tried again.
        TimeoutError
            It has taken longer.
        """
        with self._changed:
            first = self._tries
            if self._failure is not None:
                self._is_urged = True
                self._changed.notify_all()

            def is_waiting() -> bool:
                if with_masks:
                    return bool(self._waiting)
                return self._steps_waiting() > 0

            def is_settled() -> bool:
                failed = self._failure is not None and self._tries > first
                return not is_waiting() or failed or self._has_ended

            if not self._changed.wait_for(is_settled, timeout_seconds):
                count = self._steps_waiting()
                steps = "1 step is" if count == 1 else f"{count} steps are"
                raise TimeoutError(f"{steps} not recorded yet" if count else "masks are not stored")
            if is_waiting() and self._failure is not None:
                raise self._failure
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

    def abandon(self, timeout_seconds: float | None = None) -> tuple[Step, ...]:
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
        self._thread.join(timeout_seconds)

    def _add(self, image_id: int, item: Step | _Fold) -> None:
        with self._changed:
            if self._is_closing or self._has_ended:
                raise RuntimeError("the recorder has ended")
            self._waiting.append((image_id, item))
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while self._has_work():
                self._try()
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _has_work(self) -> bool:
        """Wait until there is something to try; False where the recorder is to end."""
        with self._changed:
            if self._failure is not None:
                self._changed.wait_for(
                    lambda: self._is_urged or self._is_closing, self._retry_seconds
                )
            self._changed.wait_for(lambda: bool(self._waiting) or self._is_closing)
            self._is_urged = False
            return not self._is_closing

    def _try(self) -> None:
        """Record what waits first: a fold, or a run of steps of one image in one transaction."""
        with self._changed:
            project = self._project
        try:
            image_id, items = self._first()
            events = self._done(project, image_id, items)
        except ProtosegError as error:
            self._fail(project, error)
            return
        except Exception as error:  # noqa: BLE001 (it is told, and what waits must not be lost)
            self._fail(project, _unexpected(project, error))
            return
        if self._note_done(len(items)):
            events.append(RecordingResumed())
        for event in events:
            self._report(event)

    def _fail(self, project: Project, error: ProtosegError) -> None:
        if self._note_failure(project, error):
            self._report(RecordingFailed(error, len(self.unsynced)))

    def _report(self, event: RecorderEvent) -> None:
        """Tell the listener; an error of its own is shown as that of a thread, and ends nothing."""
        try:
            self._tell(event)
        except Exception:  # noqa: BLE001
            found = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(found))

    def _done(
        self, project: Project, image_id: int, items: list[Step | _Fold]
    ) -> list[RecorderEvent]:
        steps = [item for item in items if isinstance(item, Step)]
        if steps:
            outcomes = project.record_steps(image_id, steps)
            if project is not self._first_project:
                with self._changed:
                    self._handed_over.update(outcomes)
            moved = any(outcome is not Outcome.AS_MADE for outcome in outcomes)
            self._keep_confidence(image_id, steps, moved=moved)
            return [MaskMoved(image_id)] if moved else []
        try:
            folded = project.fold_journal(image_id, self._fresh_confidence(project, image_id))
        except ProjectError as error:
            if isinstance(error, ProjectLockedError) or project.is_read_only:
                raise  # others have it, or it is closed here: no mask is damaged
            return [FoldFailed(image_id, error)]  # to try again would keep others waiting
        self._confidence.pop(image_id, None)
        return [Folded(image_id)] if folded else []

    def _keep_confidence(self, image_id: int, steps: list[Step], *, moved: bool) -> None:
        """Keep that of the last prediction until the mask is stored, as long as it holds."""
        if moved:  # others may have stored another prediction
            self._confidence.pop(image_id, None)
            return
        for step in steps:
            if step.edit.kind is EditKind.MODEL:
                self._confidence.pop(image_id, None)
                if step.confidence is not None:
                    self._confidence[image_id] = _Confidence(step.confidence, step.source_after)

    def _fresh_confidence(self, project: Project, image_id: int) -> NDArray[np.float16] | None:
        """Return what was kept, unless the mask comes from another prediction by now.

        A job or another program may have stored one of which no step here knows: the image was
        read anew since, or left, or the project was opened again.
        """
        kept = self._confidence.get(image_id)
        if kept is None:
            return None
        stored = project.read_mask(image_id)
        return kept.values if stored is not None and stored.source == kept.source else None

    def _note_done(self, count: int) -> bool:
        """Note that a try has worked; True where some had failed, and no step waits any more."""
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            self._failure = None
            self._tries += 1
            has_resumed = self._has_failed and not self._steps_waiting()
            if has_resumed:
                self._has_failed = False
            self._changed.notify_all()
            return has_resumed

    def _steps_waiting(self) -> int:
        return sum(isinstance(item, Step) for _, item in self._waiting)

    def _note_failure(self, project: Project, failure: ProtosegError) -> bool:
        """Note that a try has failed; False where it was in an opening that was left since."""
        with self._changed:
            if project is not self._project:
                return False
            if isinstance(self._waiting[0][1], _Fold):
                self._waiting.rotate(-1)  # a stroke needs less room than a mask
            self._failure = failure
            self._has_failed = True
            self._tries += 1
            self._changed.notify_all()
            return True

    def _first(self) -> tuple[int, list[Step | _Fold]]:
        """Return what to try now."""
        with self._changed:
            image_id, first = self._waiting[0]
            items: list[Step | _Fold] = [first]
            if isinstance(first, Step):
                for other_id, item in list(self._waiting)[1:]:
                    if other_id != image_id or not isinstance(item, Step):
                        break
                    items.append(item)
            return image_id, items


def _unexpected(project: Project, error: Exception) -> UnexpectedFailure:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    failure = UnexpectedFailure(
        f"it cannot be recorded, for a reason that was not foreseen ({said})",
        where=project.folder,
        remedy="Where that lasts, report it with its details.",
    )
    failure.__cause__ = error
    return failure
