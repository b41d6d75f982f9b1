"""The mask of an image as the project holds it: that on disk, and the steps that came after it.

What the database knows is found in one transaction; the pixels are read without keeping anybody
waiting, and looked at by their digest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import DamagedError, MissingError, ProjectError, ProtosegError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_codec import PixelChange, require_given
from napari_protoseg.project.edit_rows import journal_ends, select_deeds, select_steps
from napari_protoseg.project.edits import Action, EditKey, EditKind, Recorded, Step, journal_of
from napari_protoseg.project.heirs import Heirs
from napari_protoseg.project.image_rows import mask_shape
from napari_protoseg.project.mask_rows import record_taken
from napari_protoseg.project.mask_values import fault_of
from napari_protoseg.project.records import (
    FreshConfidence,
    MaskSource,
    RecordError,
    StoredMask,
    are_protected,
    no_source,
)
from napari_protoseg.project.review_rows import is_accepted
from napari_protoseg.project.schema_rows import select_heirs
from napari_protoseg.project.sqlite_errors import GIVE_UP, TO_GIVE_UP
from napari_protoseg.project.times import found_time

_BACK = "bring back the arrays.zarr that held it"
_KEEP = " Keep the present arrays.zarr, too: what people have drawn since is in it alone."
_EXCHANGED = (
    " Where arrays.zarr was exchanged, bring back the one that held it, and keep this one, too."
)
_KEEP_JOURNAL = " Keep this folder, too, for what its journal has."


@dataclass(frozen=True)
class MaskState:
    """What tells the mask on disk, and the steps that it holds, from an earlier or later one.

    Parameters
    ----------
    array
        Name of its array, its row there, and its digest; None where there is none.
    about
        What else is recorded of where it came from.
    folded
        Number of the last step that it holds.
    schema
        Version of the class schema, on which it depends what a step over classes that are gone
        really changes.
    """

    array: tuple[str, int, str] | None
    about: tuple[Any, ...]
    folded: int
    schema: int

    @classmethod
    def of(cls, connection: sqlite3.Connection, image_id: int) -> Self:
        """Return that of an image now."""
        found = connection.execute(
            "SELECT array, row, digest, round_id, bank_version, label_condition, recipe, created,"
            " labels, corrected_by, corrected FROM masks WHERE image_id = ?",
            (image_id,),
        ).fetchone()
        array, about = (None, ()) if found is None else (found[:3], found[3:])
        ends = journal_ends(connection, image_id)
        (schema,) = connection.execute("SELECT max(version) FROM class_schemas").fetchone()
        return cls(array, about, 0 if ends is None else ends[0], schema)

    @property
    def source(self) -> MaskSource | None:
        """What the mask came from; None where there is none, `RecordError` where it is damaged."""
        if self.array is None:
            return None
        round_id, bank_version, label_condition, recipe_json, created, labels = self.about[:6]
        return MaskSource(
            round_id=round_id,
            bank_version=bank_version,
            label_condition=label_condition,
            recipe_json=recipe_json,
            created=found_time(created),
            labels=None if labels is None else str(labels),
        )

    @property
    def is_corrected(self) -> bool:
        """Whether anybody has set pixels of the mask."""
        return self.array is not None and self.about[-1] is not None


@dataclass(frozen=True, eq=False)
class HeldMask:
    """A mask with all steps of its journal as the project holds it, classes that are gone in it.

    Parameters
    ----------
    mask
        None where there is none.
    edits
        Of the edits since the stored mask, those that were made over pixels of such classes, by
        key: what they have really changed.
    """

    mask: StoredMask | None
    edits: Mapping[EditKey, PixelChange]


@dataclass(frozen=True)
class FoundMask:
    """What the database knows of the mask of an image; no pixel of it is read yet.

    Parameters
    ----------
    image_id
        The image.
    shape
        Its height and width.
    state
        Which mask that is.
    ends
        Numbers of the last step that it holds and of the last in the journal; None without one.
    later
        The steps that it does not hold yet.
    heirs
        What stands in the place of classes that are gone.
    deeds
        What was done last, an `Action` each, with the edits of people in the journal.
    is_accepted
        Whether a person has accepted the mask.
    """

    image_id: int
    shape: tuple[int, int]
    state: MaskState
    ends: tuple[int, int] | None
    later: tuple[Recorded, ...]
    heirs: Heirs
    deeds: frozenset[str]
    is_accepted: bool

    @property
    def last(self) -> int:
        """Number of the last step in the journal."""
        return 0 if self.ends is None else self.ends[1]

    @property
    def source(self) -> MaskSource | None:
        """What the mask came from; None where there is none, `DamagedError` where it is lost."""
        try:
            return self.state.source
        except RecordError as error:
            raise self._lost(DamagedError, f"the mask is damaged ({error})") from error

    @property
    def is_journaled(self) -> bool:
        """Whether the image was ever opened to be edited."""
        return self.ends is not None

    @property
    def is_irreplaceable(self) -> bool:
        """Whether people have set pixels of it, or have done what is not undone."""
        return self.state.is_corrected or bool(self.deeds - {Action.UNDO})

    @property
    def is_redoable(self) -> bool:
        """Whether people may redo what they have undone."""
        return Action.UNDO in self.deeds

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Tell whether neither mask nor journal have changed since."""
        return MaskState.of(connection, self.image_id) == self.state and (
            journal_ends(connection, self.image_id) == self.ends
        )

    def loaded(self, arrays: ArrayFolder, fresh: FreshConfidence | None = None) -> HeldMask:
        """Read the mask, with its later steps.

        It may be called outside the transaction that has found it: where the row was used again
        since, the mask is as good as damaged, and is to be looked for again.

        Parameters
        ----------
        arrays
            Where its pixels are.
        fresh
            Of a prediction that is among the steps, or was; None: where it is not known.

        Raises
        ------
        DamagedError
            The mask or its journal is damaged, or holds what nobody could make sense of.
        MissingError
            The mask is gone.
        StorageError
            The arrays cannot be read.
        """
        stored = self.stored(arrays)
        if stored is not None and fresh is not None:
            stored = fresh.on(stored)
        if not self.later:
            return HeldMask(stored, {})
        with journal_of(self.image_id):
            steps = [recorded.step for recorded in self.later]
            return replayed(stored, self.image_id, self.shape, steps, self.heirs, fresh)

    def seen(self, arrays: ArrayFolder) -> StoredMask | None:
        """Read the mask as it is seen now, with what stands in the place of classes that are gone.

        Errors as by `loaded`.
        """
        return self.seen_of(self.loaded(arrays).mask)

    def seen_of(self, held: StoredMask | None) -> StoredMask | None:
        """Return the mask as it is seen of that as it is held."""
        if held is None or not self.heirs:
            return held
        mask, setters = self.heirs.seen(held.mask, held.setters)
        return replace(held, mask=mask, setters=setters)

    def stored(self, arrays: ArrayFolder) -> StoredMask | None:
        """Read the mask on disk alone, without its later steps.

        Errors as by `loaded`.
        """
        source, entry = self.source, self.pixels(arrays)
        if source is None or entry is None:
            return None
        return StoredMask(self.image_id, entry.mask, entry.confidence, entry.origins, source)

    def pixels(self, arrays: ArrayFolder) -> MaskArrays | None:
        """Read the same, whatever it came from; None where there is none.

        Errors as by `loaded`.
        """
        if self.state.array is None:
            return None
        _, row, digest = self.state.array
        try:
            entry = arrays.read(*self.shape, row)
        except ProjectError as error:  # of the folder alone
            raise self._lost(DamagedError, error.what) from error
        if entry is None:
            keep = _KEEP if arrays.is_there else ""
            raise self._lost(MissingError, "the mask is missing", _BACK, more=keep)
        if entry.digest != digest:
            exchanged = _EXCHANGED if self.is_irreplaceable else ""
            raise self._lost(DamagedError, "the mask is damaged", more=exchanged)
        fault = fault_of(entry.mask, entry.origins, self.heirs.given)
        if fault is not None:
            raise self._lost(DamagedError, fault)
        return entry

    def _lost(
        self, kind: type[ProtosegError], what: str, *ways: str, more: str = ""
    ) -> ProtosegError:
        """Return an error that says how to have the mask back, `ways` first, or to do without."""
        back = [*ways, "restore the project folder from a copy"]
        if not self.is_irreplaceable:
            back.append("make the masks again")
        remedy = ", or ".join(back)
        remedy = f"{remedy[0].upper()}{remedy[1:]}.{more}"
        if any(recorded.step.edit.author is not None for recorded in self.later):
            remedy += _KEEP_JOURNAL
        return kind(
            what,
            where=f"image {self.image_id}",
            remedy=f"{remedy} {GIVE_UP}" if self.is_irreplaceable else remedy,
            on_terminal=TO_GIVE_UP if self.is_irreplaceable else None,
        )


