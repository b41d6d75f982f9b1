from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr
from drawing import draw
from sized_images import records_of

from napari_protoseg.errors import DamagedError, MissingError, ProjectError, ProtosegError
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    ReviewStatus,
    StoredMask,
    masks_per_shard,
)
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edits import Step, Unnamed
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
LATER = replace(SOURCE, created=NOW + timedelta(hours=1))

Do = Callable[[EditedMask], Step | None]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    sizes = [(40, 30)] * 20 + [(600, 1000)]
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(records_of(tmp_path, sizes))
        yield project


def predicted(record: ImageRecord, seed: int) -> PredictedMask:
    random = np.random.default_rng(seed)
    shape = (record.height, record.width)
    assert record.id is not None
    return PredictedMask(
        image_id=record.id,
        mask=random.integers(0, 4, shape, dtype=np.uint8),
        confidence=random.random(shape).astype(np.float16),
    )


def read(project: Project, record: ImageRecord) -> StoredMask:
    assert record.id is not None
    stored = project.read_mask(record.id)
    assert stored is not None
    return stored


def assert_same(stored: StoredMask, mask: PredictedMask) -> None:
    np.testing.assert_array_equal(stored.mask, mask.mask)
    np.testing.assert_array_equal(stored.confidence, mask.confidence)
    np.testing.assert_array_equal(stored.origins, mask.mask > 0)
    assert stored.mask.dtype == stored.origins.dtype == np.uint8
    assert stored.confidence.dtype == np.float16


def test_masks_of_several_sizes_come_back_from_a_reopened_project(project: Project) -> None:
    records = project.images()
    masks = [predicted(record, seed) for seed, record in enumerate(records)]
    project.write_masks(masks, SOURCE)
    project.close()
    with Project.open(project.folder) as again:
        for record, mask in zip(records, masks, strict=True):
            assert_same(read(again, record), mask)
            assert read(again, record).source == SOURCE


def test_images_of_one_size_share_a_shard_and_a_large_one_has_chunks(project: Project) -> None:
    project.write_masks([predicted(record, 1) for record in project.images()], SOURCE)
    arrays = project.folder / "arrays.zarr"
    small = zarr.open_array(arrays, path="masks/40x30", mode="r")
    large = zarr.open_array(arrays, path="masks/600x1000", mode="r")
    shards = [path for path in (arrays / "masks" / "40x30" / "c").rglob("*") if path.is_file()]
    assert len(shards) == 1
    assert small.chunks == (1, 40, 30)
    assert large.chunks == (1, 512, 512)
    assert large.shards == (1, 1024, 1024)
    assert masks_per_shard(224, 224) == 16


def test_a_large_mask_is_written_into_arrays_that_others_have_made(project: Project) -> None:
    record = project.images()[-1]
    arrays = zarr.open_group(project.folder / "arrays.zarr", mode="a", zarr_format=3)
    for group, dtype, fill in (
        ("masks", "uint8", 255),
        ("confidence", "float16", float("nan")),
        ("origins", "uint8", 255),
    ):
        arrays.require_group(group).create_array(
            "600x1000", shape=(1, 600, 1000), dtype=dtype, chunks=(1, 300, 500), fill_value=fill
        )
    for seed in range(3):
        mask = predicted(record, seed)
        project.write_mask(mask, SOURCE)
        assert_same(read(project, record), mask)


def test_an_image_without_a_mask_has_none(project: Project) -> None:
    first, second = project.images()[:2]
    project.write_mask(predicted(first, 0), SOURCE)
    assert second.id is not None
    assert project.read_mask(second.id) is None
    with pytest.raises(ProjectError, match="no such image"):
        project.read_mask(999)


def test_a_wholly_unlabelled_mask_is_not_taken_for_a_lost_one(project: Project) -> None:
    record = project.images()[0]
    mask = predicted(record, 0)
    empty = PredictedMask(mask.image_id, np.zeros_like(mask.mask), np.zeros_like(mask.confidence))
    project.write_mask(empty, SOURCE)
    assert_same(read(project, record), empty)


