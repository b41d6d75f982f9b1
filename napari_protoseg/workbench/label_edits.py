"""Changes of labels and classes made by hand, and the history that undoes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_KEPT_EDITS = 1000


@dataclass(frozen=True)
class LabelChange:
    """What becomes of one class in one image.

    Parameters
    ----------
    image_id
        The image.
    class_id
        By id, so that it still holds after classes were added.
    before, after
        1 present, 0 absent, -1 unknown.
    """

    image_id: int
    class_id: int
    before: int
    after: int

    def reversed(self) -> LabelChange:
        """Return the change that takes this one back."""
        return LabelChange(self.image_id, self.class_id, self.after, self.before)


LabelEdit = tuple[LabelChange, ...]
"""What one click or key has changed."""


@dataclass(frozen=True)
class ClassRemoval:
    """A class that was removed, or merged into another.

    Parameters
    ----------
    class_id
        Its id.
    heir
        That of the other one, or None.
    """

    class_id: int
    heir: int | None


class LabelHistory:
    """The edits of one project, in their order: of labels, and classes that went.

    An edit is looked at first and counted as undone only once it was written, so that a
    full disk leaves history and labels in step.
    """

    def __init__(self) -> None:
        self._done: list[LabelEdit | ClassRemoval] = []
        self._undone: list[LabelEdit | ClassRemoval] = []

    def clear(self) -> None:
        """Forget all edits."""
        self._done.clear()
        self._undone.clear()

    def add(self, changes: Iterable[LabelChange]) -> None:
        """Count an edit as done; what was undone before cannot be done again."""
        self._add(tuple(changes))

    def add_removal(self, removal: ClassRemoval) -> None:
        """Count a class as gone; what was undone before cannot be done again."""
        self._add(removal)

    def came_back(self, class_id: int) -> None:
        """Forget that a class went, which came back by another way than this history."""
        for edits in (self._done, self._undone):
            edits[:] = [
                edit
                for edit in edits
                if not (isinstance(edit, ClassRemoval) and edit.class_id == class_id)
            ]

    def to_undo(self) -> LabelEdit | ClassRemoval | None:
        """Return the changes that take the last edit back, or the class that went; else None."""
        if not self._done:
            return None
        last = self._done[-1]
        if isinstance(last, ClassRemoval):
            return last
        return tuple(change.reversed() for change in reversed(last))

    def undone(self) -> None:
        """Count the last edit as undone."""
        self._undone.append(self._done.pop())

    def to_redo(self) -> LabelEdit | ClassRemoval | None:
        """Return the edit that was undone last; None without one."""
        return self._undone[-1] if self._undone else None

    def redone(self) -> None:
        """Count the edit that was undone last as done again."""
        self._done.append(self._undone.pop())

    def _add(self, edit: LabelEdit | ClassRemoval) -> None:
        self._done.append(edit)
        del self._done[:-_KEPT_EDITS]
        self._undone.clear()
