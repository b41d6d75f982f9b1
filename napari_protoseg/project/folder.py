"""The project folder: what is recorded in it, and where its files belong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import (
    ProjectError,
    ProjectLockedError,
    StorageError,
)
from napari_protoseg.events import Notice
from napari_protoseg.project.arrays import ArrayFolder
from napari_protoseg.project.bank_rows import (
    insert_bank,
    next_bank,
    select_bank,
    select_banks,
    staged_bank,
)
from napari_protoseg.project.class_changes import (
    RemovedClass,
    remove_class,
    restore_class,
    select_removed,
)
from napari_protoseg.project.creation import DATABASE, created_folder
from napari_protoseg.project.database import Database
from napari_protoseg.project.edit_rows import (
    begin_journal,
    let_go,
    select_journaled,
    select_unfolded,
    select_unfolded_authors,
)
from napari_protoseg.project.edits import NewStep, Unnamed
from napari_protoseg.project.image_rows import (
    insert_images,
    require_image,
    select_images,
    select_present,
    update_labels,
    update_paths,
    update_split,
    update_truth,
)
from napari_protoseg.project.inspection import (
    Fault,
    journal_faults,
    remove_orphan_rows,
    row_faults,
)
from napari_protoseg.project.journal_changes import (
    OpenedJournal,
    Outcome,
    keep_all_taken,
    record_steps,
)
from napari_protoseg.project.leftovers import NamedFiles, put_aside, remove, select_paths
from napari_protoseg.project.mask_changes import WrittenMasks
from napari_protoseg.project.mask_rows import select_summaries
from napari_protoseg.project.mask_store import MaskStore
from napari_protoseg.project.paths import real_path, refuse_links
from napari_protoseg.project.people_rows import person_setter, select_people
from napari_protoseg.project.records import (
    BankRow,
    FreshConfidence,
    ImageRecord,
    MaskSource,
    MaskSummary,
    PredictedMask,
    ReviewStatus,
    Round,
    RoundStatus,
    Split,
    Stage,
    StoredMask,
)
from napari_protoseg.project.review_rows import (
    replace_muted,
    replace_recipe,
    replace_review,
    select_muted,
    select_recipe,
    select_reviews,
)
from napari_protoseg.project.round_rows import (
    begin_round,
    change_round,
    select_latest_round,
    select_rounds,
)
from napari_protoseg.project.schema_rows import (
    insert_schema,
    require_successor,
    select_earlier_schemas,
    select_schema,
    select_schemas,
)
from napari_protoseg.project.snapshot import copy_files, move_paths, staged
from napari_protoseg.project.truth_files import place_truth, remove_truth, staged_truth
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import replacing, storage_errors, take_place


class Project:
    """An open project; made by `create` or `open`, and closed by `close` or ``with``.

    Every method may be called from any thread; those that write wait for each other. All of them
    raise `StorageError` where the disk is full, or cannot be written or read, and have then changed
    nothing.
    """

    def __init__(self, folder: Path, database: Database, schema: ClassSchema) -> None:
        self._folder = folder
        self._database = database
        self._schema = schema
        self._arrays = ArrayFolder(folder / "arrays.zarr")
        self._masks = MaskStore(database, self._arrays, folder)

    @classmethod
    def create(cls, folder: Path, schema: ClassSchema, *, created: datetime) -> Self:
        """Make a project in `folder`, which is missing or empty, and open it.

        Raises
        ------
        ProjectError
            The folder holds something already.
        StorageError
            The folder cannot be made or written; nothing of it is left then.
        """
        folder = real_path(folder)
        with created_folder(folder, schema, created=created):
            return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, take_over: bool = False) -> Self:
        """Open the project in `folder`: read-only where another process has it open for writing.

        Parameters
        ----------
        folder
            Of the project.
        take_over
            Open it for writing in place of whoever has it open, whose next write is refused.

        Raises
        ------
        ProjectError
            It is missing, no project, damaged, of a newer format, or has links in the place of
            its files and folders; nothing is changed.
        StorageError
            It cannot be read and written.
        """
        folder = real_path(folder)
        database = Database.open(folder / DATABASE, take_over=take_over)
        try:
            with storage_errors(folder):
                refuse_links(folder)
            with database.reading() as connection:
                schema = select_schema(connection, folder)
        except BaseException:
            database.withdraw()
            raise
        return cls(folder, database, schema)

    def close(self) -> None:
        """Close the project; nothing more can be read or written."""
        self._database.close()

    def withdraw(self) -> None:
        """Close the project as if it had not been opened; `close` where it is closed for good.

        Whoever it was taken over from has it again, unless something was changed meanwhile.
        """
        self._database.withdraw()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_read_only(self) -> bool:
        """Whether another process has the project open for writing, or has taken it over."""
        return not self._database.lock.is_held

    def is_same(self, other: Project) -> bool:
        """Tell whether `other` is an opening of this project, and not of one put in its place."""
        return self._folder == other._folder and self._database.is_of_file(other._database)

    def lock_notice(self) -> Notice | None:
        """Say why the project is read-only, or whose lock it was opened over; else None."""
        return self._database.lock.notice()

    def require_writable(self) -> None:
        """Make sure that the project can be written, before long work.

        Raises
        ------
        ProjectLockedError
            Another process has it open for writing. So for all methods that write.
        """
        self._database.require_writable()

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Keep the lock of the project for the block, in which a finished file takes its place.

        Nobody else writes meanwhile, so a file of somebody who was taken over never comes after
        those of the other. It must be ready before, and nothing else is asked of the project.

        Raises
        ------
        ProjectLockedError
        """
        with self._database.writing():
            yield

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path beside that of a file of the project, as `storage.replacing` does.

        It takes the place of `path` only where this opening still has the lock.

        Raises
        ------
        ProjectLockedError
            Another process has the project: nothing was changed.
        """
        with self._writing_files(), replacing(path, self.placing) as temporary:
            yield temporary

    @contextmanager
    def _writing_files(self) -> Iterator[None]:
        """Say who has the project, where a file cannot be written because another has it."""
        self.require_writable()
        try:
            yield
        except StorageError:
            self.require_writable()  # the other may have removed what was half-written
            raise

    def faults(self) -> list[Fault]:
        """Return what is wrong with the rows of the database, but for those of journals.

        No other file is looked at.
        """
        with self._database.reading() as connection:
            return list(row_faults(connection, self._folder))

    def journal_faults(self) -> dict[int, Fault]:
        """Return what is wrong with the journals of edits, by image."""
        with self._database.reading() as connection:
            return journal_faults(connection)

    def named_files(self) -> NamedFiles:
        """Return the banks, runs, images and true masks that rows name."""
        with self._database.reading() as connection:
            paths = select_paths(connection)
        return NamedFiles(self._folder, paths)

    def discard(self, paths: Iterable[Path], named: NamedFiles) -> dict[Path, StorageError | None]:
        """Remove what no row names.

        It is renamed in one transaction that has seen that the lock is still held, and that no row
        has come to name it; others write again while it is removed. What cannot be removed keeps
        nothing else there.

        Parameters
        ----------
        paths
            Files and folders of the project.
        named
            What rows named before these were listed, and did not name any of them.

        Returns
        -------
        dict of StorageError or None
            None for what is gone; else where some of it is still, and why. What a row names by now
            is not among them.

        Raises
        ------
        ProjectLockedError
            Another process has the project, or has had it: nothing was removed.
        """
        with storage_errors(self._folder), self._database.writing() as connection:
            since = NamedFiles(self._folder, set(select_paths(connection)) - named.texts)
            going = [path for path in sorted(paths) if not since.spare(path)]
            places, left = put_aside(going, self._folder)
        return left | {path: remove(place) for path, place in places.items()}

    def remove_orphan_rows(self) -> Counter[str]:
        """Remove rows that belong to nothing that is there; return how many, by table."""
        with self._database.writing() as connection:
            return remove_orphan_rows(connection)

    def staged(self) -> AbstractContextManager[Path]:
        """Give a folder with the project as it stands now, until the end of the block.

        Another process may write meanwhile. Caches are not in it.
        """
        return staged(self._database, self._folder)

    def copy_staged(self, stage: Path, target: Path, place: Path) -> Iterator[tuple[int, int]]:
        """Copy what is `staged` to a folder, which is to take its place at `place`.

        Yields
        ------
        tuple of int
            How many files are copied, and how many there are.
        """
        yield from copy_files(stage, target)
        move_paths(target / DATABASE, self._folder, place)

    def relocate(self, paths: Mapping[int, Path]) -> None:
        """Record where images lie now: all of them, or none.

        Raises
        ------
        ProjectError
            There is no such image, or another one lies there.
        """
        with self._database.writing() as connection:
            update_paths(connection, paths, folder=self._folder)

    @property
    def folder(self) -> Path:
        """Real path of the project folder."""
        return self._folder

    @property
    def cache(self) -> Path:
        """Folder of what can be computed again; it may be missing."""
        return self._folder / "cache"

    @property
    def schema(self) -> ClassSchema:
        """The classes that hold now."""
        return self._schema

    def newest_schema(self) -> ClassSchema:
        """Return the classes that hold now, also where another process has changed them."""
        with self._database.reading() as connection:
            return select_schema(connection, self._folder)

    def earlier_schemas(self) -> list[ClassSchema]:
        """Return the schemas that held before this one, the newest first."""
        with self._database.reading() as connection:
            return select_earlier_schemas(connection, self._folder)

    def set_schema(self, schema: ClassSchema, *, created: datetime) -> None:
        """Set a schema in which every class id of the project keeps its meaning.

        Raises
        ------
        SchemaError
            A class is missing or has another name, or a retired id is free again.
        """
        with self._database.writing() as connection:
            require_successor(schema, select_schema(connection, self._folder), self._folder)
            insert_schema(connection, schema, created=created)
        self._schema = schema

    def schema_version(self) -> int:
        """Return the number of the schema that holds now; it rises with every change of it."""
        with self._database.reading() as connection:
            return len(select_schemas(connection, self._folder))

    def remove_class(
        self, class_id: int, heir: int | None = None, *, created: datetime
    ) -> ClassSchema:
        """Take a class out of the schema, until `restore_class` brings it back; no pixel is lost.

        Its labels go, and its pixels are unlabelled; those that a person has set stay theirs.
        Banks and rounds that were made with it do not fit while it is gone.

        Parameters
        ----------
        class_id
            Which.
        heir
            Id of a class that its labels and pixels go to instead. Together they are present in
            an image where either was, and absent where both were.
        created
            When.

        Raises
        ------
        SchemaError
            There is no such class, or no other one.
        """
        with self._database.writing() as connection:
            keep_all_taken(connection, self._arrays)
            schema = remove_class(connection, class_id, heir, folder=self._folder, created=created)
        self._schema = schema
        return schema

    def restore_class(self, *, created: datetime) -> RemovedClass:
        """Bring the class back that went last, with its labels and pixels.

        Where an image was labelled otherwise since, or a pixel drawn over, that stays.

        Raises
        ------
        SchemaError
            None was removed, or another class has its name by now.
        """
        with self._database.writing() as connection:
            keep_all_taken(connection, self._arrays)
            gone, schema = restore_class(connection, folder=self._folder, created=created)
        self._schema = schema
        return gone

    def removed_classes(self) -> list[RemovedClass]:
        """Return the classes that are gone and can come back, the first to do so at the end."""
        with self._database.reading() as connection:
            return select_removed(connection, self._folder)

    def add_images(self, records: Iterable[ImageRecord], *, label_source: str = "imported") -> None:
        """Add images with their labels: all of them, or none.

        Parameters
        ----------
        records
            Their `id` is not looked at.
        label_source
            Where the labels come from, in words.

        Raises
        ------
        ProjectError
            An image is in the project already, or its label does not fit the schema.
        """
        listed = tuple(records)
        with self._database.writing() as connection:
            insert_images(
                connection,
                listed,
                folder=self._folder,
                schema=self._schema,
                label_source=label_source,
            )

    def image(self, image_id: int) -> ImageRecord:
        """Return one image.

        Raises
        ------
        ProjectError
            There is no such image.
        """
        with self._database.reading() as connection:
            require_image(connection, image_id)
            (image,) = select_images(
                connection, folder=self._folder, schema=self._schema, image_id=image_id
            )
        return image

    def set_labels(self, labels: Mapping[int, Sequence[int]], *, source: str) -> None:
        """Set the image-level labels of images: all of them, or none.

        Parameters
        ----------
        labels
            For each image, 1, 0 or -1 for each class in schema order.
        source
            Where they come from, in words; recorded for the classes that change.

        Raises
        ------
        ProjectError
            There is no such image, or a label does not fit the schema.
        """
        with self._database.writing() as connection:
            update_labels(connection, labels, schema=self._schema, source=source)

    def set_split(self, image_ids: Collection[int], split: Split) -> None:
        """Say what images are for: all of them, or none.

        Raises
        ------
        ProjectError
            There is no such image.
        """
        with self._database.writing() as connection:
            update_split(connection, image_ids, split)

    def set_truth(self, masks: Mapping[int, Path | None]) -> None:
        """Give images their true masks, in the codes of a project, to validate on.

        Parameters
        ----------
        masks
            File of each image, which stays where it is; None takes its mask away, and leaves the
            split.

        Raises
        ------
        ProjectError
            There is no such image.
        """
        with self._database.writing() as connection:
            update_truth(connection, masks, folder=self._folder)

    def import_truth(self, masks: Iterable[tuple[int, bytes]]) -> None:
        """Give images copies of true masks, to validate on: all of them, or none.

        Parameters
        ----------
        masks
            Image and file of each, a PNG in the codes of a project; taken one at a time.

        Raises
        ------
        ProjectError
            There is no such image.
        """
        with (
            self._writing_files(),
            staged_truth(masks, self._folder) as new,
            self._database.writing() as connection,
        ):
            former = place_truth(connection, new, self._folder)
        # They are named no more: where they cannot be removed, a check does it.
        with suppress(StorageError, ProjectLockedError), self._database.writing() as connection:
            remove_truth(connection, former, self._folder)

    def images(self, split: Split | None = None) -> tuple[ImageRecord, ...]:
        """Return the images of `split`, or all, in the order of their recorded paths."""
        with self._database.reading() as connection:
            return select_images(connection, folder=self._folder, schema=self._schema, split=split)

    def present_classes(self, split: Split) -> set[int]:
        """Return the ids of the classes that some image of `split` is known to hold."""
        with self._database.reading() as connection:
            return select_present(connection, self._schema, split)

    def add_bank(
        self,
        content: bytes,
        summary_json: str,
        fingerprint: str,
        *,
        created: datetime,
        made_of_json: str | None = None,
    ) -> BankRow:
        """Add a bank as a new version: its file, and its row.

        Parameters
        ----------
        content
            Of the file.
        summary_json
            What a list of banks shows without opening them.
        fingerprint
            Of the class schema that the bank was made for.
        created
            When.
        made_of_json
            The versions that it came from.
        """
        with self._writing_files(), staged_bank(content, self._folder) as temporary:
            with self._database.writing() as connection:
                version, path = next_bank(connection, self._folder)
                bank = BankRow(version, path, summary_json, fingerprint, created, made_of_json)
                insert_bank(connection, bank, self._folder)
                with storage_errors(path):
                    take_place(temporary, path)
            return bank

    def banks(self) -> list[BankRow]:
        """Return every version of the bank, the oldest first."""
        with self._database.reading() as connection:
            return select_banks(connection, self._folder)

    def bank(self, version: int) -> BankRow:
        """Return one version of the bank.

        Raises
        ------
        ProjectError
            There is no such version.
        """
        with self._database.reading() as connection:
            bank = select_bank(connection, self._folder, version)
        if bank is None:
            raise ProjectError(
                f"there is no bank {version}", where=self._folder, remedy="Build a bank."
            )
        return bank

    def latest_bank(self) -> BankRow | None:
        """Return the newest bank, or None where there is none yet."""
        with self._database.reading() as connection:
            return select_bank(connection, self._folder)

    def muted_prototypes(self, bank_version: int) -> frozenset[int]:
        """Return the prototypes of a bank that a person has muted, by their rows in it."""
        with self._database.reading() as connection:
            return select_muted(connection, bank_version)

    def set_muted_prototypes(self, bank_version: int, muted: Collection[int]) -> None:
        """Make `muted` the muted prototypes of a bank.

        Raises
        ------
        ProjectError
            There is no such bank.
        """
        with self._database.writing() as connection:
            replace_muted(connection, bank_version, muted)

    def recipe_json(self) -> str | None:
        """Return the recipe that a person has chosen for masks, or None where none was."""
        with self._database.reading() as connection:
            return select_recipe(connection)

    def set_recipe_json(self, recipe_json: str) -> None:
        """Make a recipe the one for the masks of this project."""
        with self._database.writing() as connection:
            replace_recipe(connection, recipe_json)

    def new_round(
        self,
        bank_version: int,
        config_json: str,
        *,
        created: datetime,
        stage: Stage = Stage.PROTOTYPES,
        made_of_json: str | None = None,
    ) -> Round:
        """Begin a round of training: make its folder, then record it as running.

        `made_of_json` says which versions it comes from.

        Raises
        ------
        ProjectError
            There is no such bank.
        """
        with self._database.writing() as connection:
            return begin_round(
                connection,
                self._folder,
                bank_version=bank_version,
                config_json=config_json,
                created=created,
                stage=stage,
                made_of_json=made_of_json,
            )

    def update_round(
        self,
        round_id: int,
        status: RoundStatus,
        *,
        metrics_json: str | None = None,
        finished: datetime | None = None,
    ) -> None:
        """Record how far a round has come.

        Parameters
        ----------
        round_id
            The round.
        status
            Its new status.
        metrics_json
            Its figures; None keeps those that it has.
        finished
            When it ended; None while it runs.

        Raises
        ------
        ProjectError
            There is no such round.
        """
        with self._database.writing() as connection:
            if not change_round(
                connection,
                round_id,
                status=status,
                metrics_json=metrics_json,
                finished=finished,
            ):
                raise ProjectError(
                    f"there is no round {round_id}", where=self._folder, remedy="Train first."
                )

    def rounds(self) -> list[Round]:
        """Return every round, the oldest first."""
        with self._database.reading() as connection:
            return select_rounds(connection, self._folder)

    def latest_round(
        self,
        statuses: Collection[RoundStatus] = tuple(RoundStatus),
        stage: Stage = Stage.PROTOTYPES,
    ) -> Round | None:
        """Return the newest round of a stage with one of `statuses`, or None without one."""
        with self._database.reading() as connection:
            return select_latest_round(connection, self._folder, statuses, stage)

    def write_mask(self, mask: PredictedMask, source: MaskSource) -> None:
        """Make `mask` the current mask of its image; see `write_masks`.

        Raises
        ------
        DamagedError, MissingError
            The one before is damaged or gone, and there is work of people in it.
        """
        for error in self.write_masks((mask,), source).left.values():
            raise error

    def write_masks(
        self,
        masks: Sequence[PredictedMask],
        source: MaskSource,
        labels: Mapping[int, str] | None = None,
    ) -> WrittenMasks:
        """Make each of `masks` the current one of its image: all that can be, or none.

        Pixels that a person has set, or that were imported, stay. A mask that is damaged or gone
        is made again, with no journal and accepted no more, where nobody has drawn or imported, or
        all of it was undone.

        Fastest with a multiple of `masks_per_shard` images of one size at a time. `labels` are
        those of the source, where they differ from image to image.

        Returns
        -------
        WrittenMasks
            Which masks are left as they are: that before is damaged or gone, with work of people
            in it. And where what people had undone can no longer be redone.

        Raises
        ------
        ProjectError
            A mask has not the size of its image, or values that are no class ids.
        """
        return self._masks.store_masks(masks, source, labels)

    def read_mask(self, image_id: int) -> StoredMask | None:
        """Return the current mask of an image, or None where it has none.

        Raises
        ------
        ProjectError
            There is no such image, or its mask on disk is damaged.
        MissingError
            Its mask is gone.
        """
        return self._masks.read(image_id)

    def require_sound_mask(self, image_id: int) -> None:
        """Make sure that the mask of an image, where it has one, is there as it was stored.

        Steps of its journal that came later are not looked at; this is as cheap as it can be.

        Raises
        ------
        DamagedError, MissingError
            The mask is damaged or gone.
        StorageError
            It cannot be read just now.
        """
        self._masks.require_sound(image_id)

    def give_up_mask(self, image_id: int, *, now: datetime) -> int:
        """Let an image go on without what is lost of its mask and its journal.

        What can still be read stays: of a mask that is damaged or gone what people have set,
        propagated or imported, as far as its journal has it; beside a damaged journal the mask on
        disk, with the steps after it if all of them can be read. The journal goes, so nothing can
        be undone, and so does what was said of the mask in review. That is for good: other masks
        may then take the place of a lost one, also in an `arrays.zarr` that is brought back. The
        image can be predicted, imported and drawn on again.

        Returns
        -------
        int
            How many pixels of people and imports it has then.

        Raises
        ------
        ProjectError
            There is no such image, or nothing of it is lost.
        StorageError
            The mask cannot be read just now, or not be written.
        """
        return self._masks.give_up(image_id, now=now)

    def mask_summaries(self) -> dict[int, MaskSummary]:
        """Return what is known of each current mask, by image; no pixel is read."""
        with self._database.reading() as connection:
            return select_summaries(connection)

    def mask_summary(self, image_id: int) -> MaskSummary | None:
        """Return what is known of the current mask of an image; None where it has none."""
        with self._database.reading() as connection:
            return select_summaries(connection, image_id).get(image_id)

    def store_imports(
        self, masks: Mapping[int, NDArray[np.uint8]], *, person: str, now: datetime
    ) -> None:
        """Put masks that were made elsewhere over those of their images: all of them, or none.

        Parameters
        ----------
        masks
            For each image ``(height, width)``: k class id k, which no prediction may change from
            now on; 0 leaves a pixel as it is. One that a person has set stays in any case.
        person
            Name of who imports them.
        now
            When.

        Raises
        ------
        ProjectError
            A mask has not the size of its image, or values that are no class ids.
        """
        self._masks.store_imports(masks, person=person, now=now)

    def open_journal(self, image_id: int) -> OpenedJournal:
        """Return the mask of an image, with its journal, which it has from now on to be edited.

        Raises
        ------
        ProjectError
            There is no such image, or its mask or its journal is damaged.
        """
        # Nothing keeps anybody from looking at an image, no full disk, and no other program that
        # has just taken the project over: the first step begins the journal then, where one may.
        if not self.is_read_only:
            with (
                suppress(StorageError, ProjectLockedError),
                self._database.writing() as connection,
            ):
                begin_journal(connection, image_id)
        return self._masks.open_journal(image_id)

    def record_steps(self, image_id: int, steps: Sequence[NewStep]) -> list[Outcome]:
        """Append steps to the journal of an image, synced to the disk: all of them, or none.

        A step that is there already is not recorded again.

        Returns
        -------
        list of Outcome
            What has become of each.

        Raises
        ------
        ProjectError
            There is no such image, or a step names a round that the project does not have.
        """
        with self._database.writing() as connection:
            return record_steps(connection, self._arrays, image_id, steps)

    def fold_journal(self, image_id: int, confidence: FreshConfidence | None = None) -> int:
        """Store the mask of an image with every step that its journal has now, in one transaction.

        Steps are recorded beside what takes long of it.

        Parameters
        ----------
        image_id
            The image.
        confidence
            Of a prediction, for the pixels that nobody else has set, where the mask comes from
            it; None keeps what is known.

        Returns
        -------
        int
            How many steps the stored mask did not hold before.

        Raises
        ------
        ProjectError
            There is no such image, or its mask or its journal is damaged.
        """
        return self._masks.fold(image_id, confidence)

    def unfolded_images(self) -> list[int]:
        """Return the images with steps in the journal that their stored masks do not hold yet."""
        with self._database.reading() as connection:
            return select_unfolded(connection)

    def unfolded_authors(self, image_id: int) -> list[str | Unnamed]:
        """Return whose edit each step of a journal does or undoes that the stored mask lacks."""
        with self._database.reading() as connection:
            return select_unfolded_authors(connection, image_id)

    def shorten_journals(self, *, most_edits: int, most_bytes: int) -> int:
        """Let go of the oldest edits of images with more, except those that are not folded yet.

        Returns
        -------
        int
            How many edits cannot be undone any more.
        """
        with self._database.writing() as connection:
            return sum(
                let_go(connection, image_id, most_edits=most_edits, most_bytes=most_bytes)
                for image_id in select_journaled(connection)
            )

    def introduce(self, person: str) -> int:
        """Return the setter that stands for a person in masks, entered where they are new."""
        with self._database.writing() as connection:
            return person_setter(connection, person)

    def people(self) -> dict[str, int]:
        """Return the setter that stands for each person in masks, by name."""
        with self._database.reading() as connection:
            return select_people(connection)

    def review_states(self) -> dict[int, ReviewStatus]:
        """Return what was said of masks in review, by image."""
        with self._database.reading() as connection:
            return select_reviews(connection)

    def set_review_status(self, image_id: int, status: ReviewStatus | None) -> None:
        """Record what is said of the mask of an image; None takes it back.

        Raises
        ------
        ProjectError
            There is no such image, or it has no mask to accept.
        """
        with self._database.writing() as connection:
            replace_review(connection, image_id, status)
