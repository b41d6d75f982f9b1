"""Changes of image-level labels made by hand, and the history that undoes them."""

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


class LabelHistory:
    """The edits of one project, in their order.

    An edit is looked at first and counted as undone only once it was written, so that a
    full disk leaves history and labels in step.
    """

    def __init__(self) -> None:
        self._done: list[LabelEdit] = []
        self._undone: list[LabelEdit] = []

    def clear(self) -> None:
        """Forget all edits."""
        self._done.clear()
        self._undone.clear()

    def add(self, changes: Iterable[LabelChange]) -> None:
        """Count an edit as done; what was undone before cannot be done again."""
        self._done.append(tuple(changes))
        del self._done[:-_KEPT_EDITS]
        self._undone.clear()

    def to_undo(self) -> LabelEdit | None:
        """Return the changes that take the last edit back; None without one."""
        if not self._done:
            return None
        return tuple(change.reversed() for change in reversed(self._done[-1]))

    def undone(self) -> None:
        """Count the last edit as undone."""
        self._undone.append(self._done.pop())

    def to_redo(self) -> LabelEdit | None:
        """Return the edit that was undone last; None without one."""
        return self._undone[-1] if self._undone else None

    def redone(self) -> None:
        """Count the edit that was undone last as done again."""
        self._done.append(self._undone.pop())
