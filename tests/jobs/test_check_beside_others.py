"""A project is checked while others change it: nothing of theirs goes, or is called a problem."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import draw
from PIL import Image

from napari_protoseg.bank.bank import BankConfig, Prototype, PrototypeBank
from napari_protoseg.bank.codec import encoded_bank
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.errors import ProjectLockedError, StorageError
from napari_protoseg.events import Event, Progress, finish
from napari_protoseg.jobs import check
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.check_report import CheckReport, Outcome
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    RoundStatus,
    leftovers,
)
from napari_protoseg.project import folder as project_folder
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
SIZE = (16, 16)

THEIR_WORK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    now = datetime.now(UTC)
    bank = project.add_bank(b"theirs", "{}", project.schema.fingerprint, created=now)
    begun = project.new_round(bank.version, "{}", created=now)
    with project.replacing(begun.folder / "best.safetensors") as temporary:
        temporary.write_bytes(b"theirs")
    project.import_truth([(1, b"theirs")])
"""

HALF_OF_THEIR_WORK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    now = datetime.now(UTC)
    bank = project.add_bank(b"theirs", "{}", project.schema.fingerprint, created=now)
    begun = project.new_round(bank.version, "{}", created=now)
    with project.replacing(begun.folder / "last.safetensors") as temporary:
        temporary.write_bytes(b"theirs")
        print("half", flush=True)
        sys.stdin.readline()
    print("written", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of two images with masks of a model."""
    records = []
    (tmp_path / "tiles").mkdir()
    for number in range(2):
        path = tmp_path / "tiles" / f"{number}.png"
        Image.new("RGB", SIZE, (number, 90, 90)).save(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        records.append(
            ImageRecord(path=path, content_hash=content, width=16, height=16, label=(1, 0))
        )
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(records)
        for image in project.images():
            project.write_mask(of_model(image.known_id, 1), SOURCE)
    return tmp_path / "project"


def of_model(image_id: int, class_id: int) -> PredictedMask:
    return PredictedMask(image_id, np.full(SIZE, class_id, np.uint8), np.ones(SIZE, np.float16))


def true_mask(class_id: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", SIZE, class_id).save(file, "PNG")
    return file.getvalue()


def bank_of(schema: ClassSchema) -> bytes:
    """Return the file of a bank with one prototype for each class."""
    centres = np.eye(len(schema.classes), 8, dtype=np.float32)
    prototypes = tuple(
        Prototype(class_id=k, members=("a" * 64,), similarities=(1.0,), size=1, cohesion=1.0)
        for k in schema.ids
    )
    return encoded_bank(
        PrototypeBank(
            centres=centres,
            prototypes=prototypes,
            schema=schema,
            encoder=EncoderIdentity(
                name="test_resnet",
                weights_sha256="0" * 64,
                mean=(0.5, 0.5, 0.5),
                std=(0.2, 0.2, 0.2),
                width=8,
                stride=16,
                licence="none",
            ),
            config=BankConfig(),
            micrometres_per_pixel=None,
            created=NOW.isoformat(),
            notices=(),
        )
    )


def program(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def work_of_another(folder: Path) -> None:
    """Let another process take the project over, work in it to the end, and close it."""
    other = program(THEIR_WORK, folder)
    other.communicate()
    assert other.returncode == 0


def contents(folder: Path) -> set[str]:
    """Return what lies where banks, rounds and true masks do."""
    return {
        path.relative_to(folder).as_posix()
        for name in ("banks", "runs", "truth")
        for path in (folder / name).rglob("*")
    }


def left_over(folder: Path) -> list[Path]:
    """Leave what a killed program was writing, and what no row names."""
    paths = [folder / "banks" / ".0001.safetensors.abcdefgh", folder / "banks" / "0009.safetensors"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?")
    return paths


@pytest.fixture
def while_files_are_listed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Let something be done once names are known, before the folder is looked at."""

    def arrange(work: Callable[[], Any]) -> None:
        def listed(*args: Any) -> list[Path]:
            work()
            return leftovers.unfinished_files(*args)

        monkeypatch.setattr(check, "unfinished_files", listed)

    return arrange


def begun(job: Iterator[Event], stage: str, done: int) -> Iterator[Event]:
    """Let a check come so far in a stage, and return it."""
    for event in job:
        if isinstance(event, Progress) and (event.stage, event.done) == (stage, done):
            return job
    raise AssertionError(stage)


def checked(folder: Path, *, repair: bool = False) -> CheckReport:
    with Project.open(folder) as project:
        return finish(check_project(project, repair=repair))


def test_a_repair_removes_nothing_once_another_has_taken_the_project_over(
    folder: Path, while_files_are_listed: Callable[[Callable[[], Any]], None]
) -> None:
    left = left_over(folder)
    while_files_are_listed(lambda: work_of_another(folder))
    with Project.open(folder) as project:
        with pytest.raises(ProjectLockedError):
            finish(check_project(project, repair=True))
        theirs = {
            path.relative_to(folder).as_posix()
            for path in (
                *(bank.path for bank in project.banks()),
                *(row.folder / "best.safetensors" for row in project.rounds()),
                *(image.mask_path for image in project.images() if image.mask_path),
            )
        }
    assert len(theirs) == 3
    assert theirs < contents(folder)
    assert all(path.exists() for path in left)


def test_a_check_leaves_alone_what_is_being_written_by_who_has_taken_the_project_over(
    folder: Path, while_files_are_listed: Callable[[Callable[[], Any]], None]
) -> None:
    others: list[subprocess.Popen[str]] = []

    def take_over() -> None:
        others.append(program(HALF_OF_THEIR_WORK, folder))
        assert others[0].stdout is not None
        assert others[0].stdout.readline() == "half\n"

    while_files_are_listed(take_over)
    with Project.open(folder) as project:
        job = begun(check_project(project), "Checking the folder", 1)
        (other,) = others
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "written\n"
        findings = finish(job).findings
        other.communicate()
    assert other.returncode == 0
    assert (folder / "runs" / "0001" / "last.safetensors").read_bytes() == b"theirs"
    assert all(found.outcome is Outcome.PROBLEM for found in findings), (
        "their running round is not called ended, and no file of theirs is called left over"
    )


def test_what_a_row_has_come_to_name_since_names_were_read_stays(
    folder: Path, while_files_are_listed: Callable[[Callable[[], Any]], None]
) -> None:
    left = left_over(folder)
    with Project.open(folder) as project:

        def add_bank() -> None:
            project.add_bank(b"?", "{}", SCHEMA.fingerprint, created=NOW)

        while_files_are_listed(add_bank)
        report = finish(check_project(project, repair=True))
        (bank,) = project.banks()
    assert bank.path.exists()
    assert not any(path.exists() for path in left)
    repaired = {found.where for found in report.findings if found.outcome is Outcome.REPAIRED}
    assert repaired == {path.relative_to(folder).as_posix() for path in left}


def test_others_may_have_the_project_while_what_is_left_over_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_over(folder)

    def remove(path: Path) -> StorageError | None:
        work_of_another(folder)
        return leftovers.remove(path)

    with Project.open(folder) as project:
        monkeypatch.setattr(project_folder, "remove", remove)
        report = finish(check_project(project, repair=True))
        assert project.rounds()[0].folder.is_dir()
        assert all(bank.path.is_file() for bank in project.banks())
    assert {found.outcome for found in report.findings} >= {Outcome.REPAIRED}
    assert not any(path.exists() for path in left)
    assert list(folder.glob(".removed-*")) == []


def test_what_a_killed_check_has_not_removed_to_the_end_goes_with_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over(folder)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, Project.open(folder) as project:
        patched.setattr(project_folder, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            finish(check_project(project, repair=True))
    aside = {path.name for path in folder.glob(".removed-*")}
    assert len(aside) == 2
    findings = checked(folder).findings
    assert {(found.outcome, found.where) for found in findings} == {
        (Outcome.REPAIRED, name) for name in aside
    }
    assert not any((folder / name).exists() for name in aside)
    assert checked(folder).findings == []


def test_a_person_who_draws_for_the_first_time_meanwhile_is_known(folder: Path) -> None:
    with Project.open(folder) as window, Project.open(folder) as project:
        job = begun(check_project(project), "Checking masks", 1)
        draw(window, 2, np.full(SIZE, 2, np.uint8), person="Bea", now=NOW)
        assert finish(job).findings == []


def test_true_masks_that_are_imported_anew_meanwhile_are_not_called_missing(folder: Path) -> None:
    with Project.open(folder) as window, Project.open(folder) as project:
        window.import_truth([(1, true_mask(1)), (2, true_mask(1))])
        former = [image.mask_path for image in window.images()]
        job = begun(check_project(project), "Checking images", 1)
        window.import_truth([(1, true_mask(2)), (2, true_mask(2))])
        assert not any(path is None or path.exists() for path in former)
        assert finish(job).findings == []


def test_images_that_move_meanwhile_are_looked_for_where_they_are_recorded_then(
    folder: Path,
) -> None:
    moved = folder.parent / "moved"
    with Project.open(folder) as window, Project.open(folder) as project:
        job = begun(check_project(project), "Checking images", 1)
        (folder.parent / "tiles").rename(moved)
        window.relocate({image.known_id: moved / image.path.name for image in window.images()})
        assert finish(job).findings == []


def test_a_bank_of_a_class_that_is_added_meanwhile_is_not_called_strange(folder: Path) -> None:
    larger = ClassSchema.from_names(["tumour", "stroma", "fat"])
    with Project.open(folder) as window, Project.open(folder) as project:
        job = begun(check_project(project), "Checking masks", 1)
        window.set_schema(larger, created=NOW)
        window.add_bank(bank_of(larger), "{}", larger.fingerprint, created=NOW)
        report = finish(job)
    assert report.banks == 1
    assert report.findings == []


@pytest.mark.parametrize("name", ["Ada", "a model"])
def test_who_has_drawn_on_a_damaged_mask_is_said_where_it_does_not_hold_that_yet(
    folder: Path, name: str
) -> None:
    with Project.open(folder) as project:
        journal = Journal(project, 1)
        edited, _ = journal.open()
        edited.introduce(name, project.introduce(name))
        step = edited.stroke(np.full(SIZE, 2, np.uint8), author=name, now=NOW)
        assert step is not None
        journal.append([step])
    shutil.rmtree(folder / "arrays.zarr" / "masks" / "16x16" / "c")
    drawn, other = checked(folder).problems
    assert drawn.where.startswith("image 1 (")
    assert "what a model has made is lost with it" in drawn.what
    assert f"kept in its journal, and seen again once it is back: 1 step by {name}" in drawn.what
    assert "Keep this folder, too" in drawn.remedy
    assert "make the masks again" not in drawn.remedy
    assert other.where.startswith("image 2 (")
    assert "make the masks again" in other.remedy


def test_images_outside_of_the_project_are_not_looked_at_where_nothing_is_left_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def marks(path: Path) -> set[Any]:
        looked.append(path)
        return {path}

    with Project.open(folder) as project:
        bank = project.add_bank(b"?", "{}", SCHEMA.fingerprint, created=NOW)
        project.new_round(bank.version, "{}", created=NOW)
        project.update_round(1, RoundStatus.FAILED, finished=NOW)
        monkeypatch.setattr(leftovers, "_marks", marks)
        finish(check_project(project, images=False))
        assert bank.path in looked
        assert not any("tiles" in path.parts for path in looked)
