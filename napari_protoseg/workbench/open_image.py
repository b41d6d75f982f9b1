"""The open image: its pixels, its mask, and what a person draws on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_protoseg.events import Job, Progress
from napari_protoseg.jobs.look import Sight
from napari_protoseg.jobs.records import read_recorded
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.workbench.mask_edit import MaskEdit
from napari_protoseg.workbench.mask_steps import Mask
from napari_protoseg.workbench.session import Session


class OpenImage:
    """Reads the image that the session opens, and saves its mask before it is left.

    Whoever shows an image that was `loaded` sets `drawn`, to return a copy of its mask as it is
    then, shows `mask` anew where it has changed, and notes each stroke, undo and redo. A stroke
    that is under way as the mask is `changing` has to end there, and may go on as another one.

    Parameters
    ----------
    session
        What all pages share.
    """

    loaded = Signal()
    """Another image and its mask were read, or none is open."""
    changing = Signal()
    """Others than the person who draws are about to change the mask, and may do so or not."""
    mask_changed = Signal()
    """The mask was changed by others than the person who draws."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.image: ImageRecord | None = None
        self.pixels: NDArray[np.uint8] | None = None
        self.mask: Mask | None = None
        self.drawn: Callable[[], Mask] | None = None
        self._edit: MaskEdit | None = None
        session.before_leaving.append(self.save)
        session.current_changed.connect(self._open)
        session.masks_changed.connect(self._reread)

    @property
    def is_edited(self) -> bool:
        """Whether something is drawn that is not saved."""
        return self._edit is not None and self._edit.is_edited(self._seen())

    @property
    def begins_anew(self) -> bool:
        """Whether the last change of `mask`, and all before it, must not be undone any more."""
        return self._edit is not None and self._edit.begins_anew

    def note_stroke(self) -> None:
        """Note that a person has drawn what can be undone later."""
        if self._edit is not None:
            self._edit.note_stroke(self._seen())

    def note_undo(self, before: Mask) -> None:
        """Note that the last stroke, or the last change of `mask`, was undone.

        Parameters
        ----------
        before
            What was drawn until then.
        """
        if self._edit is not None:
            self._edit.undo(before, self._seen())

    def note_redo(self, before: Mask) -> None:
        """Note that what was undone last was redone; see `note_undo`."""
        if self._edit is not None:
            self._edit.redo(before, self._seen())

    def forget_strokes(self) -> None:
        """Note that nothing from before can be undone any more."""
        if self._edit is not None:
            self._edit.forget()

    def save(self) -> None:
        """Store what a person has drawn.

        Raises
        ------
        ProjectError, StorageError
            It cannot be stored; what was drawn is still there.
        """
        self._save(whole=False)

    def save_whole(self) -> bool:
        """Store the mask as it is seen: what a person has drawn, and what a model proposes.

        Returns
        -------
        bool
            Whether it is stored now; False where there is none: nothing is drawn, and no model has
            proposed anything yet, or what it has was undone.

        Raises
        ------
        ProjectError, StorageError
            It cannot be stored; what was drawn is still there.
        """
        self._save(whole=True)
        return self._edit is not None and self._edit.is_stored

    def propose(self, sight: Sight) -> None:
        """Show the mask that a model makes of the image, where no person has set pixels."""
        if self._edit is None or self.image is None or sight.image.id != self.image.id:
            return
        edit = self._edit
        self.changing.emit()
        self.session.attempt(lambda: self._show(edit.propose(sight, self._seen())))

    def _seen(self) -> Mask:
        """Return the mask as it is drawn; as it was last shown where nobody draws it."""
        assert self.mask is not None
        return self.mask if self.drawn is None else self.drawn()

    def _save(self, *, whole: bool) -> None:
        if self._edit is None:
            return
        drawn = self._seen()
        if self._edit.save(drawn, whole=whole):
            self.mask = drawn
            self.session.reviewed.emit()

    def _show(self, mask: Mask) -> None:
        if self.mask is None or mask is not self._seen():
            self.mask = mask
            self.mask_changed.emit()

    def _reread(self) -> None:
        edit = self._edit
        if edit is not None:
            self.changing.emit()
            self.session.attempt(lambda: self._show(edit.reread(self._seen())))

    def _open(self) -> None:
        """Let go of what was open, and read the image that is to be opened."""
        image = self.session.current
        self.image = self.pixels = self.mask = self._edit = self.drawn = None
        if image is None:
            self.loaded.emit()
            return
        self.session.run_aside("Open image", _read(image), partial(self._opened, image))

    def _opened(self, image: ImageRecord, pixels: NDArray[np.uint8] | None) -> None:
        current = self.session.current
        if current is None or current.id != image.id or self.session.project is None:
            return  # another was opened meanwhile
        self.session.is_current_unread = pixels is None
        if pixels is not None:
            self.session.attempt(partial(self._take, current, pixels))
        self.loaded.emit()

    def _take(self, image: ImageRecord, pixels: NDArray[np.uint8]) -> None:
        session = self.session
        edit = MaskEdit(session.require_project(), image, lambda: session.person, session.now)
        self.image, self.pixels = image, pixels
        self._edit, self.mask = edit, edit.shown.copy()


def _read(image: ImageRecord) -> Job[NDArray[np.uint8]]:
    yield Progress("Reading the image", 0, 1)
    return read_recorded(image)
