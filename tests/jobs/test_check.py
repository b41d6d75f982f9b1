"""A project is verified: what is damaged is named, what is left over goes, nothing else changes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from drawing import draw
from PIL import Image

from napari_protoseg.errors import ProjectClosedError, ProjectError, ProjectLockedError
from napari_protoseg.events import Event, Progress, finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.check_report import CheckReport, Finding, Outcome
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    RoundStatus,
    database,
)
from napari_protoseg.project.array_store import FileStore
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.lock import LockOwner
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
SIZES = (16, 16, 600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of three images with masks; Ada has corrected the second."""
    random = np.random.default_rng(0)
    records = []
    (tmp_path / "tiles").mkdir()
    for number, size in enumerate(SIZES):
        path = tmp_path / "tiles" / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        records.append(
            ImageRecord(path=path, content_hash=content, width=size, height=size, label=(1, 0))
        )
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(records)
        for image in project.images():
            mask = random.integers(0, 3, (image.height, image.width), dtype=np.uint8)
            confidence = np.ones(mask.shape, np.float16)
            project.write_mask(PredictedMask(image.known_id, mask, confidence), SOURCE)
        draw(project, 2, np.ones((16, 16), np.uint8), now=NOW)
    return tmp_path / "project"


def checked(folder: Path, *, repair: bool = False) -> CheckReport:
    with Project.open(folder) as project:
        return finish(check_project(project, repair=repair))


def only(report: CheckReport) -> Finding:
    (finding,) = report.findings
    return finding


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def test_a_sound_project_is_well(folder: Path) -> None:
    report = checked(folder)
    assert report.findings == []
    assert (report.images, report.masks) == (3, 3)
    assert "all is well" in report.lines()[-1]


def test_a_damaged_mask_is_named_with_its_image_and_whose_work_is_lost(folder: Path) -> None:
    shutil.rmtree(folder / "arrays.zarr" / "masks" / "16x16" / "c")
    first, second = checked(folder).problems
    assert "image 1" in first.where
    assert "0.png" in first.where
    assert "what a model has made is lost with it" in first.what
    assert "make the masks again" in first.remedy
    assert "image 2" in second.where
    assert "corrections by Ada of 2026-03-01 12:30 are lost" in second.what
    assert second.remedy.startswith("Restore the project folder from a copy. Where arrays")
    assert "Or give up for good, with the project closed" in second.remedy


def test_a_missing_edit_is_told_of_as_nobodys_by_name(folder: Path) -> None:
    with Project.open(folder) as project:
        journal = Journal(project, 2)
        step = journal.open()[0].undo(now=NOW)
        assert step is not None
        journal.append([step])
    with closing(sqlite3.connect(folder / "project.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM edits WHERE action = 'do'")
    *_, found = checked(folder).problems
    assert found.where.startswith("image 2 (")
    assert "cannot be shown without 1 step by somebody unknown that came after it" in found.what


def test_a_single_byte_that_has_changed_in_a_mask_is_found(folder: Path) -> None:
    for shard in (folder / "arrays.zarr" / "confidence" / "600x600" / "c").rglob("*"):
        if shard.is_file():
            flip_a_byte(shard)
    assert "image 3" in only(checked(folder)).where


def test_masks_that_are_gone_are_named_and_the_rest_is_looked_at(folder: Path) -> None:
    (folder / "arrays.zarr").rename(folder / "elsewhere")
    report = checked(folder)
    named = [found.where.split(" (")[0] for found in report.problems]
    assert named == ["image 1", "image 2", "image 3"]
    assert "corrections by Ada" in report.problems[1].what


def begun(job: Iterator[Event], stage: str) -> Iterator[Event]:
    """Let a check come to the end of a stage, and return it as far as it has come."""
    for event in job:
        if isinstance(event, Progress) and (event.stage, event.done) == (stage, event.total):
            return job
    raise AssertionError(stage)


def without_claims(report: CheckReport) -> list[Finding]:
    """Return the problems, of which none says that something is lost."""
    assert all("lost" not in problem.what for problem in report.problems)
    assert all("copy" not in problem.remedy for problem in report.problems)
    return report.problems


def test_masks_that_are_away_with_the_whole_project_are_not_called_lost(folder: Path) -> None:
    with Project.open(folder) as project:
        job = begun(check_project(project, images=False), "Checking the folder")
        folder.rename(folder.with_name("away"))
        problems = without_claims(finish(job))
        folder.with_name("away").rename(folder)
    assert [problem.where.split(" (")[0] for problem in problems] == [
        "image 1", "image 2", "image 3"
    ]  # fmt: skip
    assert all("cannot be read now" in problem.what for problem in problems)
    assert all("no longer here" in problem.what for problem in problems)
    assert checked(folder).findings == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_masks_on_a_disk_that_fails_for_a_moment_are_not_called_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*args: Any, **options: Any) -> NoReturn:
        raise OSError(number, os.strerror(number), str(folder))

    with monkeypatch.context() as patched:
        for name in ("get", "get_sync", "get_partial_values"):
            patched.setattr(FileStore, name, failing)
        problems = without_claims(checked(folder))
    assert len(problems) == 3
    assert all(problem.where.startswith("image ") for problem in problems)
    assert all("cannot be read now" in problem.what for problem in problems)
    assert checked(folder).findings == []


