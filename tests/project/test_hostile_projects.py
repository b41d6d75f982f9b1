"""A project of a stranger neither computes without end, nor reaches out of its folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import ProjectError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
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
        version, path = project.new_bank()
        path.parent.mkdir()
        path.touch()
        project.record_bank(version, "{}", SCHEMA.fingerprint, created=NOW)
        project.new_round(version, "{}", created=NOW)
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


def test_an_image_of_impossible_size_takes_no_memory(folder: Path):
    change(folder, "UPDATE images SET width = 4000000000, height = 4000000000")
    with Project.open(folder) as project, pytest.raises(Exception, match=r"arrays\.zarr") as caught:
        project.read_mask(1)
    assert type(caught.value).__module__ == "napari_protoseg.errors"
