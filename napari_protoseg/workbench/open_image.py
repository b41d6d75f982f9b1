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
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import OpenedJournal
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.review.edited_mask import Block, PixelOrigin
from napari_protoseg.workbench.open_mask import Mask, OpenMask
from napari_protoseg.workbench.recording import Recording
from napari_protoseg.workbench.session import Session


class OpenImage:
    """Reads the image that the session opens, and sees that what is done to its mask is kept.

    Whoever shows an image that was `loaded` sets `drawn`, to return its mask as it is drawn then,
    shows the block of `mask` that has changed, and tells of each stroke. A stroke that is under
    way as the mask is `changing` has to end there, and may go on as another one.

    Parameters
    ----------
    session
        What all pages share.
    recording
        Records what is done.
    """

    loaded = Signal()
    """Another image and its mask were read, or none is open."""
    changing = Signal()
    """Something else than a stroke is about to happen to the mask."""
    mask_changed = Signal(object)
    """The mask was changed by something else than a stroke, within a `Block`."""
    went_ahead = Signal()
    """There is a first edit that the stored mask does not hold, or edits are held up or no more."""

    def __init__(self, session: Session, recording: Recording) -> None:
        self.session = session
        self._recording = recording
        self.image: ImageRecord | None = None
        self.pixels: NDArray[np.uint8] | None = None
        self.drawn: Callable[[], Mask] | None = None
        self._mask: OpenMask | None = None
        self._is_behind = False
        session.before_leaving.append(self.leave)
        session.before_saving.extend((self.save, recording.flush))
        session.current_changed.connect(self._open)
        session.masks_changed.connect(self._catch_up)
        session.schema_changed.connect(self._follow_classes)
        recording.moved.connect(self._follow)
        recording.resumed.connect(self._catch_up_late)
        recording.resumed.connect(self.went_ahead.emit)
        recording.held_up.connect(self.went_ahead.emit)

    @property
    def mask(self) -> Mask | None:
        """The mask but for what is drawn just now, as a view that cannot be written."""
        return None if self._mask is None else self._mask.mask

    @property
    def is_protected(self) -> NDArray[np.bool_] | None:
        """Where no model may change the mask."""
        return None if self._mask is None else self._mask.is_protected

    @property
    def is_proposed(self) -> bool:
        """Whether a model proposes something that is not recorded."""
        return self._mask is not None and self._mask.is_proposed

    @property
    def is_ahead(self) -> bool:
        """Whether something is recorded that the stored mask does not hold yet."""
        return self._mask is not None and self._mask.is_ahead

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask: a model has made one, or somebody has drawn."""
        return self._mask is not None and self._mask.is_there

    @property
    def is_held_up(self) -> bool:
        """Whether edits cannot be recorded just now, and are kept in memory."""
        return self._recording.is_held_up

    def origin_of(self, row: int, column: int) -> PixelOrigin | None:
        """Tell who has set a pixel, and when; None where no image is open, or it ends before."""
        mask = self._mask
        if mask is None or not (0 <= row < mask.mask.shape[0] and 0 <= column < mask.mask.shape[1]):
            return None
        return mask.origin_of(row, column)

    def take_stroke(self, block: Block | None = None) -> None:
        """Take what a person has drawn since the last time, as one edit, to be recorded at once.

        What cannot be taken, because it is no class, is told and taken back.

        Parameters
        ----------
        block
            The only rows and columns in which something was drawn; None: it is looked for.
        """
        mask = self._mask
        if mask is None:
            return
        was_ahead = mask.is_ahead
        if not self.session.attempt(lambda: mask.stroke(self._seen(), block)):
            self.mask_changed.emit(block or _whole(mask.mask))
        elif mask.is_ahead and not was_ahead:
            self.went_ahead.emit()

    def undo(self) -> None:
        """Undo what was done last to the mask, whoever has done it, and however long ago.

        In a project that is read-only it is told why not, but for what is not on disk.
        """
        self._go(OpenMask.undo)

    def redo(self) -> None:
        """Redo what was undone last."""
        self._go(OpenMask.redo)

    def release(self, block: Block) -> int:
        """Give pixels back to the model: those that this person has set, and imported ones.

        Parameters
        ----------
        block
            Rows and columns in which all of them are given back.

        Returns
        -------
        int
            How many.
        """
        if self._mask is None:
            return 0
        self.changing.emit()
        return self._mask.release(block)

    def leave(self) -> None:
        """See that all that a person has done is on disk; the mask is stored soon after.

        Raises
        ------
        ProtosegError
            It cannot be written; it is kept, and tried again.
        """
        if self._mask is not None:
            self._end_stroke()
            self._mask.leave()

    def save(self) -> None:
        """Store the mask as a person has left it.

        Raises
        ------
        ProtosegError
            What was done is not on disk; it is kept, and tried again.
        """
        if self._mask is not None:
            self._end_stroke()
            if self._mask.save():
                self.session.reviewed.emit()

    def save_whole(self) -> bool:
        """Store the mask as it is seen: what a person has drawn, and what a model proposes.

        Returns
        -------
        bool
            Whether there is one; False where nothing is drawn, and no model has proposed anything
            yet, or what it has was undone.

        Raises
        ------
        ProtosegError
            It cannot be stored; what was drawn is still there.
        """
        mask = self._mask
        if mask is None:
            return False
        self._end_stroke()
        if mask.store():
            self.session.reviewed.emit()
        return mask.is_there

    def propose(self, sight: Sight, *, anew: bool = False) -> bool:
        """Show the mask that a model makes of the image, where no person has set pixels.

        Parameters
        ----------
        sight
            What the model sees.
        anew
            Also where the mask is not outdated: pixels were given back to the model.

        Returns
        -------
        bool
            Whether the mask has changed, by a step that can be undone.
        """
        mask = self._mask
        if mask is None or self.image is None or sight.image.id != self.image.id:
            return False
        self.changing.emit()
        shown: list[Block | None] = []
        self.session.attempt(lambda: shown.append(mask.propose(sight, anew=anew)))
        for block in shown:
            self._show(block)
        return any(block is not None for block in shown)

    def _seen(self) -> Mask:
        """Return the mask as it is drawn; as it was last where nobody draws it."""
        assert self._mask is not None
        return self._mask.mask if self.drawn is None else self.drawn()

    def _end_stroke(self) -> None:
        """Take what is drawn, also what nobody has told of."""
        self.changing.emit()
        self.take_stroke()

    def _go(self, verb: Callable[[OpenMask], Block | None]) -> None:
        mask = self._mask
        if mask is None:
            return
        self.changing.emit()
        was_ahead = mask.is_ahead
        self.session.attempt(lambda: self._show(verb(mask)))
        if mask.is_ahead and not was_ahead:
            self.went_ahead.emit()

    def _show(self, block: Block | None) -> None:
        if block is not None:
            self.mask_changed.emit(block)

    def _follow(self, image_id: int) -> None:
        if self._mask is not None and self._mask.image_id == image_id:
            self._catch_up()

    def _catch_up_late(self) -> None:
        if self._is_behind and self._mask is not None:
            self._catch_up()

    def _catch_up(self) -> None:
        """Show the mask with what others have done; what is drawn stays."""
        mask = self._mask
        if mask is None:
            self._is_behind = True  # it may just be read
            return
        self._end_stroke()
        self._is_behind = not self.session.attempt(partial(self._reread, mask))

    def _reread(self, mask: OpenMask) -> None:
        """Read mask and history anew, once all that was done here is among them."""
        self._recording.flush()
        project = self.session.require_project()
        opened = project.open_journal(mask.image_id)
        if mask.follows(opened):
            return
        before = self._seen()
        self._mask = self._opened_mask(project, opened)
        self._show(_difference(before, self._mask.mask))

    def _follow_classes(self) -> None:
        if self._mask is not None:
            self._mask.know(self.session.require_project().schema)

    def _open(self) -> None:
        """Let go of what was open, and read the image that is to be opened."""
        image = self.session.current
        self.image = self.pixels = self._mask = self.drawn = None
        self._is_behind = False
        if image is None:
            self.loaded.emit()
            return
        project = self.session.require_project()
        self.session.run_aside("Open image", _read(project, image), partial(self._opened, image))

    def _opened(
        self, image: ImageRecord, found: tuple[NDArray[np.uint8], OpenedJournal] | None
    ) -> None:
        current = self.session.current
        if current is None or current.id != image.id or self.session.project is None:
            return  # another was opened meanwhile
        self._recording.look_who_writes()
        self.session.is_current_unread = found is None
        if found is not None:
            self.session.attempt(partial(self._take, current, *found))
        self.loaded.emit()
        self._catch_up_late()

    def _take(self, image: ImageRecord, pixels: NDArray[np.uint8], opened: OpenedJournal) -> None:
        self._mask = self._opened_mask(self.session.require_project(), opened)
        self.image, self.pixels = image, pixels

    def _opened_mask(self, project: Project, opened: OpenedJournal) -> OpenMask:
        session = self.session
        return OpenMask(project, opened, self._recording, lambda: session.person, session.now)


def _read(project: Project, image: ImageRecord) -> Job[tuple[NDArray[np.uint8], OpenedJournal]]:
    yield Progress("Reading the image", 0, 1)
    return read_recorded(image), project.open_journal(image.known_id)


def _whole(mask: Mask) -> Block:
    return slice(0, mask.shape[0]), slice(0, mask.shape[1])


def _difference(before: Mask, after: Mask) -> Block | None:
    """Return the rows and columns that hold all pixels in which two masks differ."""
    if before.shape != after.shape:
        return _whole(after)
    differs = before != after
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