def test_masks_that_memory_is_short_for_are_not_called_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **options: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(FileStore, "get", failing)
    problems = without_claims(checked(folder))
    assert [problem.where.split(" (")[0] for problem in problems] == [
        "image 1", "image 2", "image 3"
    ]  # fmt: skip
    assert all("not enough memory" in problem.what for problem in problems)


def test_masks_that_another_program_may_be_writing_are_not_called_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    arrays, elsewhere = folder / "arrays.zarr", folder / "elsewhere"
    with (
        Project.open(folder) as project,
        closing(sqlite3.connect(folder / "project.db", isolation_level=None)) as other,
    ):
        job = begun(check_project(project, images=False), "Checking the folder")
        arrays.rename(elsewhere)
        other.execute("BEGIN IMMEDIATE")
        problems = without_claims(finish(job))
        other.execute("ROLLBACK")
    assert len(problems) == 3
    assert all("another program is writing" in problem.what for problem in problems)
    elsewhere.rename(arrays)
    assert checked(folder).findings == []


def test_a_check_of_a_project_that_is_closed_meanwhile_says_nothing_of_its_masks(
    folder: Path,
) -> None:
    with Project.open(folder) as project:
        job = check_project(project, images=False)
        while not str(next(job)).startswith("Progress(stage='Checking masks'"):
            pass
        project.close()
        with pytest.raises(ProjectClosedError):
            next(job)  # which would have looked at the next one


def test_checkpoints_that_are_away_with_the_whole_project_are_not_called_missing(
    folder: Path,
) -> None:
    with Project.open(folder) as project:
        bank = project.add_bank(b"", "{}", SCHEMA.fingerprint, created=NOW)
        begun_round = project.new_round(bank.version, "{}", created=NOW)
        project.update_round(begun_round.id, RoundStatus.FINISHED, finished=NOW)
    assert "its checkpoint is missing" in [problem.what for problem in checked(folder).problems]
    with Project.open(folder) as project:
        job = begun(check_project(project, images=False), "Checking banks")
        folder.rename(folder.with_name("away"))
        problems = finish(job).problems
        folder.with_name("away").rename(folder)
    assert "its checkpoint is missing" not in [problem.what for problem in problems]
    assert problems[-1].where == str(folder)


@pytest.mark.parametrize(
    ("mask", "confidence", "setter", "words"),
    [
        (2, 0.5, 0, "pixels are labelled that nobody has set"),
        (0, 0.5, 1, "pixels are unlabelled that the model has set"),
        (1, 1.0, 216, "persons whom the project does not know ([216])"),
        (1, float("nan"), 1, "its confidence leaves the range 0..1"),
        (1, 9.0, 1, "its confidence leaves the range 0..1"),
    ],
)
def test_a_mask_that_contradicts_itself_is_found_and_can_still_be_read(
    folder: Path, mask: int, confidence: float, setter: int, words: str
) -> None:
    entry = MaskArrays(
        np.full((600, 600), mask, np.uint8),
        np.full((600, 600), confidence, np.float16),
        np.full((600, 600), setter, np.uint8),
    )
    ArrayFolder(folder / "arrays.zarr").write([0], [entry])
    with closing(sqlite3.connect(folder / "project.db")) as connection, connection:
        connection.execute(
            "UPDATE masks SET row = 0, digest = ? WHERE image_id = 3", (entry.digest,)
        )
    found = only(checked(folder))
    assert found.outcome is Outcome.PROBLEM
    assert found.where.startswith("image 3 (")
    assert words in found.what
    with Project.open(folder) as project:
        stored = project.read_mask(3)
    assert stored is not None
    assert (stored.setters == setter).all()


def test_an_edit_that_is_damaged_is_found_though_the_mask_holds_it(folder: Path) -> None:
    with Project.open(folder) as project:
        edited, _ = Journal(project, 2).open()
        step = edited.stroke(np.zeros((16, 16), np.uint8), author="Ada", now=NOW)
        assert step is not None
        Journal(project, 2).append([step])
        project.fold_journal(2)
    assert checked(folder).findings == []
    with closing(sqlite3.connect(folder / "project.db")) as connection, connection:
        connection.execute("UPDATE edits SET pixels = CAST(pixels || x'00' AS BLOB)")
    found = only(checked(folder))
    assert found.where == "image 2"
    assert "cannot be undone" in found.what


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("kind = 'x'", "'x' is not a valid EditKind"),
        ("time = 'noon'", "the time 'noon'"),
        ("pixels = CAST(pixels || x'00' AS BLOB)", "an edit is damaged"),
    ],
)
def test_an_edit_that_is_damaged_and_not_in_the_mask_is_told_of_once_and_no_more_called_lost(
    folder: Path, change: str, words: str
) -> None:
    with Project.open(folder) as project:
        journal = Journal(project, 1)
        edited, _ = journal.open()
        edited.introduce("Ada", project.introduce("Ada"))
        step = edited.stroke(np.full((16, 16), 2, np.uint8), author="Ada", now=NOW)
        assert step is not None
        journal.append([step])
    with closing(sqlite3.connect(folder / "project.db")) as connection, connection:
        connection.execute(f"UPDATE edits SET {change} WHERE image_id = 1")
    found = only(checked(folder))
    assert found.where.startswith("image 1 (")
    assert words in found.what
    assert "cannot be shown without 1 step by Ada" in found.what
    assert "lost" not in found.what


