"""The current masks of a project: what takes long of reading and storing them keeps nobody waiting.

A stroke is recorded while a mask is read, encoded and written beside its place. What it was made
of is looked at again in the transaction that lets it take that place: where others have stored
something meanwhile, it is made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from napari_protoseg.errors import ProjectError, StorageError
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.database import Database
from napari_protoseg.project.found_masks import FoundMask, MaskState, find_mask
from napari_protoseg.project.journal_changes import (
    Fold,
    FreshConfidence,
    OpenedJournal,
    find_journal,
)
from napari_protoseg.project.mask_changes import NewMask, store_corrections, store_masks
from napari_protoseg.project.people_rows import person_setter
from napari_protoseg.project.records import Correction, MaskSource, PredictedMask, StoredMask
from napari_protoseg.project.schema_rows import select_schema
from napari_protoseg.schema import ClassSchema

_TRIES = 2
"""How often masks are made beside the work of others, who may change again what they are made of
meanwhile; then these have to wait."""

Make = Callable[[ClassSchema, Sequence[FoundMask]], list[NewMask]]
Store = Callable[[sqlite3.Connection, Sequence[NewMask], Mapping[int, MaskArrays]], None]


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
        while True:
            found = self._found(image_id)
            try:
                return found.seen(self._arrays)
            except (ProjectError, StorageError):
                if not self._have_moved([found]):
                    raise

    def open_journal(self, image_id: int) -> OpenedJournal:
        """Return the mask of an image with its journal; errors as by `read`."""
        while True:
            with self._database.reading() as connection:
                found = find_mask(connection, image_id)
                opened = find_journal(connection, found)
            try:
                return replace(opened, stored=found.seen(self._arrays))
            except (ProjectError, StorageError):
                if not self._have_moved([found]):
                    raise

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
        while True:
            found = self._found(image_id)
            is_fresh = confidence is not None and confidence.source == found.source
            if not (found.later or is_fresh):
                return 0
            try:
                fold = Fold.of(found, self._arrays, confidence)
            except (ProjectError, StorageError):
                if not self._have_moved([found]):
                    raise
                continue
            made = {} if fold.entry is None else {image_id: fold.entry}
            with self._staging(made) as entries, self._database.writing() as connection:
                if fold.store(connection, self._arrays, entries.get(image_id)):
                    return len(found.later)

    def store_masks(
        self,
        masks: Sequence[PredictedMask],
        source: MaskSource,
        labels: Mapping[int, str] | None = None,
    ) -> None:
        """Make each of `masks`, of a model, the current one of its image; see `Project`."""
        sources = {mask.image_id: source for mask in masks}
        if labels is not None:
            sources = {i: replace(source, labels=labels.get(i)) for i in sources}

        def make(schema: ClassSchema, founds: Sequence[FoundMask]) -> list[NewMask]:
            return [
                NewMask.of_model(found, self._arrays, mask, sources[mask.image_id], schema)
                for found, mask in zip(founds, masks, strict=True)
            ]

        def store(
            connection: sqlite3.Connection,
            made: Sequence[NewMask],
            entries: Mapping[int, MaskArrays],
        ) -> None:
            store_masks(connection, self._arrays, made, entries, sources, source.created)

        self._store([mask.image_id for mask in masks], make, store)

    def store_corrections(
        self, corrections: Sequence[Correction], *, person: str, now: datetime
    ) -> None:
        """Store masks that a person has set pixels of, or an import; see `Project`."""
        with self._database.writing() as connection:
            setter = person_setter(connection, person)

        def make(schema: ClassSchema, founds: Sequence[FoundMask]) -> list[NewMask]:
            return [
                NewMask.of_correction(found, self._arrays, correction, person, setter, now, schema)
                for found, correction in zip(founds, corrections, strict=True)
            ]

        def store(
            connection: sqlite3.Connection,
            made: Sequence[NewMask],
            entries: Mapping[int, MaskArrays],
        ) -> None:
            store_corrections(connection, self._arrays, made, entries, person=person, now=now)

        self._store([correction.image_id for correction in corrections], make, store)

    def _store(self, image_ids: Sequence[int], make: Make, store: Store) -> None:
        """Store what is made of the current masks of images: all, or none."""
        self._database.require_writable()
        for _ in range(_TRIES):
            with self._database.reading() as connection:
                schema, founds = self._find(connection, image_ids)
            try:
                made = make(schema, founds)
            except (ProjectError, StorageError):
                if not self._have_moved(founds):
                    raise
                continue
            with (
                self._staging({new.image_id: new.entry for new in made}) as entries,
                self._database.writing() as connection,
            ):
                if all(new.found.is_current(connection) for new in made):
                    store(connection, made, entries)
                    return
        with self._database.writing() as connection:
            made = make(*self._find(connection, image_ids))
            store(connection, made, {new.image_id: new.entry for new in made})

    def _find(
        self, connection: sqlite3.Connection, image_ids: Sequence[int]
    ) -> tuple[ClassSchema, list[FoundMask]]:
        founds = [find_mask(connection, image_id) for image_id in image_ids]
        return select_schema(connection, self._folder), founds

    def _found(self, image_id: int) -> FoundMask:
        with self._database.reading() as connection:
            return find_mask(connection, image_id)

    @contextmanager
    def _staging(self, entries: Mapping[int, MaskArrays]) -> Iterator[Mapping[int, MaskArrays]]:
        """Yield the same masks, written beside their places where that takes long."""
        with ExitStack() as stack:
            staging = self._arrays.staging
            yield {i: stack.enter_context(staging(entry)) for i, entry in entries.items()}

    def _have_moved(self, founds: Sequence[FoundMask]) -> bool:
        """Tell whether a mask is another since, so that its row may have been used again."""
        with self._database.excluding() as connection:
            return any(MaskState.of(connection, f.image_id) != f.state for f in founds)