def find_mask(connection: sqlite3.Connection, image_id: int) -> FoundMask:
    """Return what the database knows of the mask of an image.

    Raises
    ------
    ProjectError
        There is no such image, or its journal is damaged.
    """
    found = find_stored(connection, image_id)
    if found.ends is None or found.ends[0] == found.ends[1]:
        return found
    with journal_of(image_id):
        later = select_steps(connection, image_id, found.shape, after=found.ends[0])
    return replace(found, later=tuple(later))


def find_stored(connection: sqlite3.Connection, image_id: int) -> FoundMask:
    """Return the same without its later steps, also where these are damaged."""
    ends = journal_ends(connection, image_id)
    return FoundMask(
        image_id=image_id,
        shape=mask_shape(connection, image_id),
        state=MaskState.of(connection, image_id),
        ends=ends,
        later=(),
        heirs=select_heirs(connection),
        deeds=frozenset() if ends is None else select_deeds(connection, image_id),
        is_accepted=is_accepted(connection, image_id),
    )


def keep_taken(connection: sqlite3.Connection, arrays: ArrayFolder, image_id: int) -> None:
    """Record what edits over classes that are gone have really taken away, before it is too late.

    To be called before the stored mask holds them by other means than a fold, and before other
    classes stand in the place of those that are gone; errors as `find_mask`
    and `FoundMask.loaded`.
    """
    ends = journal_ends(connection, image_id)
    if select_heirs(connection) and ends is not None and ends[0] != ends[1]:
        record_taken(connection, image_id, find_mask(connection, image_id).loaded(arrays).edits)