def test_missing_and_changed_images_are_found(folder: Path) -> None:
    tiles = folder.parent / "tiles"
    (tiles / "0.png").unlink()
    flip_a_byte(tiles / "1.png")
    changed, missing = checked(folder).problems
    assert changed.where == str(tiles / "1.png")
    assert "has changed" in changed.what
    assert missing.where == str(tiles)
    assert "1 of its images are missing (0.png)" in missing.what
    assert "protoseg relocate" in missing.remedy


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(b"?"), "image"),
        (lambda file: Image.new("L", (9, 9)).save(file), "9 x 9 pixels, its image 16 x 16"),
    ],
)
def test_a_true_mask_that_is_missing_or_does_not_fit_is_found(
    folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    truth = folder / "truth" / "000001.png"
    truth.parent.mkdir()
    Image.new("L", (16, 16)).save(truth)
    with Project.open(folder) as project:
        project.set_truth({1: truth})
    assert checked(folder).findings == []
    spoil(truth)
    finding = only(checked(folder))
    assert finding.where == str(truth)
    assert words in finding.what


@pytest.mark.parametrize(
    "place",
    [
        *("arrays.zarr", "banks", "runs", "truth", "cache"),
        *("runs/deep", "arrays.zarr/masks", "arrays.zarr/masks/48x32/c"),
        *("cache/linked", "cache/features/dense-of-some-encoder"),
    ],
)
def test_a_project_whose_folders_lead_elsewhere_is_refused(
    folder: Path, tmp_path: Path, place: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "repository" / "deep" / ".git").mkdir(parents=True)
    (elsewhere / ".my.settings").write_text("theirs")
    link = folder / place
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        shutil.rmtree(link)
    link.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ProjectError, match="a link to a folder") as refused:
        checked(folder, repair=True)
    assert refused.value.where == str(link)
    assert (elsewhere / "repository" / "deep" / ".git").is_dir()
    assert (elsewhere / ".my.settings").read_text() == "theirs"


def test_rows_of_an_image_that_is_gone_are_found_and_removed_on_demand(folder: Path) -> None:
    connection = sqlite3.connect(folder / "project.db")
    connection.execute("DELETE FROM images WHERE id = 1")  # without its labels and mask
    connection.commit()
    connection.close()
    found = checked(folder).problems
    assert {problem.where for problem in found} == {"table labels", "table masks"}
    assert all("--repair" in problem.remedy for problem in found)
    assert {f.outcome for f in checked(folder, repair=True).findings} == {Outcome.REPAIRED}
    assert checked(folder).findings == []


def test_damaged_rows_of_classes_and_masks_are_found(folder: Path) -> None:
    connection = sqlite3.connect(folder / "project.db")
    connection.executescript(
        "INSERT INTO class_schemas SELECT 2, json, 'other', created FROM class_schemas;"
        "UPDATE masks SET array = '9x9' WHERE image_id = 3"
    )
    connection.close()
    where = [problem.where for problem in checked(folder).problems]
    assert where[0] == "class schema 2"
    assert where[1].startswith("image 3")


def test_a_bank_that_is_missing_or_damaged_is_found(folder: Path) -> None:
    connection = sqlite3.connect(folder / "project.db")
    row = "1, 'banks/0001.safetensors', '{}', '?', '?', NULL"
    connection.execute(f"INSERT INTO banks VALUES ({row})")
    connection.execute("UPDATE banks SET created = '2026-03-01T12:30:00+00:00'")
    connection.commit()
    connection.close()
    assert "0001.safetensors" in only(checked(folder)).where
    (folder / "banks").mkdir()
    (folder / "banks" / "0001.safetensors").write_bytes(b"?")
    assert "damaged" in only(checked(folder)).what


def test_a_project_in_use_is_looked_at_and_nothing_in_it_is_touched(folder: Path) -> None:
    being_written = folder / ".project.db.abcd_123"
    being_written.write_bytes(b"half")
    owner = LockOwner.here().model_copy(update={"host": "elsewhere"})
    (folder / "project.lock").write_text(owner.model_dump_json())
    assert checked(folder).findings == []
    assert being_written.exists()
    with pytest.raises(ProjectLockedError):
        checked(folder, repair=True)
