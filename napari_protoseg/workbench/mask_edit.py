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
    PredictedMask,
    ReviewStatus,
    StoredMask,
)
from napari_protoseg.schema import UNLABELLED
from napari_protoseg.workbench.mask_steps import Basis, Mask, MaskSteps


class MaskEdit:
    """The mask of one image: as stored, as the model at hand would have it, as it is drawn.

    What is drawn and differs from `base` was set by a person and is not saved yet. Where a person
    undoes what a model has changed, the base is again the one before: nobody has drawn that.
    Strokes and steps back and forth are told as they happen, by `steps`, `undo` and `redo`: equal
    pixels do not tell whether something was undone, or drawn.

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
        self._basis: Basis | None = None  # None: what is stored
        self.steps = MaskSteps()
        self.stored = project.read_mask(self._image_id)
        empty = np.full((image.height, image.width), UNLABELLED, dtype=np.uint8)
        self.base: Mask = empty if self.stored is None else self.stored.mask.copy()

    @property
    def is_stored(self) -> bool:
        """Whether `base` is a mask that is stored."""
        return self.stored is not None and self._basis is None

    def is_edited(self, drawn: Mask) -> bool:
        """Tell whether something is drawn that is not saved."""
        return not np.array_equal(drawn, self.base)

    def undo(self, drawn: Mask) -> None:
        """Note that what was done last was undone, which left `drawn`."""
        self._return_to(self.steps.undo(drawn))

    def redo(self, drawn: Mask) -> None:
        """Note that what was undone last was redone, which left `drawn`."""
        self._return_to(self.steps.redo(drawn))

    def propose(self, sight: Sight, drawn: Mask) -> Mask:
        """Return the mask to show now that a model has seen the image.

        The model's mask takes the place of one that is outdated, where no person has set pixels.
        It is stored with the next correction, or not at all.

        Raises
        ------
        ProjectError, StorageError
            What was drawn cannot be saved; nothing has changed.
        """
        if not self._is_superseded(sight):
            return drawn
        self.save(drawn)
        before = self._explicit_basis()
        self._basis = Basis(*sight.mask(self._now()))
        self.base = self._protected(self._basis.predicted.mask)
        return self._stepped(drawn, before)

    def reread(self, drawn: Mask) -> Mask:
        """Return the mask to show after others have stored one; what is drawn stays and is saved.

        Raises
        ------
        ProjectError, StorageError
        """
        before = self._explicit_basis()
        edited = drawn != self.base
        stored = self._project.read_mask(self._image_id)
        if stored is None and self.stored is None:
            return drawn  # those of other images were stored
        found = np.zeros_like(self.base) if stored is None else stored.mask
        if edited.any():
            self._correct(np.where(edited, drawn, found), edited, stored)
        else:
            self._take(stored)
        return self._stepped(drawn, before)

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
        edited = drawn != self.base
        is_proposed = self._basis is not None and self._basis.source.is_of_model
        if not edited.any() and not (whole and is_proposed):
            return False
        if self._basis is not None:
            self._project.write_mask(self._basis.predicted, self._basis.source)
            self._take(self._project.read_mask(self._image_id))
        if edited.any():
            self._correct(drawn, edited, self.stored)
        return True

    def _stepped(self, drawn: Mask, before: Basis) -> Mask:
        """Return the base as the mask to show in place of `drawn`, and keep the way back."""
        shown = self.base.copy()
        self.steps.add(drawn, before, self.base.copy(), self._explicit_basis())
        return shown

    def _return_to(self, basis: Basis | None) -> None:
        if basis is not None:
            self._basis = basis
            self.base = self._protected(basis.predicted.mask)

    def _explicit_basis(self) -> Basis:
        """Return what the base is made of, in a form that outlives what is stored now."""
        if self._basis is not None:
            return self._basis
        stored = self.stored
        if stored is not None:
            predicted = PredictedMask(self._image_id, stored.mask, stored.confidence)
            return Basis(predicted, stored.source)
        nothing = PredictedMask(self._image_id, self.base, np.zeros(self.base.shape, np.float16))
        source = MaskSource(
            round_id=None, label_condition="none", recipe_json="null", created=self._now()
        )
        return Basis(nothing, source)

    def _correct(self, mask: Mask, edited: NDArray[np.bool_], base: StoredMask | None) -> None:
        correction = Correction(image_id=self._image_id, mask=mask, is_set=edited, base=base)
        self._project.store_corrections((correction,), person=self._person(), now=self._now())
        self._take(self._project.read_mask(self._image_id))

    def _take(self, stored: StoredMask | None) -> None:
        self.stored, self._basis = stored, None
        self.base = np.zeros_like(self.base) if stored is None else stored.mask.copy()

    def _protected(self, mask: Mask) -> Mask:
        """Return a model's mask under the pixels that a person has set, or that were imported."""
        if self.stored is None:
            return mask.copy()
        return np.where(self.stored.is_protected, self.stored.mask, mask)

    def _is_superseded(self, sight: Sight) -> bool:
        """Tell whether what a model sees is to take the place of the mask there is."""
        if self._project.review_states().get(self._image_id) is ReviewStatus.ACCEPTED:
            return False
        if self._basis is not None or self.stored is None:
            return True
        return is_outdated(self.stored.source, sight.key, sight.predictor.recipe)
