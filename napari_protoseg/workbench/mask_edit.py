"""The mask of the open image between model and person: who has set what, and saving it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.jobs.look import Sight
from napari_protoseg.jobs.outdated import is_outdated
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import (
    Correction,
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    ReviewStatus,
    StoredMask,
    setters_of_model,
)
from napari_protoseg.schema import UNLABELLED
from napari_protoseg.workbench.mask_steps import Basis, Change, Mask, MaskSteps, Stroke

Owners = NDArray[np.uint8]
"""``(height, width)`` of `Origin` values: whose a pixel is, NONE where it is the model's."""


class MaskEdit:
    """The mask of one image: as stored, as the model at hand would have it, as it is drawn.

    A pixel is a person's where, in the history as it stands, a person was the last to change it:
    what is undone is again whose it was before, also where it was saved meanwhile. All other
    pixels that were not imported are as in the model's mask, the basis. Strokes and steps back
    and forth are told as they happen: equal pixels do not tell whether something was undone, or
    drawn.

    Parameters
    ----------
    project, image
        Whose mask it is.
    person, now
        Return who is at work, and when.

    Raises
    ------
    ProjectError
        The stored mask is damaged.
    """

    def __init__(
        self,
        project: Project,
        image: ImageRecord,
        person: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        assert image.id is not None
        self._project = project
        self._image_id = image.id
        self._person = person
        self._now = now
        self._shape = (image.height, image.width)
        self.stored = project.read_mask(self._image_id)
        self._steps = MaskSteps(self._stored_as_basis(self.stored))
        self._stored_basis = self._steps.basis
        self.shown: Mask = self._stored_basis.predicted.mask.copy()
        """The mask as it was after the last step that was noted."""
        self._owners = self._owners_in(self.stored)
        self.begins_anew = False
        """Whether the last change by others, and all before it, cannot be undone any more."""

    @property
    def is_stored(self) -> bool:
        """Whether the mask that is shown is stored, but for what is drawn since."""
        if self.stored is None or self._steps.basis is not self._stored_basis:
            return False
        return self._stored_basis.source.is_of_model or bool(self.stored.is_protected.any())

    def is_edited(self, drawn: Mask) -> bool:
        """Tell whether something is drawn, or undone, that is not saved."""
        return bool(self._unsaved(drawn, self._owners_of(drawn)).any())

    def note_stroke(self, drawn: Mask) -> None:
        """Note that a person has drawn something, which left `drawn`."""
        places = np.flatnonzero(drawn != self.shown)
        self._steps.add_stroke(Stroke(places, self._owners.ravel()[places]))
        self._leave_off(drawn, self._owners_of(drawn))

    def undo(self, before: Mask, drawn: Mask) -> None:
        """Note that what was done last was undone, which made `drawn` of `before`."""
        self._leave_off(before, self._owners_of(before))
        owners, changed = self._owners.copy(), drawn != before
        match self._steps.last():
            case (Stroke() as stroke, basis) if _is_within(changed, stroke.places):
                is_back = changed.ravel()[stroke.places]
                owners.ravel()[stroke.places[is_back]] = stroke.owners_before[is_back]
                self._steps.go_back()
            case (Change(), basis) if self._is_of(basis, drawn, owners):
                self._steps.go_back()
            case _:
                owners[changed] = Origin.PERSON  # nobody has noted what that was
        self._leave_off(drawn, owners)

    def redo(self, before: Mask, drawn: Mask) -> None:
        """Note that what was undone last was redone, which made `drawn` of `before`."""
        self._leave_off(before, self._owners_of(before))
        owners, changed = self._owners.copy(), drawn != before
        match self._steps.next():
            case Stroke() as stroke if _is_within(changed, stroke.places):
                owners[changed] = Origin.PERSON
                self._steps.go_forth()
            case Change(basis) if self._is_of(basis, drawn, owners):
                self._steps.go_forth()
            case _:
                owners[changed] = Origin.PERSON
        self._leave_off(drawn, owners)

    def forget(self) -> None:
        """Note that nothing from before can be undone any more."""
        self._steps.forget()

    def propose(self, sight: Sight, drawn: Mask) -> Mask:
        """Return the mask to show now that a model has seen the image.

        The model's mask takes the place of one that is outdated, where no person has set pixels.
        It is stored with the next correction, or not at all.

        Raises
        ------
        ProjectError, StorageError
            What was drawn cannot be saved; nothing has changed.
        """
        self.begins_anew = False
        if not self._is_superseded(sight):
            return drawn
        self.save(drawn)
        return self._change(Basis(*sight.mask(self._now())), drawn, self._owners_of(drawn))

    def reread(self, drawn: Mask) -> Mask:
        """Return the mask to show after others have stored one; what is drawn stays and is saved.

        Where they have set pixels that no model may change, that cannot be undone, nor anything
        from before.

        Raises
        ------
        ProjectError, StorageError
        """
        self.begins_anew = False
        stored = self._project.read_mask(self._image_id)
        if stored is None and self.stored is None:
            return drawn  # those of other images were stored
        found, theirs = self._stored_as_basis(stored), self._owners_in(stored)
        ours = self._owners_of(drawn)
        unsaved = self._unsaved(drawn, ours)
        owners = np.where(unsaved, ours, theirs)
        # What was undone, and is not saved so yet, is the model's again: as it had it.
        is_back = unsaved & (owners == Origin.NONE)
        before = self._steps.basis.predicted
        predicted = PredictedMask(
            self._image_id,
            np.where(is_back, drawn, found.predicted.mask),
            np.where(is_back, before.confidence, found.predicted.confidence),
        )
        basis = Basis(predicted, found.source)
        mask = np.where(unsaved, drawn, predicted.mask)
        is_theirs = self._protects_otherwise(stored)
        if unsaved.any():
            self._store(basis, mask, owners)
            stored = self._project.read_mask(self._image_id)
        self.stored, self._stored_basis = stored, basis
        if not is_theirs:
            return self._change(basis, drawn, owners)
        self._steps = MaskSteps(basis)
        self.begins_anew = True
        self._leave_off(mask, owners)
        return mask.copy()

    def save(self, drawn: Mask, *, whole: bool = False) -> bool:
        """Store what a person has set.

        Parameters
        ----------
        drawn
            As it is seen.
        whole
            Store the model's proposal too where nothing was set by hand.

        Returns
        -------
        bool
            Whether anything was stored.

        Raises
        ------
        ProjectError, StorageError
            It cannot be stored; what was drawn is still unsaved.
        """
        basis, owners = self._steps.basis, self._owners_of(drawn)
        is_edited = bool(self._unsaved(drawn, owners).any())
        is_new = basis is not self._stored_basis
        if not is_edited and not (whole and is_new and basis.source.is_of_model):
            return False
        if is_new:
            self._project.write_mask(basis.predicted, basis.source)
            self.stored, self._stored_basis = self._project.read_mask(self._image_id), basis
        if is_edited:
            self._store(basis, drawn, owners)
            self.stored = self._project.read_mask(self._image_id)
        return True

    def _change(self, basis: Basis, drawn: Mask, owners: Owners) -> Mask:
        """Return the mask to show where pixels that are nobody's are as in `basis` from now on."""
        mask = np.where(owners == Origin.NONE, basis.predicted.mask, drawn)
        is_seen = not np.array_equal(mask, drawn)
        self.begins_anew = self._steps.add(Change(basis, is_seen))
        self._leave_off(mask, owners)
        return mask.copy()

    def _owners_of(self, drawn: Mask) -> Owners:
        """Return whose each pixel is, now that a person draws what differs from what was shown."""
        return np.where(drawn != self.shown, np.uint8(Origin.PERSON), self._owners)

    def _leave_off(self, mask: Mask, owners: Owners) -> None:
        """Keep the mask as it is after a step, and whose its pixels are."""
        strange = (owners == Origin.NONE) & (mask != self._steps.basis.predicted.mask)
        self._owners = np.where(strange, np.uint8(Origin.PERSON), owners)
        self.shown = mask.copy()

    def _is_of(self, basis: Basis, mask: Mask, owners: Owners) -> bool:
        """Tell whether a mask is as a model had it, where that may change it."""
        return not np.any((mask != basis.predicted.mask) & (owners == Origin.NONE))

    def _unsaved(self, drawn: Mask, owners: Owners) -> NDArray[np.bool_]:
        """Return where a pixel is a person's, or is one no more, and is not stored so."""
        differs = owners != self._owners_in(self.stored)
        if self.stored is not None:
            differs = differs | ((owners != Origin.NONE) & (drawn != self.stored.mask))
        return np.asarray(differs, dtype=bool)

    def _protects_otherwise(self, stored: StoredMask | None) -> bool:
        """Tell whether others have set pixels that no model may change, or have let go of some."""
        before, now = self._owners_in(self.stored), self._owners_in(stored)
        if not np.array_equal(before, now):
            return True
        if self.stored is None or stored is None:
            return False
        return bool(np.any((stored.mask != self.stored.mask) & (now != Origin.NONE)))

    def _owners_in(self, stored: StoredMask | None) -> Owners:
        if stored is None:
            return np.full(self._shape, Origin.NONE, dtype=np.uint8)
        return np.where(stored.is_protected, stored.origins, np.uint8(Origin.NONE))

    def _stored_as_basis(self, stored: StoredMask | None) -> Basis:
        if stored is not None:
            predicted = PredictedMask(self._image_id, stored.mask, stored.confidence)
            return Basis(predicted, stored.source)
        nothing = PredictedMask(
            self._image_id,
            np.full(self._shape, UNLABELLED, dtype=np.uint8),
            np.zeros(self._shape, dtype=np.float16),
        )
        source = MaskSource(
            round_id=None, label_condition="none", recipe_json="null", created=self._now()
        )
        return Basis(nothing, source)

    def _store(self, basis: Basis, mask: Mask, owners: Owners) -> None:
        """Store a mask with whose its pixels are; those that are nobody's are of `basis`."""
        predicted, setters = basis.predicted, setters_of_model(basis.predicted.mask)
        is_imported = owners == Origin.IMPORTED
        setters[is_imported] = Origin.IMPORTED
        is_set = owners == Origin.PERSON
        if self.stored is not None:
            # What another person has set stays theirs.
            is_kept = is_set & (self.stored.origins == Origin.PERSON) & (mask == self.stored.mask)
            setters[is_kept] = self.stored.setters[is_kept]
            is_set = is_set & ~is_kept
        is_certain = is_imported | (owners == Origin.PERSON)
        under = StoredMask(
            image_id=self._image_id,
            mask=predicted.mask,
            confidence=np.where(is_certain, np.float16(1), predicted.confidence),
            setters=setters,
            source=basis.source,
        )
        correction = Correction(image_id=self._image_id, mask=mask, is_set=is_set, base=under)
        self._project.store_corrections((correction,), person=self._person(), now=self._now())

    def _is_superseded(self, sight: Sight) -> bool:
        """Tell whether what a model sees is to take the place of the mask there is."""
        if self._project.review_states().get(self._image_id) is ReviewStatus.ACCEPTED:
            return False
        if self.stored is None or self._steps.basis is not self._stored_basis:
            return True
        return is_outdated(self.stored.source, sight.key, sight.predictor.recipe)


def _is_within(changed: NDArray[np.bool_], places: NDArray[np.int64]) -> bool:
    """Tell whether all that has changed is at some of the places."""
    return bool(np.count_nonzero(changed) == np.count_nonzero(changed.ravel()[places]))