def test_a_mask_written_again_leaves_the_others_and_reuses_rows(project: Project) -> None:
    records = project.images()[:20]
    masks = {record.id: predicted(record, 0) for record in records}
    project.write_masks(list(masks.values()), SOURCE)
    for seed in range(1, 6):
        for record in records[::3]:
            masks[record.id] = predicted(record, seed)
        project.write_masks([masks[record.id] for record in records[::3]], SOURCE)
    for record in records:
        assert_same(read(project, record), masks[record.id])
    small = zarr.open_array(project.folder / "arrays.zarr", path="masks/40x30", mode="r")
    assert small.shape[0] == masks_per_shard(40, 30)


def test_the_arrays_grow_by_whole_shards(project: Project, tmp_path: Path) -> None:
    per_shard = masks_per_shard(224, 224)
    project.add_images(
        ImageRecord(
            path=tmp_path / f"tile {number}.png",
            content_hash=f"tile {number}",
            width=224,
            height=224,
            label=(0, 0, 0),
        )
        for number in range(per_shard + 1)
    )
    tiles = [record for record in project.images() if record.width == 224]
    for number, record in enumerate(tiles):
        project.write_mask(predicted(record, number), SOURCE)
    array = zarr.open_array(project.folder / "arrays.zarr", path="masks/224x224", mode="r")
    assert array.shape[0] == 2 * per_shard
    for number, record in enumerate(tiles):
        assert_same(read(project, record), predicted(record, number))


