"""What was said to the person of the task under way, or of the last one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psygnal import Signal

from napari_protoseg.events import Notice, Severity
from napari_protoseg.workbench.tasks import Problem

MARK = "\N{WARNING SIGN} "
"""Before each sentence that should not be missed."""

_KEPT = 50


class Messages:
    """Sentences of jobs and pages: the last one, and above it what warns.

    A sentence takes the place of the one before. A warning stays until it is dismissed, or until
    the next task or another project begins; so does a problem that comes by itself beside a task.
    One that `stand`s stays until whoever has said it lifts it.
    """

    changed = Signal()

    def __init__(self) -> None:
        self.warnings: tuple[str, ...] = ()
        self.standing = ""
        self.last = ""
        self._said: list[str] = []
        self._traceback = ""
        self._keeps = False

    @property
    def details(self) -> str:
        """Everything that was said, a line each, then the traceback of the last problem."""
        return "\n".join([*self._said, *([self._traceback] if self._traceback else [])])

    @property
    def shown(self) -> str:
        """Warnings and last sentence, a line each."""
        warnings = (self.standing, *self.warnings) if self.standing else self.warnings
        return "\n".join([*(MARK + warning for warning in warnings), self.last]).strip()

    def take(self, notice: Notice) -> None:
        """Show what a job or a page says."""
        self._traceback = ""
        if notice.severity is Severity.WARNING:
            self._warn(notice.text)
        else:
            self.last = notice.text
            self._note(notice.text)
        self.changed.emit()

    def take_problem(self, problem: Problem, *, stays: bool) -> None:
        """Show why something did not work; `stays` where other sentences are to follow."""
        self._traceback = problem.details
        if stays:
            self._warn(problem.sentence)
        else:
            self.last = MARK + problem.sentence
            self._note(self.last)
        self.changed.emit()

    def stand(self, text: str) -> None:
        """Show a warning that stays, in place of the one that stood before."""
        if text != self.standing:
            self.standing = text
            self._note(MARK + text)
            self.changed.emit()

    def lift(self) -> None:
        """Take away the warning that stands: it holds no longer."""
        if self.standing:
            self.standing = ""
            self.changed.emit()

    def dismiss(self) -> None:
        """Take the warnings as read; they stay in the details."""
        self.warnings = ()
        self.changed.emit()

    def clear(self) -> None:
        """Forget all: something else begins."""
        if self._keeps:
            return
        self.warnings, self.last, self._traceback = (), "", ""
        self._said.clear()
        self.changed.emit()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Forget nothing meanwhile."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings = (*self.warnings, text)
            self._note(MARK + text)

    def _note(self, line: str) -> None:
        self._said = [*self._said, line][-_KEPT:]
