"""One process writes; real other processes find out, and go on where it has ended."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_protoseg.errors import ProjectError, ProjectLockedError, StorageError
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    PredictedMask,
    Project,
    ReviewStatus,
    database,
)
from napari_protoseg.project.lock import LockOwner
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
MASK = PredictedMask(1, np.ones((9, 9), np.uint8), np.ones((9, 9), np.float16))
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)

HOLD = """
import sys
from pathlib import Path
from napari_protoseg.project import Project
project = Project.open(Path(sys.argv[1]), take_over="take-over" in sys.argv)
print("read-only" if project.is_read_only else "open", flush=True)
sys.stdin.readline()
project.close()
"""

WRITE_WHEN_TOLD = """
import sys
from pathlib import Path
from napari_protoseg.errors import ProjectError, ProjectLockedError, StorageError
from napari_protoseg.project import Project
project = Project.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
try:
    project.set_recipe_json("{}")
except ProjectLockedError as error:
    print(project.is_read_only, error, flush=True)
project.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{n}.png", content_hash=str(n), width=9, height=9, label=(1, 0)
            )
            for n in range(3)
        )
        project.write_mask(MASK, SOURCE)
    return tmp_path / "project"


@contextmanager
def other_process(
    folder: Path, *options: str, script: str = HOLD
) -> Iterator[subprocess.Popen[str]]:
    """Open the project in a process of its own, until the end of the block or its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell_to_go_on(child: subprocess.Popen[str]) -> str:
    answer, _ = child.communicate("\n")
    return answer.strip()


def left_by(folder: Path, **changed: object) -> None:
    """Put the lock of another process into the project."""
    owner = json.loads(LockOwner.here().model_dump_json()) | changed
    (folder / "project.lock").write_text(json.dumps(owner))


def test_the_lock_is_there_while_a_project_is_open_and_says_who_has_it(folder: Path) -> None:
    with Project.open(folder) as project:
        assert not project.is_read_only
        assert project.lock_notice() is None
        owner = json.loads((folder / "project.lock").read_text())
        assert owner["process"] == os.getpid()
        assert {"host", "user", "started", "since"} <= set(owner)
    assert not (folder / "project.lock").exists()


def test_one_process_may_open_a_project_twice_and_keeps_it_until_both_are_closed(
    folder: Path,
) -> None:
    with Project.open(folder) as first:
        with Project.open(folder) as second:
            second.set_recipe_json("{}")
        first.close()  # what is closed twice is given up once
        with Project.open(folder) as third:
            third.set_recipe_json("[]")
    with Project.open(folder) as first, Project.open(folder) as second:
        first.close()
        first.close()
        assert (folder / "project.lock").exists()
        second.set_recipe_json("{}")


def test_what_another_process_has_open_is_read_only_and_says_who_has_it(folder: Path) -> None:
    with other_process(folder) as owner:
        assert said(owner) == "open"
        with Project.open(folder) as project:
            assert project.is_read_only
            notice = project.lock_notice()
            assert notice is not None
            assert f"process {owner.pid}," in notice.text
            assert len(project.images()) == 3
            stored = project.read_mask(1)
            assert stored is not None
            assert np.array_equal(stored.mask, MASK.mask)
            edited, _ = Journal(project, 1).open()
            step = edited.stroke(2 * MASK.mask, author="A", now=NOW)
            assert step is not None
            for write in (
                lambda: project.write_mask(MASK, SOURCE),
                lambda: project.set_review_status(1, ReviewStatus.ACCEPTED),
                lambda: project.set_labels({1: (0, 1)}, source="person"),
                lambda: project.store_imports({1: 2 * MASK.mask}, person="A", now=NOW),
                lambda: project.introduce("A"),
                lambda: project.record_steps(1, [step]),
                lambda: project.fold_journal(1),
                project.require_writable,
            ):
                with pytest.raises(ProjectLockedError, match=f"process {owner.pid},.*Close it"):
                    write()
            assert project.review_states() == {}
        tell_to_go_on(owner)
    with Project.open(folder) as project:
        assert not project.is_read_only


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX processes")
def test_the_lock_of_a_process_that_was_killed_is_taken_over(folder: Path) -> None:
    with other_process(folder) as owner:
        assert said(owner) == "open"
        owner.kill()
        while psutil.Process(owner.pid).status() != psutil.STATUS_ZOMBIE:
            pass  # it has ended, and its parent has not asked for it yet
        with Project.open(folder) as project:
            assert not project.is_read_only
    with other_process(folder) as owner:
        assert said(owner) == "open"
    assert (folder / "project.lock").exists()
    with Project.open(folder) as project:
        assert not project.is_read_only
        notice = project.lock_notice()
        assert notice is not None
        assert f"left open by {LockOwner.here().user}" in notice.text
        project.set_recipe_json("{}")
    assert not (folder / "project.lock").exists()


@pytest.mark.parametrize("known", [{"ticks": 1}, {"boot": "another"}, {"ticks": None}])
def test_a_process_that_was_given_the_number_of_the_owner_is_told_from_it(
    folder: Path, known: dict[str, object]
) -> None:
    left_by(folder, process=os.getppid(), started=1.0, **known)
    with Project.open(folder) as project:
        assert not project.is_read_only


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps the time itself")
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_that_is_set_anew_takes_the_project_from_nobody(
    folder: Path, seconds: float
) -> None:
    with other_process(folder) as owner:
        assert said(owner) == "open"
        lock = json.loads((folder / "project.lock").read_text())
        since = datetime.fromisoformat(lock["since"]) + timedelta(seconds=seconds)
        left_by(folder, **lock | {"started": lock["started"] + seconds, "since": since.isoformat()})
        with Project.open(folder) as project:
            assert project.is_read_only
        owner.kill()
        owner.wait()
        with Project.open(folder) as project:
            assert not project.is_read_only


def test_the_lock_of_another_machine_is_taken_over_only_when_asked_for(folder: Path) -> None:
    left_by(folder, host="elsewhere", user="ada", process=2**30)
    with Project.open(folder) as project:
        with pytest.raises(ProjectLockedError, match="ada on elsewhere") as refusal:
            project.set_recipe_json("{}")
        assert "take the project over" in refusal.value.remedy
        assert refusal.value.on_terminal == f"protoseg check {folder} --take-over"
    assert "elsewhere" in (folder / "project.lock").read_text()
    with Project.open(folder, take_over=True) as project:
        notice = project.lock_notice()
        assert notice is not None
        assert "ada on elsewhere" in notice.text
        project.set_recipe_json("{}")


def test_a_lock_that_cannot_be_read_is_not_taken_for_one_of_a_process_that_is_gone(
    folder: Path,
) -> None:
    (folder / "project.lock").write_text("?")
    with Project.open(folder) as project:
        assert project.is_read_only
    with Project.open(folder, take_over=True) as project:
        project.set_recipe_json("{}")


def test_who_was_taken_over_writes_no_more_even_after_the_other_has_closed(folder: Path) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as slow:
        assert said(slow) == "open"
        with Project.open(folder, take_over=True) as project:
            project.set_recipe_json("[]")
        answer = tell_to_go_on(slow)
    assert answer.startswith("True")
    assert "may have changed since. Open it again" in answer
    with Project.open(folder) as project:
        assert project.recipe_json() == "[]"
        assert not project.is_read_only


def test_of_many_processes_that_find_a_stale_lock_one_gets_the_project(folder: Path) -> None:
    left_by(folder, process=2**30)

    def answer(number: int) -> tuple[subprocess.Popen[str], str]:
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return child, said(child)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(answer, range(6)))
    for child, _ in answers:
        tell_to_go_on(child)
    assert sorted(text for _, text in answers) == ["open"] + 5 * ["read-only"]
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.zarr", "project.db"]


def test_who_was_taken_over_in_vain_goes_on_as_before(folder: Path) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as other:
        assert said(other) == "open"
        Project.open(folder, take_over=True).withdraw()
        assert tell_to_go_on(other) == ""
    with Project.open(folder) as project:
        assert project.recipe_json() == "{}"


def test_a_project_that_cannot_be_opened_is_taken_from_nobody(folder: Path, tmp_path: Path) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as other:
        assert said(other) == "open"
        (folder / "runs").symlink_to(tmp_path)
        with pytest.raises(ProjectError, match="link"):
            Project.open(folder, take_over=True)
        assert tell_to_go_on(other) == ""


def test_where_something_was_changed_before_it_was_given_back_nobody_has_it(folder: Path) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as other:
        assert said(other) == "open"
        project = Project.open(folder, take_over=True)
        project.set_recipe_json("[]")
        project.withdraw()
        assert not (folder / "project.lock").exists()
        assert "may have changed since. Open it again" in tell_to_go_on(other)


@pytest.mark.parametrize("writes_first", [True, False])
def test_what_another_opening_has_changed_keeps_the_lock_from_being_given_back(
    folder: Path, writes_first: bool
) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as other:
        assert said(other) == "open"
        first = Project.open(folder, take_over=True)
        second = Project.open(folder)
        (first if writes_first else second).set_recipe_json("[]")
        if writes_first:
            first.close()
            second.withdraw()
        else:
            second.close()
            first.withdraw()
        assert not (folder / "project.lock").exists()
        assert "may have changed since. Open it again" in tell_to_go_on(other)


def test_whichever_opening_is_withdrawn_last_gives_the_lock_back(folder: Path) -> None:
    with other_process(folder, script=WRITE_WHEN_TOLD) as other:
        assert said(other) == "open"
        first = Project.open(folder, take_over=True)
        second = Project.open(folder)
        first.withdraw()
        second.withdraw()
        assert tell_to_go_on(other) == ""
    with Project.open(folder) as project:
        assert project.recipe_json() == "{}"


def test_the_lock_of_a_process_that_is_gone_is_given_back_to_nobody(folder: Path) -> None:
    left_by(folder, process=2**30)
    Project.open(folder).withdraw()
    assert not (folder / "project.lock").exists()


def test_who_has_the_lock_again_without_an_opening_that_may_write_opens_it_again(
    folder: Path,
) -> None:
    with Project.open(folder) as former:
        with other_process(folder, "take-over", script=HOLD.replace("close", "withdraw")) as other:
            assert said(other) == "open"
            with pytest.raises(ProjectLockedError, match=f"process {other.pid},"):
                former.require_writable()
            tell_to_go_on(other)
        assert str(os.getpid()) in (folder / "project.lock").read_text()
        with pytest.raises(ProjectLockedError, match="Open it again"):
            former.require_writable()
        notice = former.lock_notice()
        assert notice is not None
        assert "Open it again" in notice.text
        with Project.open(folder) as project:
            assert project.lock_notice() is None
            project.set_recipe_json("[]")
    assert not (folder / "project.lock").exists()


CLOSE_WHEN_TOLD = """
import sys
from pathlib import Path
from napari_protoseg.errors import ProjectError
from napari_protoseg.project import Project
project = Project.open(Path(sys.argv[1]))
print("open", flush=True)
while sys.stdin.readline():
    try:
        project.require_writable() if "write" in sys.argv else project.close()
    except ProjectError:
        pass
    print("done", flush=True)