def replayed(
    stored: StoredMask | None,
    image_id: int,
    shape: tuple[int, int],
    steps: Sequence[Step],
    heirs: Heirs,
    fresh: FreshConfidence | None = None,
) -> HeldMask:
    """Return a mask after steps; what no model and no person is sure of has confidence 0."""
    if stored is None:
        nothing = np.zeros(shape, dtype=np.uint8)
        mask, setters, confidence = nothing, nothing.copy(), np.zeros(shape, dtype=np.float16)
        source = no_source(steps[0].time)
    else:
        mask, setters = stored.mask, stored.setters
        confidence, source = stored.confidence, stored.source
    edits: dict[EditKey, PixelChange] = {}
    sure_before: dict[EditKey, NDArray[np.float16]] = {}  # of the pixels of each edit
    for step in steps:
        change = edits.get(step.edit.key) or step.edit.change
        sure = None
        if step.action is Action.UNDO:
            change = change.reversed
            sure = sure_before.pop(step.edit.key, None)
        else:
            is_release = step.edit.kind is EditKind.RELEASE
            real = heirs.over(change, mask, setters, is_release=is_release)
            if real is not change:
                change = edits[step.edit.key] = real
            sure_before[step.edit.key] = confidence.take(change.positions)
        require_given(change, heirs.given)
        change.apply(mask, setters)
        confidence.put(change.positions, are_protected(change.after[1]) if sure is None else sure)
        if step.edit.sources is not None:
            before, source = source, step.source_after or no_source(step.time)
            if fresh is not None and fresh.source == source:
                np.copyto(confidence, fresh.values, where=~are_protected(setters))
            elif source != before:  # what is known is of another prediction
                confidence[~are_protected(setters)] = 0
    if stored is None and not mask.any() and not setters.any():
        return HeldMask(None, edits)
    return HeldMask(StoredMask(image_id, mask, confidence, setters, source), edits)
