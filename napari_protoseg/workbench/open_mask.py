"""The mask of the open image: edited in memory, recorded as it is edited, stored as it is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectLockedError, StorageError
from napari_protoseg.jobs.look import Sight
from napari_protoseg.jobs.outdated import is_outdated
from napari_protoseg.project.edits import Action, EditKey, EditKind, NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import OpenedJournal
from napari_protoseg.project.records import (
    MaskSource,
    PredictedMask,
    ReviewStatus,
    are_protected,
    no_source,
    setters_of_model,
)
from napari_protoseg.review.edited_mask import Block, EditedMask, PixelOrigin
from napari_protoseg.schema import ClassSchema
from napari_protoseg.workbench.recording import Recording

Mask = NDArray[np.uint8]
"""``(height, width)``: 0 unlabelled, k class id k."""


class OpenMask:
    """Hands on each step of an `EditedMask` to be recorded.

    What a model proposes is a step that can be undone, but it is held back: it is recorded before
    the next thing that a person does to the mask, or with `store`, and is else no part of the
    project.

    Parameters
    ----------
    project
        Whose image it is.
    opened
        Mask and journal as they are on disk.
    recording
        Where steps go.
    person, now
        Return who is at work, and when.

    Raises
    ------
    ProjectError
        The journal is damaged.
    """

    def __init__(
        self,
        project: Project,
        opened: OpenedJournal,
        recording: Recording,
        person: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._project = project
        self._edited = EditedMask(opened, project.schema)
        self._recording = recording
        self._person = person
        self._now = now
        self._met = set(opened.people)
        self._last = opened.last
        self._held: list[NewStep] = []
        self._agreeing: tuple[PredictedMask, MaskSource] | None = None
        self._is_folded = opened.folded == opened.last
        self._is_new = opened.stored is None

    @property
    def image_id(self) -> int:
        """Whose mask it is."""
        return self._edited.image_id

    @property
    def mask(self) -> Mask:
        """The mask, as a view that cannot be written."""
        return self._edited.mask

    @property
    def is_protected(self) -> NDArray[np.bool_]:
        """Where no model may change the mask."""
        return self._edited.is_protected

    @property
    def is_there(self) -> bool:
        """Whether there is a mask: a model has made one, or somebody has drawn."""
        source = self._edited.source
        is_of_model = self._agreeing is not None or (source is not None and source.is_of_model)
        return is_of_model or bool(self._edited.is_protected.any())

    @property
    def is_proposed(self) -> bool:
        """Whether a model proposes something that is not recorded."""
        return bool(self._held) or self._agreeing is not None

    @property
    def is_ahead(self) -> bool:
        """Whether something is recorded that the stored mask does not hold yet."""
        return not self._is_folded

    def know(self, schema: ClassSchema) -> None:
        """Take the classes of a later schema too."""
        self._edited.know(schema)

    def origin_of(self, row: int, column: int) -> PixelOrigin:
        """Tell who has set a pixel, and when."""
        return self._edited.origin_of(row, column)

    def stroke(self, drawn: Mask, block: Block | None) -> None:
        """Take what a person has drawn, in a block of it or anywhere.

        Raises
        ------
        ProjectError
            A value is no class id; nothing has changed.
        """
        if block is None and np.array_equal(drawn, self.mask):
            return
        author = self._author()
        self._take(self._edited.stroke(drawn, author=author, now=self._now(), block=block))

    def release(self, block: Block) -> int:
        """Give what this person has set, and what was imported, back to the model in a block.

        Returns
        -------
        int
            How many pixels.
        """
        where = np.zeros(self._edited.shape, dtype=np.bool_)
        where[block] = True
        step = self._edited.release(where, author=self._author(), now=self._now())
        self._take(step)
        return 0 if step is None else int(step.change.positions.size)

    def undo(self) -> Block | None:
        """Undo the last edit; return where the mask has changed, None where nothing was undone.

        Raises
        ------
        ProjectLockedError
            Others have the project, and what is to be undone is on disk: that is theirs to change.
        """
        self._require_free(self._edited.next_undo)
        return self._shown(self._edited.undo(now=self._now()))

    def redo(self) -> Block | None:
        """Redo what was undone last; return where the mask has changed; errors as `undo`."""
        self._require_free(self._edited.next_redo)
        return self._shown(self._edited.redo(now=self._now()))

    def propose(self, sight: Sight, *, anew: bool = False) -> Block | None:
        """Let a model's mask take the place of one that is outdated, where it may.

        Parameters
        ----------
        sight
            What the model sees.
        anew
            Also where the mask is not outdated: pixels were given back to the model.

        Returns
        -------
        Block or None
            Where the mask has changed.
        """
        if not (anew or self._is_superseded(sight)):
            return None
        predicted, source = sight.mask(self._now())
        step = self._edited.enter_prediction(predicted, source, now=self._now())
        if step is None:
            # It changes no pixel, and yet the mask is of this model, once it is stored.
            self._agreeing = (predicted, source)
        block = self._shown(step)
        if anew:
            self._let_go()  # the person has asked for it
        return block

    def leave(self) -> None:
        """See that all that a person has done is on disk; the mask is stored soon.

        Raises
        ------
        ProtosegError
            It cannot be written; it is kept, and tried again.
        """
        if not self._is_folded:
            self._recording.fold(self.image_id)
        self._recording.flush()
        self._is_folded = True

    def save(self) -> bool:
        """See that all that a person has done is on disk, and the mask stored.

        Returns
        -------
        bool
            Whether there was anything to store.

        Raises
        ------
        ProtosegError
            It cannot be written; it is kept, and tried again.
        """
        if self._is_folded:
            return False
        self._recording.fold(self.image_id)
        self._is_folded = self._recording.settle()
        self._is_new = not self.is_there
        return True

    def store(self) -> bool:
        """Save the mask with what a model proposes; return whether anything was stored.

        Raises
        ------
        ProtosegError
            It cannot be stored, or the project is read-only.
        """
        if self._project.is_read_only:  # nothing is recorded there
            self._project.require_writable()
        agreeing = self._agreeing
        if self.is_there:
            self._let_go()
        is_saved = self.save()
        if agreeing is None:
            return is_saved
        self._project.write_mask(*agreeing)
        self._edited.attribute(agreeing[1])
        self._agreeing = None
        return True

    def follows(self, opened: OpenedJournal) -> bool:
        """Tell whether nothing but what a model proposes here stands above the journal."""
        return self.is_proposed and opened.last == self._last

    def _require_free(self, edit: EditKey | None) -> None:
        """Make sure that an edit can be undone or redone: in a project of others, one in memory."""
        if edit is None or not self._project.is_read_only:
            return
        if edit not in self._held_edits | self._recording.waiting_edits:
            raise ProjectLockedError(
                "what is saved cannot be undone or redone while another program has the project",
                where=self._project.folder,
                remedy="Take it over, or open it again once it is closed there.",
            )

    @property
    def _held_edits(self) -> set[EditKey]:
        return {step.edit.key for step in self._held}

    def _shown(self, step: NewStep | None) -> Block | None:
        """Take a step that was not drawn; return where it has changed the mask."""
        if step is None:
            return None
        block = _block_of(step)
        self._take(step)
        return block

    def _take(self, step: NewStep | None) -> None:
        if step is None:
            return
        if step.edit.sources is not None or self._uncovers_other_pixels(step):
            self._agreeing = None
        is_made = step.action is Action.DO and step.edit.kind is EditKind.MODEL
        if is_made or step.edit.key in self._held_edits:
            # Only the last confidence is ever stored, and each takes two bytes a pixel.
            self._held = [*(replace(known, confidence=None) for known in self._held), step]
            return
        self._let_go()
        self._record(step)

    def _uncovers_other_pixels(self, step: NewStep) -> bool:
        """Tell whether a step brings to light what the model that agrees with the mask has not."""
        if self._agreeing is None or (
            step.action is Action.DO and step.edit.kind is not EditKind.RELEASE
        ):
            return False
        change = step.change
        of_model = self._agreeing[0].mask.take(change.positions)
        differs = change.after[0] != of_model
        differs |= change.after[1] != setters_of_model(of_model)
        return bool((differs & ~are_protected(change.after[1])).any())

    def _let_go(self) -> None:
        """Let what was held back be recorded."""
        held, self._held = self._held, []
        for step in held:
            self._record(step)

    def _record(self, step: NewStep) -> None:
        self._recording.record(self.image_id, step)
        self._last += 1
        self._is_folded = False

    def _author(self) -> str:
        """Return who is at work, who has a number in the project from the first stroke on."""
        name = self._person()
        if name not in self._met and not self._recording.is_held_up:
            try:
                self._edited.introduce(name, self._project.introduce(name))
            except (StorageError, ProjectLockedError):
                # The history keeps the name nonetheless, and the recorder tells of the trouble.
                return name
            self._met.add(name)
        return name

    def _is_superseded(self, sight: Sight) -> bool:
        """Tell whether what a model sees is to take the place of the mask there is."""
        if self._project.review_states().get(self.image_id) is ReviewStatus.ACCEPTED:
            return False
        if self._held or self._is_new:
            return True
        source = self._edited.source or no_source(self._now())
        is_relabelled = source.labels not in (None, sight.labels)
        recipe = sight.predictor.recipe
        return is_outdated(source, sight.key, recipe, is_relabelled=is_relabelled)


def _block_of(step: NewStep) -> Block | None:
    """Return the rows and columns that hold all pixels of a step; None where none is seen."""
    rows, columns = step.places
    if not rows.size:  # all were of classes that are gone
        return None
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns.min()), int(columns.max()) + 1),
    )
