"""The mask of one image in memory: who has set each pixel, and every edit that can be undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.edit_codec import PixelChange
from napari_protoseg.project.edit_rows import new_writer
from napari_protoseg.project.edits import (
    Action,
    Edit,
    EditKey,
    EditKind,
    NewStep,
    histories,
    journal_of,
    may_set,
)
from napari_protoseg.project.journal_changes import OpenedJournal
from napari_protoseg.project.records import (
    MaskSource,
    Origin,
    PredictedMask,
    are_protected,
    origins_of,
    setters_of_model,
)
from napari_protoseg.schema import UNLABELLED, ClassSchema

Block = tuple[slice, slice]
"""Rows and columns of a rectangle."""

_WHOLE: Block = (slice(None), slice(None))


@dataclass(frozen=True, kw_only=True)
class PixelOrigin:
    """Who has set a pixel.

    Parameters
    ----------
    origin
        What kind of setter.
    person
        Name, of pixels that a person has set or imported, where it is known.
    round_id
        Training that the pixel of a model came from; None for others, and where none was needed.
    time
        When; None where the edit was let go of, or nobody has set the pixel.
    """

    origin: Origin
    person: str | None
    round_id: int | None
    time: datetime | None


class EditedMask:
    """The mask of an image that is open, with its setters and its history.

    It knows neither disk nor screen. Every verb changes mask, setters and history together and at
    once, and returns the step to record and to show, or None where it changes nothing. What
    always holds:

    - no edit but a stroke changes a pixel that a person has set, and no prediction or propagation
      one that was imported; only `release` takes the protection from a pixel;
    - a pixel that nobody has set is unlabelled, and one of a model is not;
    - undoing every edit and redoing it leads through the very same masks and setters;
    - a new edit drops what was undone.

    Parameters
    ----------
    opened
        The mask and the journal as they are on disk.
    schema
        Its class ids are what may be drawn.

    Raises
    ------
    ProjectError
        The journal is damaged.
    """

    def __init__(self, opened: OpenedJournal, schema: ClassSchema) -> None:
        self.image_id = opened.image_id
        self.shape = opened.shape
        self._people = dict(opened.people)
        self._names = {setter: name for name, setter in opened.people.items()}
        self.know(schema)
        self._writer = new_writer()
        self._serial = 0
        self._since = opened.last if opened.is_begun else None
        self._schema = opened.schema
        if opened.stored is None:
            self._mask = np.full(self.shape, UNLABELLED, dtype=np.uint8)
            self._setters = np.full(self.shape, Origin.NONE, dtype=np.uint8)
            self._source: MaskSource | None = None
        else:
            self._mask = opened.stored.mask.copy()
            self._setters = opened.stored.setters.copy()
            self._source = opened.stored.source
        with journal_of(self.image_id):
            self._done, self._undone = histories(recorded.step for recorded in opened.steps)

    @property
    def mask(self) -> NDArray[np.uint8]:
        """The mask, ``(height, width)``, as a view that cannot be written."""
        return _read_only(self._mask)

    @property
    def setters(self) -> NDArray[np.uint8]:
        """Who has set each pixel, as in a `StoredMask`; a view that cannot be written."""
        return _read_only(self._setters)

    @property
    def origins(self) -> NDArray[np.uint8]:
        """Who has set each pixel, ``(height, width)`` of `Origin` values."""
        return origins_of(self._setters)

    @property
    def is_protected(self) -> NDArray[np.bool_]:
        """Where no prediction may change the mask, ``(height, width)``."""
        return are_protected(self._setters)

    @property
    def source(self) -> MaskSource | None:
        """What the model's pixels came from; None where there was never a mask."""
        return self._source

    @property
    def next_undo(self) -> EditKey | None:
        """The edit to undo next; None where there is none."""
        return self._done[-1].key if self._done else None

    @property
    def next_redo(self) -> EditKey | None:
        """The edit to redo next; None where there is none."""
        return self._undone[-1].key if self._undone else None

    def introduce(self, person: str, setter: int) -> None:
        """Let a person be known by the setter that the project has for them."""
        self._people[person] = setter
        self._names[setter] = person

    def know(self, schema: ClassSchema) -> None:
        """Let the classes of a later schema be drawn."""
        self._is_class = np.isin(np.arange(256), (UNLABELLED, *schema.ids))

    def attribute(self, source: MaskSource) -> None:
        """Let the model's pixels come from another model, which has made the very same."""
        self._source = source

    def stroke(
        self,
        drawn: NDArray[np.uint8],
        *,
        author: str,
        now: datetime,
        block: Block | None = None,
    ) -> NewStep | None:
        """Take what a person has drawn: the pixels that differ are theirs from now on.

        A person who was not introduced is a person without a name in the setters; the history
        keeps the name.

        Parameters
        ----------
        drawn
            ``(height, width)``, as it is seen now.
        author
            Name.
        now
            When.
        block
            The only rows and columns that are looked at; None: all.

        Raises
        ------
        ProjectError
            A value is no class id; nothing has changed.
        """
        looked = self._block(drawn, block)
        setter = self._people.get(author, Origin.PERSON)
        where = drawn[looked] != self._mask[looked]
        return self._enter(EditKind.STROKE, where, drawn, setter, now, author, block=looked)

    def propagate(
        self,
        mask: NDArray[np.uint8],
        *,
        author: str,
        now: datetime,
    ) -> NewStep | None:
        """Take what a machine has spread from a person's pixels, where it says something.

        Parameters
        ----------
        mask
            ``(height, width)``: class ids where it says something, else 0.
        author
            Name of the person who has asked for it.
        now
            When.

        Raises
        ------
        ProjectError
            A value is no class id; nothing has changed.
        """
        self._block(mask, None)
        said = mask != UNLABELLED
        return self._enter(EditKind.PROPAGATION, said, mask, Origin.PROPAGATED, now, author)

    def import_mask(self, mask: NDArray[np.uint8], *, author: str, now: datetime) -> NewStep | None:
        """Take the labelled pixels of a mask that was made elsewhere, except over a person's.

        Raises
        ------
        ProjectError
            A value is no class id; nothing has changed.
        """
        self._block(mask, None)
        said = mask != UNLABELLED
        return self._enter(EditKind.IMPORT, said, mask, Origin.IMPORTED, now, author)

    def enter_prediction(
        self, predicted: PredictedMask, source: MaskSource, *, now: datetime
    ) -> NewStep | None:
        """Take a model's mask where it changes something that is not protected.

        Parameters
        ----------
        predicted
            Mask and confidence; the step carries the confidence to where the mask is stored.
        source
            What it came from.
        now
            When.

        Raises
        ------
        ProjectError
            A value is no class id; nothing has changed.
        """
        self._block(predicted.mask, None)
        mask = predicted.mask
        step = self._enter(
            EditKind.MODEL,
            (mask != self._mask) | (setters_of_model(mask) != self._setters),
            mask,
            None,
            now,
            None,
            source=source,
        )
        return None if step is None else replace(step, confidence=predicted.confidence)

    def release(self, where: NDArray[np.bool_], *, author: str, now: datetime) -> NewStep | None:
        """Give protected pixels back to the model: their classes stay until it says otherwise.

        Parameters
        ----------
        where
            ``(height, width)``. Of these, the pixels that were imported are given back, those that
            this person has set, and those of persons without a name; not those of other persons.
        author
            Name.
        now
            When.
        """
        own = self._people.get(author, Origin.PERSON)
        given = where & np.isin(self._setters, [own, Origin.PERSON, Origin.IMPORTED])
        return self._enter(EditKind.RELEASE, given, self._mask, None, now, author)

    def undo(self, *, now: datetime) -> NewStep | None:
        """Undo the last edit; return the step, with the pixels as they are now."""
        return self._return(Action.UNDO, self._done, self._undone, now)

    def redo(self, *, now: datetime) -> NewStep | None:
        """Redo what was undone last; return the step, with the pixels as they are now."""
        return self._return(Action.REDO, self._undone, self._done, now)

    def origin_of(self, row: int, column: int) -> PixelOrigin:
        """Tell who has set a pixel, and when, as far back as the history goes.

        A pixel that was released is a model's from the time of its release.
        """
        setter = int(self._setters[row, column])
        origin = Origin(int(origins_of(self._setters[row, column])))
        name = self._names.get(setter)
        for edit in reversed(self._done):
            with journal_of(self.image_id):
                is_of_edit = edit.covers(row, column)
            if is_of_edit:
                by_machine = origin in (Origin.NONE, Origin.MODEL)
                return PixelOrigin(
                    origin=origin,
                    person=None if by_machine else name or edit.author,
                    round_id=edit.round_id,
                    time=edit.time,
                )
        of_model = self._source if origin is Origin.MODEL else None
        return PixelOrigin(
            origin=origin,
            person=name,
            round_id=None if of_model is None else of_model.round_id,
            time=None if of_model is None else of_model.created,
        )

    def _enter(
        self,
        kind: EditKind,
        where: NDArray[np.bool_],
        mask: NDArray[np.uint8],
        setter: int | None,
        now: datetime,
        author: str | None,
        *,
        block: Block = _WHOLE,
        source: MaskSource | None = None,
    ) -> NewStep | None:
        """Make an edit of what changes in a block and may, with a setter; None: the model's."""
        positions = self._positions(where, block)
        before = (self._mask.take(positions), self._setters.take(positions))
        classes = mask.take(positions)
        if setter is None:
            setters = setters_of_model(classes)
        else:
            setters = np.full(positions.size, setter, dtype=np.uint8)
        change = PixelChange(positions, before, (classes, setters))
        kept = may_set(kind, before[1]) & ((before[0] != classes) | (before[1] != setters))
        if not kept.all():
            change = change.only(kept)
        if change.positions.size == 0:
            return None
        self._require_classes(change)
        key = self._next_key()
        edit = Edit.of(
            change,
            key=key,
            kind=kind,
            author=author,
            time=now,
            shape=self.shape,
            sources=None if source is None else (self._source, source),
        )
        change.apply(self._mask, self._setters)
        self._source = source or self._source
        self._done.append(edit)
        self._undone.clear()
        return self._step(key, Action.DO, edit, now)

    def _return(
        self, action: Action, done: list[Edit], target: list[Edit], now: datetime
    ) -> NewStep | None:
        if not done:
            return None
        step = self._step(self._next_key(), action, done[-1], now)
        with journal_of(self.image_id):
            change = step.change
        change.apply(self._mask, self._setters)
        if step.edit.sources is not None:
            self._source = step.source_after
        target.append(done.pop())
        return step

    def _step(self, key: EditKey, action: Action, edit: Edit, now: datetime) -> NewStep:
        return NewStep(
            key=key, action=action, edit=edit, time=now, since=self._since, schema=self._schema
        )

    def _next_key(self) -> EditKey:
        self._serial += 1
        return EditKey(self._writer, self._serial)

    def _block(self, drawn: NDArray[np.uint8], block: Block | None) -> Block:
        """Return the whole image, or a block cut to it, for a mask of the right form."""
        if drawn.shape != self.shape or drawn.dtype != np.uint8:
            raise ProjectError(
                f"its mask is {drawn.dtype} {drawn.shape}",
                where=f"image {self.image_id}",
                remedy=f"It must be uint8 {self.shape}, as the image is.",
            )
        rows, columns = block or _WHOLE
        height, width = self.shape
        return slice(*rows.indices(height)[:2]), slice(*columns.indices(width)[:2])

    def _positions(self, where: NDArray[np.bool_], block: Block) -> NDArray[np.int64]:
        """Return the positions in the flat image that are marked in a block of it."""
        rows, columns = block
        found = np.flatnonzero(where)
        width = self.shape[1]
        if where.shape[1] != width:
            found = found // where.shape[1] * width + found % where.shape[1]
        return found + (rows.start or 0) * width + (columns.start or 0)

    def _require_classes(self, change: PixelChange) -> None:
        strange = ~self._is_class[change.after[0]]
        if strange.any():
            raise ProjectError(
                f"its mask holds {np.unique(change.after[0][strange]).tolist()}, "
                "which are no class ids",
                where=f"image {self.image_id}",
                remedy="Draw with the classes of the project.",
            )


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = array.view()
    view.flags.writeable = False
    return view
