"""A project of a stranger neither computes without end, nor reaches out of its folder."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import ProjectError
from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.arrays import ArrayFolder, MaskArrays
from napari_protoseg.project.edit_codec import packed
from napari_protoseg.project.lock import LOCK
from napari_protoseg.project.records import Origin
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    with Project.create(folder, SCHEMA, created=NOW) as project:
        project.add_images(
            [
                ImageRecord(
                    path=tmp_path / "a.png", content_hash="a", width=40, height=30, label=(1, 0)
                )
            ]
        )
        bank = project.add_bank(b"", "{}", SCHEMA.fingerprint, created=NOW)
        project.new_round(bank.version, "{}", created=NOW)
        project.write_mask(
            PredictedMask(1, np.ones((30, 40), np.uint8), np.ones((30, 40), np.float16)),
            MaskSource(round_id=1, label_condition="given", recipe_json="{}", created=NOW),
        )
    return folder


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "project.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(folder: Path, read: Callable[[Project], object], match: str) -> None:
    with pytest.raises(ProjectError, match=match) as caught, Project.open(folder) as project:
        read(project)
    assert folder.name in str(caught.value)


@pytest.mark.parametrize(
    "statements",
    [
        (
            "DROP TABLE muted_prototypes",
            "CREATE VIEW muted_prototypes AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT"
            " i + 1 FROM n) SELECT i AS bank_version, i AS prototype FROM n",
        ),
        ("CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM labels; END",),
        ("DROP TABLE labels",),
        ("ALTER TABLE labels RENAME COLUMN source TO other",),
        ("CREATE TABLE more (a TEXT) STRICT",),
        (
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'meta'",
        ),
    ],
    ids=["view", "trigger", "missing", "column", "another", "types"],
)
def test_tables_of_another_make_are_not_asked(folder: Path, statements: tuple[str, ...]):
    change(folder, *statements)
    refused(folder, lambda project: None, "not those of its format")


@pytest.mark.parametrize("place", ["../outside", "/etc", "..", ".", "runs/../../outside"])
def test_what_the_project_has_made_lies_in_the_project(folder: Path, place: str):
    change(folder, f"UPDATE banks SET file = '{place}'", f"UPDATE rounds SET folder = '{place}'")
    refused(folder, Project.latest_bank, "leaves the project")
    refused(folder, Project.latest_round, "leaves the project")


def test_a_path_that_no_file_can_have_is_refused(folder: Path):
    change(folder, "UPDATE images SET path = 'a' || char(0) || 'b'")
    refused(folder, Project.images, "path .* is damaged")


def test_a_time_that_is_none_is_refused(folder: Path):
    change(folder, "UPDATE masks SET created = 'yesterday'")
    refused(folder, Project.mask_summaries, "the time 'yesterday' is damaged")


def test_a_text_that_is_none_is_refused(folder: Path):
    change(folder, "UPDATE rounds SET config = CAST(x'fffe' AS TEXT)")
    refused(folder, Project.latest_round, "a text is damaged")


@pytest.mark.parametrize(
    "edit",
    [
        lambda array: array["chunk_grid"]["configuration"].update(chunk_shape=[1, 2**20, 2**20]),
        lambda array: array["codecs"][0]["configuration"].update(chunk_shape=[1, 2**20, 2**20]),
        lambda array: array["shape"].__setitem__(1, 2**40),
        lambda array: array.update(data_type="float64"),
    ],
    ids=["shard", "chunk", "size", "type"],
)
def test_arrays_that_claim_much_memory_are_refused(folder: Path, edit: Callable[[dict], object]):
    file = folder / "arrays.zarr" / "masks" / "30x40" / "zarr.json"
    array = json.loads(file.read_bytes())
    edit(array)
    file.write_text(json.dumps(array))
    refused(folder, lambda project: project.read_mask(1), "size or type|damaged")


def plant(folder: Path, mask: int, setter: int) -> None:
    """Put one value into the whole mask, and one into its setters; the digest is right."""
    with Project.open(folder) as project:
        stored = project.read_mask(1)
    assert stored is not None
    of_all = (np.full_like(stored.mask, value) for value in (mask, setter))
    entry = MaskArrays(next(of_all), stored.confidence, next(of_all))
    ArrayFolder(folder / "arrays.zarr").write([0], [entry])
    change(folder, f"UPDATE masks SET row = 0, digest = '{entry.digest}'")


@pytest.mark.parametrize(
    ("mask", "setter", "words"),
    [
        (200, 1, r"its mask holds \[200\], which the project has never given as class ids"),
        (255, 1, r"its mask holds \[255\]"),
        (1, 5, r"its pixels are set by \[5\], which stand for nobody"),
        (1, 16, r"its pixels are set by \[16\]"),
        (1, 255, r"its pixels are set by \[255\]"),
    ],
)
def test_a_mask_of_values_that_mean_nothing_is_refused_though_its_digest_is_right(
    folder: Path, mask: int, setter: int, words: str
):
    plant(folder, mask, setter)
    with Project.open(folder) as project:
        for read in (project.read_mask, project.open_journal):
            with pytest.raises(ProjectError, match=f"image 1: {words}") as refused:
                read(1)
            assert "Restore the project folder" in refused.value.remedy
        found, *_ = finish(check_project(project, images=False)).problems
    assert found.where.startswith("image 1 ")
    assert re.search(words, found.what)


def test_a_mask_of_values_that_mean_nothing_is_predicted_anew_where_nobody_has_corrected_it(
    folder: Path,
):
    plant(folder, 200, 1)
    source = MaskSource(round_id=1, label_condition="given", recipe_json="{}", created=NOW)
    made = PredictedMask(1, np.full((30, 40), 2, np.uint8), np.ones((30, 40), np.float16))
    with Project.open(folder) as project:
        project.write_mask(made, source)
        stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask == 2).all()


@pytest.mark.parametrize("setter", [*range(5), 17, 254])
def test_whoever_may_have_set_a_pixel_may_stand_in_a_mask(folder: Path, setter: int):
    plant(folder, 1, setter)
    with Project.open(folder) as project:
        edited, _ = Journal(project, 1).open()
        assert edited.origin_of(0, 0).origin in Origin
        assert (edited.setters == setter).all()


def test_a_class_may_stand_in_a_mask_after_it_went(folder: Path):
    with Project.open(folder) as project:
        project.remove_class(1, 2, created=NOW)
        merged = project.read_mask(1)
    assert merged is not None
    assert (merged.mask == 2).all()
    with Project.open(folder) as project:
        assert finish(check_project(project, images=False)).masks == 1
        stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask == 2).all()


def test_an_edit_of_a_class_that_was_never_given_is_refused_and_found(folder: Path):
    with Project.open(folder) as project:
        journal = Journal(project, 1)
        edited, _ = journal.open()
        step = edited.stroke(np.full((30, 40), 2, np.uint8), author="Ada", now=NOW)
        assert step is not None
        pixels = step.edit.change
        strange = replace(pixels, after=(np.full_like(pixels.after[0], 200), pixels.after[1]))
        edit = replace(step.edit, pixels=packed(strange, (30, 40)))
        journal.append([replace(step, edit=edit)])
        for read in (project.read_mask, project.open_journal, project.fold_journal):
            with pytest.raises(ProjectError, match=r"image 1: .*\[200\], never given"):
                read(1)
        assert "[200], never given" in project.journal_faults()[1].what


def test_an_edit_of_such_a_class_that_was_folded_long_ago_cannot_be_undone(folder: Path):
    with Project.open(folder) as project:
        journal = Journal(project, 1)
        edited, _ = journal.open()
        step = edited.stroke(np.full((30, 40), 2, np.uint8), author="Ada", now=NOW)
        assert step is not None
        journal.append([step])
        journal.fold()
        pixels = step.edit.change
        strange = replace(pixels, before=(np.full_like(pixels.before[0], 200), pixels.before[1]))
        with closing(sqlite3.connect(folder / "project.db")) as connection, connection:
            connection.execute("UPDATE edits SET pixels = ?", [packed(strange, (30, 40))])
        edited, _ = journal.open()
        with pytest.raises(ProjectError, match=r"image 1: .*\[200\], never given"):
            edited.undo(now=NOW)
        assert (edited.mask == 2).all()
        assert project.read_mask(1) is not None


def test_an_image_of_impossible_size_takes_no_memory(folder: Path):
    change(folder, "UPDATE images SET width = 4000000000, height = 4000000000")
    with Project.open(folder) as project:
        for read in (project.read_mask, project.open_journal):
            with pytest.raises(ProjectError, match="image 1: its size is damaged"):
                read(1)


def test_a_time_without_a_zone_is_refused_for_it_compares_with_no_other(folder: Path):
    change(folder, "UPDATE masks SET created = '2026-03-01T12:30:00'")
    refused(folder, Project.mask_summaries, "the time '2026-03-01T12:30:00' is damaged")


def place_lock(folder: Path, **owner: object) -> None:
    whole = {"host": socket.gethostname(), "process": 2**30, "started": 0.0, "user": "Ada"}
    (folder / LOCK).write_text(json.dumps(whole | owner))


@pytest.mark.parametrize(
    "owner",
    [
        {"process": -1},
        {"since": "9999-12-31T23:59:59-23:59"},
        {"since": "0001-01-01T00:00:00+23:59"},
        {"started": float("nan")},
        {"user": "A" * 100_000},
    ],
    ids=["process", "end of time", "begin of time", "start", "name"],
)
def test_a_lock_that_nobody_can_have_is_that_of_an_unknown(folder: Path, owner: dict):
    place_lock(folder, **owner)
    with Project.open(folder) as project:
        assert project.is_read_only
        notice = project.lock_notice()
        assert notice is not None
        assert "somebody on an unknown machine" in notice.text
    with Project.open(folder, take_over=True) as project:
        assert not project.is_read_only


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_database_that_is_a_named_pipe_is_not_waited_for(folder: Path):
    (folder / "project.db").unlink()
    os.mkfifo(folder / "project.db")
    script = (
        "import sys; from pathlib import Path; from napari_protoseg.project import Project;"
        "Project.open(Path(sys.argv[1]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,  # whoever waits would wait for ever
        check=False,
    )
    assert child.stderr.rstrip().endswith(
        f"ProjectError: {folder}: this is not a project. Choose the folder of one, or make one."
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_lock_that_is_a_named_pipe_is_not_waited_for(folder: Path):
    os.mkfifo(folder / LOCK)
    with Project.open(folder) as project:
        assert project.is_read_only


def source_after(key: str, value: str) -> str:
    """Return a statement that changes one value of the JSON of what a mask came from."""
    changed = {
        "round_id": "1", "bank_version": "null", "label_condition": '"given"', "recipe": '"{}"',
        "created": '"2026-03-01T12:30:00+00:00"', "labels": "null", key: value,
    }  # fmt: skip
    text = ", ".join(f'"{name}": {of}' for name, of in changed.items())
    return f"UPDATE edits SET source_after = '{{{text}}}' WHERE kind = 'model'"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE edits SET pixels = x'00' WHERE action = 'do'",
        "UPDATE edits SET kind = 'other' WHERE action = 'do'",
        "UPDATE edits SET source_after = '{\"round_id\": 1e999}' WHERE kind = 'model'",
        "UPDATE edits SET source_after = '" + "[" * 5000 + "' WHERE kind = 'model'",
        "UPDATE edits SET source_after = '1' WHERE kind = 'model'",
        source_after("recipe", '"\\ud800"'),
        source_after("labels", '"\\ud8001+"'),
        source_after("round_id", "9223372036854775808"),
        "DELETE FROM edits WHERE number = 1",
    ],
    ids=[
        "pixels",
        "kind",
        "endless",
        "nested",
        "number",
        "half a character",
        "in its labels",
        "no number of a row",
        "missing",
    ],
)
def test_a_damaged_journal_names_its_image(folder: Path, statement: str):
    with Project.open(folder) as project:
        journal = Journal(project, 1)
        edited, _ = journal.open()
        source = MaskSource(round_id=1, label_condition="given", recipe_json="{}", created=NOW)
        seen = PredictedMask(1, np.full((30, 40), 2, np.uint8), np.ones((30, 40), np.float16))
        steps = [edited.enter_prediction(seen, source, now=NOW), edited.undo(now=NOW)]
        steps.append(edited.redo(now=NOW))
        journal.append([step for step in steps if step is not None])
    change(folder, "PRAGMA foreign_keys = OFF", statement)
    with Project.open(folder) as project:
        for read in (project.read_mask, project.open_journal):
            with pytest.raises(ProjectError, match=r"image 1: .* damaged"):
                read(1)
        (found,) = recover(project).failed
        assert found.where == "image 1"