"""


@pytest.mark.parametrize("does", ["close", "write"])
def test_what_is_given_back_to_a_process_that_has_let_go_of_it_is_free(
    folder: Path, does: str
) -> None:
    with other_process(folder, does, script=CLOSE_WHEN_TOLD) as other:
        assert said(other) == "open"
        project = Project.open(folder, take_over=True)
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert said(other) == "done"
        project.withdraw()
        with Project.open(folder) as project:
            assert not project.is_read_only
            assert project.lock_notice() is None
    assert not [path.name for path in folder.iterdir() if ".lock" in path.name]


def test_who_closes_what_was_taken_over_leaves_nothing_once_the_other_has_closed(
    folder: Path,
) -> None:
    with other_process(folder, "take-over") as other, Project.open(folder) as project:
        assert said(other) == "open"
        project.close()
        tell_to_go_on(other)
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.zarr", "project.db"]


def test_who_closes_while_another_program_keeps_the_database_busy_leaves_no_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.2)
    project = Project.open(folder)
    with closing(sqlite3.connect(folder / "project.db", isolation_level=None)) as busy:
        busy.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program is writing"):
            project.close()
    assert not (folder / "project.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no folder with open files")
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_project_that_was_closed_while_it_was_away_opens_here_again(
    folder: Path, tmp_path: Path, comes_back: bool
) -> None:
    project = Project.open(folder)
    place = folder.rename(tmp_path / "away")
    project.close()
    if comes_back:
        place = place.rename(folder)
    assert (place / "project.lock").exists()
    with Project.open(place) as project:
        assert project.lock_notice() is None
        project.set_recipe_json("{}")
    assert not (place / "project.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="the permissions of POSIX")
def test_a_lock_that_cannot_be_given_back_is_let_go_of_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    left_by(folder, host="elsewhere", process=7)
    project = Project.open(folder, take_over=True)
    with monkeypatch.context() as disk:
        disk.setattr("tempfile.mkstemp", refuse)
        disk.setattr("pathlib.Path.unlink", refuse)
        disk.setattr("pathlib.Path.touch", refuse)
        with pytest.raises(StorageError, match="read-only"):
            project.withdraw()
    with Project.open(folder) as project:
        assert project.lock_notice() is None
    assert not (folder / "project.lock").exists()