@pytest.mark.parametrize(
    ("mask", "confidence", "reason"),
    [
        (np.zeros((30, 40), np.uint8), np.zeros((40, 30), np.float16), "its mask is uint8"),
        (np.zeros((40, 30), np.int64), np.zeros((40, 30), np.float16), "its mask is int64"),
        (np.zeros((40, 30), np.uint8), np.zeros((40, 30), np.float32), "its confidence is float32"),
        (np.full((40, 30), 4, np.uint8), np.zeros((40, 30), np.float16), r"holds \[4\]"),
        (np.zeros((40, 30), np.uint8), np.full((40, 30), 1.5, np.float16), "range 0..1"),
        (np.zeros((40, 30), np.uint8), np.full((40, 30), np.nan, np.float16), "range 0..1"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_its_whole_batch(
    project: Project, mask: np.ndarray, confidence: np.ndarray, reason: str
) -> None:
    good, bad = project.images()[:2]
    assert good.id is not None
    assert bad.id is not None
    with pytest.raises(ProjectError, match=reason):
        project.write_masks([predicted(good, 0), PredictedMask(bad.id, mask, confidence)], SOURCE)
    assert project.read_mask(good.id) is None


def test_a_mask_of_an_unknown_round_is_refused_and_the_former_stays(project: Project) -> None:
    record = project.images()[0]
    project.write_mask(predicted(record, 0), SOURCE)
    stray = MaskSource(round_id=5, label_condition="given", recipe_json="{}", created=NOW)
    with pytest.raises(ProjectError, match="contradicts"):
        project.write_mask(predicted(record, 1), stray)
    assert_same(read(project, record), predicted(record, 0))


@pytest.mark.parametrize("loss", ["shard", "flipped", "metadata", "everything"])
def test_damaged_arrays_are_reported_and_never_read_as_a_mask(project: Project, loss: str) -> None:
    record = project.images()[0]
    project.write_mask(predicted(record, 0), SOURCE)
    arrays = project.folder / "arrays.zarr"
    shard = arrays / "masks" / "40x30" / "c" / "0" / "0" / "0"
    if loss == "shard":
        shard.unlink()
    elif loss == "flipped":
        content = bytearray(shard.read_bytes())
        content[20:60] = bytes(40)
        shard.write_bytes(content)
    elif loss == "metadata":
        (arrays / "confidence" / "40x30" / "zarr.json").write_text('{"zarr_format": 3')
    else:
        shutil.rmtree(arrays / "masks" / "40x30")
    with pytest.raises(ProjectError, match=r"damaged.*Restore"):
        read(project, record)


@pytest.mark.parametrize("is_drawn", [True, False], ids=["drawn", "imported"])
def test_a_damaged_mask_is_predicted_again_unless_pixels_of_it_were_drawn_or_imported(
    project: Project, is_drawn: bool
) -> None:
    record, corrected = project.images()[:2]
    assert corrected.id is not None
    project.write_masks([predicted(record, 0), predicted(corrected, 0)], SOURCE)
    mask = 3 - read(project, corrected).mask
    if is_drawn:
        draw(project, corrected.id, mask, now=NOW)
    else:
        project.store_imports({corrected.id: mask}, person="Ada", now=NOW)
    (project.folder / "arrays.zarr" / "masks" / "40x30" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(
        ProjectError, match=r"damaged.*Restore the project folder from a copy\..*Or give up"
    ):
        project.write_mask(predicted(corrected, 1), SOURCE)
    project.write_mask(predicted(record, 1), SOURCE)
    assert_same(read(project, record), predicted(record, 1))


def redrawn(project: Project, record: ImageRecord, *later: Do, is_folded: bool = True) -> None:
    """Let Ada draw on the mask of an image, then do more, each a step of its journal."""
    journal = Journal(project, record.known_id)
    edited, _ = journal.open()
    edited.introduce("Ada", project.introduce("Ada"))
    for step in (
        edited.stroke(3 - edited.mask, author="Ada", now=NOW),
        *(do(edited) for do in later),
    ):
        assert step is not None
        journal.append([step])
    if is_folded:
        journal.fold()


def undo(edited: EditedMask) -> Step | None:
    return edited.undo(now=NOW)


def redo(edited: EditedMask) -> Step | None:
    return edited.redo(now=NOW)


def release(edited: EditedMask) -> Step | None:
    return edited.release(np.ones(edited.shape, np.bool_), author="Ada", now=NOW)


@pytest.fixture
def used(project: Project) -> list[ImageRecord]:
    """The images of a project in which models have made masks, and Ada has drawn on some."""
    opened, drawn, waiting, released, undone, modelled, redone, *plain = records = project.images()
    project.write_masks([predicted(record, 0) for record in records], SOURCE)
    project.open_journal(opened.known_id)
    redrawn(project, drawn)
    redrawn(project, waiting, is_folded=False)
    redrawn(project, released, release)
    redrawn(project, undone, undo)
    journal = Journal(project, modelled.known_id)
    step = journal.open()[0].enter_prediction(predicted(modelled, 2), LATER, now=NOW)
    assert step is not None
    journal.append([step])
    redrawn(project, redone, undo, redo)
    redrawn(project, plain[-1])
    return list(records)


OF_ADA = (1, 2, 3, 6, -1)
GIVE_UP = "Or give up for good, with the project closed, what is lost of it"
KEEP = "Keep the present arrays.zarr, too: what people have drawn since is in it alone."


@pytest.mark.parametrize("is_alone", [True, False], ids=["each", "in one batch"])
def test_masks_that_are_gone_with_their_folder_are_predicted_again_unless_somebody_drew_on_them(
    project: Project, used: list[ImageRecord], is_alone: bool
) -> None:
    kept = {used[number].known_id for number in OF_ADA}
    before = project.mask_summaries()
    arrays, away = project.folder / "arrays.zarr", project.folder.parent / "away"
    arrays.rename(away)
    batches = [[record] for record in used] if is_alone else [used]
    for undone in ([used[4].known_id], []):  # the second time others have made the folder anew
        left: dict[int, ProtosegError] = {}
        without_redo: list[int] = []
        for batch in batches:
            written = project.write_masks([predicted(record, 1) for record in batch], LATER)
            left |= written.left
            without_redo += written.without_redo
        assert without_redo == undone
        assert left.keys() == kept
        for image_id, error in left.items():
            assert type(error) is MissingError
            assert error.where == f"image {image_id}"
            assert error.remedy.startswith("Bring back the arrays.zarr that held it, or restore")
            assert "again" not in error.remedy
            assert undone or KEEP in error.remedy
            assert GIVE_UP in error.remedy
    for record in used:
        if record.known_id not in kept:
            assert_same(read(project, record), predicted(record, 1))
    after = project.mask_summaries()
    assert all(after[image_id] == before[image_id] for image_id in kept)
    arrays.rename(project.folder.parent / "meanwhile")
    away.rename(arrays)
    drawn, waiting, released, redone, large = (used[number] for number in OF_ADA)
    for record in (drawn, waiting, redone, large):
        np.testing.assert_array_equal(read(project, record).mask, 3 - predicted(record, 0).mask)
    assert Journal(project, released.known_id).open()[0].next_undo is not None


def test_what_was_drawn_in_either_folder_is_there_with_it_and_both_are_to_be_kept(
    project: Project, used: list[ImageRecord]
) -> None:
    drawn, plain = used[1], used[7]
    arrays, first, second = (project.folder.with_name(n) for n in ("project", "first", "second"))
    arrays /= "arrays.zarr"
    arrays.rename(first)
    project.write_mask(predicted(plain, 1), LATER)
    redrawn(project, plain)
    with pytest.raises(MissingError) as gone:
        read(project, drawn)
    assert f"{KEEP} {GIVE_UP}" in gone.value.remedy
    arrays.rename(second)
    first.rename(arrays)
    np.testing.assert_array_equal(read(project, drawn).mask, 3 - predicted(drawn, 0).mask)
    with pytest.raises(DamagedError, match=r"bring back the one that held it, and keep this one"):
        read(project, plain)
    arrays.rename(first)
    second.rename(arrays)
    np.testing.assert_array_equal(read(project, plain).mask, 3 - predicted(plain, 1).mask)


def test_a_damaged_mask_on_which_all_was_undone_is_made_again_and_has_nothing_to_redo(
    project: Project, used: list[ImageRecord]
) -> None:
    undone, modelled, redone = used[4], used[5], used[6]
    (project.folder / "arrays.zarr" / "masks" / "40x30" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(DamagedError, match="or make the masks again"):
        read(project, undone)
    masks = [predicted(record, 1) for record in (undone, modelled, redone)]
    written = project.write_masks(masks, LATER)
    assert written.left.keys() == {redone.known_id}
    assert type(written.left[redone.known_id]) is DamagedError
    assert "make the masks again" not in written.left[redone.known_id].remedy
    assert written.without_redo == (undone.known_id,)
    for record in (undone, modelled):
        assert_same(read(project, record), predicted(record, 1))
    assert Journal(project, undone.known_id).open()[0].next_redo is None


def test_a_damaged_time_of_one_mask_keeps_no_other_from_being_made(
    project: Project, used: list[ImageRecord]
) -> None:
    drawn, modelled, plain = used[1], used[5], used[7]
    with sqlite3.connect(project.folder / "project.db") as connection:
        connection.execute("UPDATE masks SET created = 'yesterday' WHERE image_id IN (2, 6, 8)")
    connection.close()
    with pytest.raises(DamagedError, match=r"^image 2: the mask is damaged .*yesterday"):
        read(project, drawn)
    written = project.write_masks([predicted(record, 1) for record in used], LATER)
    assert written.left.keys() == {drawn.known_id}
    for record in (modelled, plain):
        assert_same(read(project, record), predicted(record, 1))


def test_arrays_that_cannot_be_written_make_way_as_their_error_says(
    project: Project, used: list[ImageRecord]
) -> None:
    drawn, modelled = used[1], used[5]
    arrays = project.folder / "arrays.zarr"
    (arrays / "masks" / "40x30" / "zarr.json").write_text("{")
    with pytest.raises(DamagedError, match="move this folder away, keep it"):
        project.write_mask(predicted(modelled, 1), LATER)
    arrays.rename(project.folder.parent / "away")
    left = project.write_masks([predicted(drawn, 1), predicted(modelled, 1)], LATER).left
    assert left.keys() == {drawn.known_id}
    assert_same(read(project, modelled), predicted(modelled, 1))


def test_a_damaged_journal_keeps_no_other_image_from_its_mask(
    project: Project, used: list[ImageRecord]
) -> None:
    waiting, other = used[2], used[7]
    with sqlite3.connect(project.folder / "project.db") as connection:
        connection.execute("UPDATE edits SET kind = '?' WHERE image_id = ?", [waiting.known_id])
    connection.close()
    left = project.write_masks([predicted(waiting, 1), predicted(other, 1)], LATER).left
    assert left.keys() == {waiting.known_id}
    assert_same(read(project, other), predicted(other, 1))


def test_a_missing_edit_is_nobodys_by_name_and_may_be_a_persons(
    project: Project, used: list[ImageRecord]
) -> None:
    drawn, undone = used[1], used[4]
    redrawn(project, drawn, undo, is_folded=False)
    with sqlite3.connect(project.folder / "project.db") as connection:
        connection.execute("DELETE FROM edits WHERE action = 'do' AND image_id != 6")
    connection.close()
    assert project.unfolded_authors(used[5].known_id) == [Unnamed.MODEL]
    assert project.unfolded_authors(drawn.known_id) == [Unnamed.UNKNOWN]
    shutil.rmtree(project.folder / "arrays.zarr")
    with pytest.raises(MissingError):
        project.write_mask(predicted(undone, 1), LATER)


def test_an_accepted_mask_that_is_gone_is_made_again_and_accepted_no_more(
    project: Project, used: list[ImageRecord]
) -> None:
    drawn, modelled, plain = used[1], used[5], used[7]
    for record in (drawn, modelled, plain):
        project.set_review_status(record.known_id, ReviewStatus.ACCEPTED)
    assert not project.write_masks([predicted(drawn, 1)], LATER).left
    shutil.rmtree(project.folder / "arrays.zarr")
    project.write_masks([predicted(record, 1) for record in (drawn, modelled, plain)], LATER)
    assert project.review_states() == {drawn.known_id: ReviewStatus.ACCEPTED}


def test_a_mask_is_read_anew_where_its_row_is_used_again_meanwhile(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, other = project.images()[:2]
    project.write_mask(predicted(record, 0), SOURCE)
    read_arrays, writers = ArrayFolder.read, [(record, 1), (other, 2)]

    def read_late(arrays: ArrayFolder, *place: int) -> MaskArrays:
        while writers:  # the first lets go of the row, the second takes it
            project.write_mask(predicted(*writers.pop(0)), SOURCE)
        return read_arrays(arrays, *place)

    monkeypatch.setattr(ArrayFolder, "read", read_late)
    assert_same(read(project, record), predicted(record, 1))
    assert_same(read(project, other), predicted(other, 2))


def test_a_mask_is_read_while_another_thread_or_program_writes(project: Project) -> None:
    record = project.images()[0]
    project.write_mask(predicted(record, 0), SOURCE)
    with ThreadPoolExecutor(1) as pool, project._database.writing():
        assert_same(pool.submit(read, project, record).result(timeout=60), predicted(record, 0))


def test_what_is_known_of_masks_is_read_while_another_thread_writes(project: Project) -> None:
    record = project.images()[0]
    project.write_mask(predicted(record, 0), SOURCE)
    with ThreadPoolExecutor(1) as pool, project._database.writing():
        assert set(pool.submit(project.mask_summaries).result(timeout=60)) == {record.id}


def test_threads_write_and_read_masks_at_once(project: Project) -> None:
    def write(records: Sequence[ImageRecord]) -> None:
        for record in records:
            project.write_mask(predicted(record, 0), SOURCE)
            assert_same(read(project, record), predicted(record, 0))

    records = project.images()[:16]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, (records[::2], records[1::2])))
    for record in records:
        assert_same(read(project, record), predicted(record, 0))
