"""The masks of a project: what takes long of reading and storing them is done beside others.

A stroke is recorded while a mask is read, encoded and written beside its place. What it was made
of is looked at again in the transaction that lets it take that place: where others have stored
something meanwhile, it is made anew, and at last within the transaction, for which others wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import (
    LOST,
    ProjectError,
    ProtosegError,
    StorageError,
)
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.database import Database
from napari_protoseg.project.found_masks import FoundMask, find_mask
from napari_protoseg.project.giving_up import give_up
from napari_protoseg.project.journal_changes import Fold, OpenedJournal, find_journal
from napari_protoseg.project.mask_changes import NewMask, WrittenMasks, store_imports, store_masks
from napari_protoseg.project.records import (
    FreshConfidence,
    MaskSource,
    PredictedMask,
    StoredMask,
)
from napari_protoseg.project.schema_rows import select_schema
from napari_protoseg.schema import ClassSchema

_TRIES = 2
"""How often masks are made beside the work of others, who may change again what they are made of
meanwhile; then these have to wait."""

Make = Callable[[FoundMask, ClassSchema, bool], NewMask]
Store = Callable[[sqlite3.Connection, Sequence[NewMask], Mapping[int, MaskArrays]], None]
Found = TypeVar("Found")
Loaded = TypeVar("Loaded")


class MaskStore:
    """The masks of a project, for use from any thread.

    Parameters
    ----------
    database
        Its rows.
    arrays
        Their pixels.
    folder
        Of the project, to be named in errors.
    """

    def __init__(self, database: Database, arrays: ArrayFolder, folder: Path) -> None:
        self._database = database
        self._arrays = arrays
        self._folder = folder

    def read(self, image_id: int) -> StoredMask | None:
        """Return the mask of an image with every step of its journal; None where it has none.

        Raises
        ------
        ProjectError
            There is no such image, or its mask or its journal is damaged.
        StorageError
        """
        return self._read(lambda connection: find_mask(connection, image_id), _seen)

    def require_sound(self, image_id: int) -> None:
        """Make sure that the mask of an image on disk is what was stored; see `Project`."""
        self._read(lambda connection: find_mask(connection, image_id), FoundMask.stored)

    def open_journal(self, image_id: int) -> OpenedJournal:
        """Return the mask of an image with its journal; errors as by `read`."""

        def find(connection: sqlite3.Connection) -> tuple[FoundMask, OpenedJournal]:
            found = find_mask(connection, image_id)
            return found, find_journal(connection, found)

        return self._read(find, _opened)

    def _read(
        self,
        find: Callable[[sqlite3.Connection], Found],
        load: Callable[[Found, ArrayFolder], Loaded],
    ) -> Loaded:
        """Return what `load` reads of the arrays, of what `find` has found in the rows."""
        with self._database.reading() as connection:
            found = find(connection)
        try:
            return load(found, self._arrays)
        except (ProjectError, StorageError):
            # Others may have written meanwhile what was read: only without them is it damaged.
            with self._database.excluding() as connection:
                return load(find(connection), self._arrays)

    def fold(self, image_id: int, confidence: FreshConfidence | None) -> int:
        """Store the mask of an image with every step that its journal has now.

        Steps that are recorded meanwhile are not in it. A prediction's confidence is stored also
        where the mask on disk holds all of its steps already.

        Returns
        -------
        int
            How many steps it did not hold before.

        Raises
        ------
        ProjectError, StorageError
        """
        self._database.require_writable()
        for _ in range(_TRIES):
            with self._database.reading() as connection:
                found = find_mask(connection, image_id)
            if not _is_to_be_folded(found, confidence):
                return 0
            try:
                fold = Fold.of(found, self._arrays, confidence)
            except (ProjectError, StorageError):
                break  # as in `_read`
            made = {} if fold.entry is None else {image_id: fold.entry}
            with ExitStack() as staging:
                entries = self._staged(made, staging)
                with self._database.writing() as connection:
                    if fold.store(connection, self._arrays, entries.get(image_id)):
                        return len(found.later)
        with self._database.writing() as connection:
            found = find_mask(connection, image_id)
            if _is_to_be_folded(found, confidence):
                fold = Fold.of(found, self._arrays, confidence)
                fold.store(connection, self._arrays, fold.entry)
            return len(found.later)

    def store_masks(
        self,
        masks: Sequence[PredictedMask],
        source: MaskSource,
        labels: Mapping[int, str] | None = None,
    ) -> WrittenMasks:
        """Make each of `masks`, of a model, the current one of its image; see `Project`."""
        left: dict[int, ProtosegError] = {}
        mask_of = {mask.image_id: mask for mask in masks}
        sources = dict.fromkeys(mask_of, source)
        if labels is not None:
            sources = {i: replace(source, labels=labels.get(i)) for i in sources}

        def make(found: FoundMask, schema: ClassSchema, is_alone: bool) -> NewMask:
            mask, of_mask = mask_of[found.image_id], sources[found.image_id]
            return NewMask.of_model(found, self._arrays, mask, of_mask, schema, is_alone=is_alone)

        def store(
            connection: sqlite3.Connection,
            made: Sequence[NewMask],
            entries: Mapping[int, MaskArrays],
        ) -> None:
            store_masks(connection, self._arrays, made, entries, sources, source.created)

        made = self._store(list(mask_of), make, store, left)
        return WrittenMasks(
            left, tuple(new.image_id for new in made if new.is_lost and new.found.is_redoable)
        )

    def store_imports(
        self, masks: Mapping[int, NDArray[np.uint8]], *, person: str, now: datetime
    ) -> None:
        """Put masks that were made elsewhere over those of their images; see `Project`."""

        def make(found: FoundMask, schema: ClassSchema, is_alone: bool) -> NewMask:
            mask = masks[found.image_id]
            return NewMask.of_import(found, self._arrays, mask, person, now, schema)

        def store(
            connection: sqlite3.Connection,
            made: Sequence[NewMask],
            entries: Mapping[int, MaskArrays],
        ) -> None:
            store_imports(connection, self._arrays, made, entries, person=person, now=now)

        self._store(list(masks), make, store)

    def give_up(self, image_id: int, *, now: datetime) -> int:
        """Let an image go on without what is lost of its mask and journal; see `Project`."""
        with self._database.writing() as connection:
            return give_up(connection, self._arrays, image_id, now)

    def _store(
        self,
        image_ids: Sequence[int],
        make: Make,
        store: Store,
        left: dict[int, ProtosegError] | None = None,
    ) -> list[NewMask]:
        """Store and return what is made of the current masks of images: all, or none.

        Where `left` is given, images whose current mask is lost are left out, and say why there.
        """
        self._database.require_writable()
        made: dict[int, NewMask] = {}
        entries: dict[int, MaskArrays] = {}

        def to_make(connection: sqlite3.Connection) -> list[int]:
            return [
                image_id
                for image_id in image_ids
                if image_id not in made or not made[image_id].found.is_current(connection)
            ]

        with ExitStack() as staging:
            for _ in range(_TRIES):
                try:
                    with self._database.reading() as connection:
                        schema = select_schema(connection, self._folder)
                        founds = [find_mask(connection, i) for i in to_make(connection)]
                    new = {found.image_id: make(found, schema, False) for found in founds}
                except (ProjectError, StorageError):
                    break  # as in `_read`
                made |= new
                entries |= self._staged({i: new[i].entry for i in new}, staging)
                with self._database.writing() as connection:
                    if not to_make(connection):
                        store(connection, list(made.values()), entries)
                        return list(made.values())
            with self._database.writing() as connection:
                schema = select_schema(connection, self._folder)
                for image_id in to_make(connection):
                    made.pop(image_id, None)
                    entries.pop(image_id, None)
                    try:
                        new_mask = make(find_mask(connection, image_id), schema, True)
                    except LOST as error:
                        if left is None:
                            raise
                        left[image_id] = error
                        continue
                    made[image_id], entries[image_id] = new_mask, new_mask.entry
                store(connection, list(made.values()), entries)
                return list(made.values())

    def _staged(
        self, entries: Mapping[int, MaskArrays], staging: ExitStack
    ) -> Mapping[int, MaskArrays]:
        """Return the same masks, written beside their places where that takes long."""
        try:
            return {
                image_id: staging.enter_context(self._arrays.staging(entry))
                for image_id, entry in entries.items()
            }
        except StorageError:
            self._database.require_writable()  # it may be that others have it, or it is gone
            raise


def _seen(found: FoundMask, arrays: ArrayFolder) -> StoredMask | None:
    return found.seen(arrays)


def _opened(found: tuple[FoundMask, OpenedJournal], arrays: ArrayFolder) -> OpenedJournal:
    mask, opened = found
    return replace(opened, stored=mask.seen(arrays))


def _is_to_be_folded(found: FoundMask, confidence: FreshConfidence | None) -> bool:
    is_fresh = confidence is not None and confidence.source == found.source
    return bool(found.later) or is_fresh
