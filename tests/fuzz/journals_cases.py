"""Hostile journals of edits: their rows, and the pixels that are packed in them."""

from __future__ import annotations

import json
import sqlite3
import struct
import tempfile
import zlib
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from fuzzed_reader import FuzzedReader
from mutations import NUMBERS, TEXTS, damaged, json_text
from planted_masks import plant_mask

from napari_protoseg.errors import ProjectError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.project.records import FreshConfidence
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.schema import ClassSchema

_NOW = datetime(2026, 11, 24, tzinfo=UTC)
_SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
# Ids of classes that go, in this order, each with that of the class that it is merged into.
_GONE: tuple[tuple[tuple[int, int | None], ...], ...] = (
    (),
    ((2, None),),
    ((3, 2),),
    ((3, 2), (2, None)),
    ((1, 2), (2, 3)),
)
_SHAPE = (6, 7)
_HEADER = struct.Struct("<4sIIIII")
_COLUMNS = {
    "journals": ("image_id", "folded"),
    "people": ("number", "name"),
    "edits": (
        "image_id", "number", "writer", "serial", "action", "edit", "kind", "author", "round_id",
        "time", "source_before", "source_after", "pixels",
    ),
}  # fmt: skip
_SUITING = {
    "action": ("do", "undo", "redo", "", "DO"),
    "kind": ("stroke", "model", "import", "propagation", "release", "other", None),
    "author": ("Ada", "Bob", None, *TEXTS[:20]),
    "time": ("2026-11-24", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "now", ""),
    "folded": (0, 1, 3, 7, 100, 2**62),
    "number": (0, 1, 2, 3, 238, 239, 2**40),
    "edit": (0, 1, 2, 5, 6, 7, 99),
    "serial": (-1, 0, 1, 2, 2**62),
    "image_id": (0, 1, 2, 3, 4, 5),
}


@cache
def _valid(gone: tuple[tuple[int, int | None], ...]) -> dict[str, bytes]:
    """Return the files of a project with journals, and with steps in no mask yet.

    Some of these were made before classes went, and some after.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "project"
        with Project.create(folder, _SCHEMA, created=_NOW) as project:
            project.add_images(
                ImageRecord(
                    path=folder / f"{k}.png",
                    content_hash=str(k),
                    width=7,
                    height=6,
                    label=(1, 1, 0),
                )
                for k in range(4)
            )
            project.introduce("Ada")
            for image_id in (1, 2):
                journal = Journal(project, image_id)
                edited, _ = journal.open()
                journal.append([step for step in _steps(edited, image_id) if step is not None])
                if image_id == 1:
                    journal.fold()
                    journal.append([step for step in _steps(edited, image_id) if step is not None])
            _predict_and_draw(project)
            for number, (class_id, heir) in enumerate(gone):
                project.remove_class(class_id, heir, created=_NOW + timedelta(days=number))
            for image_id in (1, 2, 3) if gone else ():
                _draw(project, image_id, project.schema.ids[-1])
        with closing(sqlite3.connect(folder / "project.db")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


def _steps(edited: EditedMask, image_id: int):
    """Yield a step of every kind."""
    times = (_NOW + timedelta(minutes=minute) for minute in range(20))
    random = np.random.default_rng(image_id)

    def mask() -> np.ndarray:
        return random.integers(0, 3, _SHAPE, np.uint8)

    predicted = PredictedMask(image_id, mask(), np.full(_SHAPE, 0.5, np.float16))
    source = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=_NOW)
    yield edited.enter_prediction(predicted, source, now=next(times))
    yield edited.stroke(mask(), author="Ada", now=next(times))
    yield edited.import_mask(mask(), author="Bob", now=next(times))
    yield edited.propagate(mask(), author="Ada", now=next(times))
    yield edited.undo(now=next(times))
    yield edited.release(mask() > 0, author="Ada", now=next(times))
    yield edited.undo(now=next(times))
    yield edited.redo(now=next(times))


def _predict_and_draw(project: Project) -> None:
    """Leave a prediction in no mask yet, and on another image a stroke that was undone."""
    journal = Journal(project, 3)
    edited, _ = journal.open()
    mask = np.full(_SHAPE, 2, np.uint8)
    predicted = PredictedMask(3, mask, np.full(_SHAPE, 0.5, np.float16))
    source = MaskSource(
        round_id=None, label_condition="given", recipe_json="{}", created=_NOW, labels="1+ 2- 3?"
    )
    step = edited.enter_prediction(predicted, source, now=_NOW)
    assert step is not None
    journal.append([step])
    journal = Journal(project, 4)
    edited, _ = journal.open()
    steps = [edited.stroke(mask, author="Ada", now=_NOW), edited.undo(now=_NOW)]
    journal.append([step for step in steps if step is not None])


def _draw(project: Project, image_id: int, class_id: int) -> None:
    """Draw a row over what may be of classes that are gone."""
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    mask = edited.mask.copy()
    mask[0] = class_id
    step = edited.stroke(mask, author="Ada", now=_NOW)
    journal.append([] if step is None else [step])


def _make(random: Random, folder: Path) -> Path:
    project = folder / random.choice(("project", "project", "two\nlines", "\u202egnp", "<b>x<b>"))
    for name, content in _valid(random.choice(_GONE)).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    if random.random() < 0.35:
        plant_mask(random, project)
    with closing(sqlite3.connect(project / "project.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for _ in range(random.choice((0, 1, 1, 1, 2))):
            try:
                random.choice((_change_pixels, _change_pixels, _change_source, _change_rows))(
                    random, connection
                )
            except (sqlite3.Error, OverflowError, UnicodeError):  # the tables do not admit it
                continue
    return project


def _an_edit(random: Random, connection: sqlite3.Connection, column: str) -> tuple[int, object]:
    rows = connection.execute(
        f"SELECT rowid, {column} FROM edits WHERE {column} IS NOT NULL"
    ).fetchall()
    return random.choice(rows) if rows else (0, "")


def _change_pixels(random: Random, connection: sqlite3.Connection) -> None:
    row, pixels = _an_edit(random, connection, "pixels")
    if isinstance(pixels, bytes) and len(pixels) > _HEADER.size:
        pixels = _changed_pixels(random, connection, pixels)
    connection.execute("UPDATE edits SET pixels = ? WHERE rowid = ?", (pixels, row))


def _changed_pixels(random: Random, connection: sqlite3.Connection, content: bytes) -> bytes:
    magic, height, width, count, runs, checksum = _HEADER.unpack_from(content)
    stream = content[_HEADER.size :]
    try:
        raw = bytearray(zlib.decompress(stream))
    except zlib.error:  # an earlier change
        return damaged(random, content)
    match random.randrange(12):
        case 0:
            return damaged(random, content)
        case 1:
            magic = random.choice((b"PSE0", b"PSE2", b"\0\0\0\0"))
        case 2:
            count = random.choice((0, 1, count - 1, count + 1, height * width + 1, 2**32 - 1))
        case 3:
            runs = random.choice((0, 1, runs - 1, runs + 1, count + 1, 2**32 - 1)) % 2**32
        case 4:
            height, width = random.choice(((width, height), (1, 1), (0, 0), (2**32 - 1,) * 2))
        case 5 | 6 if len(raw) >= 8 * runs:
            place = 4 * random.randrange(2 * runs)
            value = random.choice((0, 1, 2, 41, 42, 43, 2**31, 2**32 - 1))
            raw[place : place + 4] = struct.pack("<I", value)
        case 7 | 8 if len(raw) > 8 * runs:
            place = random.randrange(8 * runs, len(raw))
            raw[place] = random.choice((0, 1, 2, 3, 4, 5, 7, 16, 17, 18, 200, 254, 255))
        case 9:
            raw += random.choice((b"\0", bytes(10**6), bytes(2 * 10**8)))
        case 10:
            # As many pixels as it says, of an image that is said to be as large.
            height = width = random.choice((1000, 2500))
            count, runs = height * width, 1
            raw = bytearray(struct.pack("<II", 0, count) + bytes(3 * count) + b"\1" * count)
            connection.execute("UPDATE images SET height = ?, width = ?", (height, width))
            connection.execute("DELETE FROM masks")
        case _:
            raw = raw[: random.randrange(len(raw) + 1)]
    stream = zlib.compress(raw, 1)
    if random.random() < 0.1:
        stream = random.choice((stream + b"\0", stream[:-1], stream * 2, b""))
    checksum = zlib.crc32(stream) if random.random() < 0.97 else checksum ^ 1
    return _HEADER.pack(magic, height, width, count, runs, checksum) + stream


def _change_source(random: Random, connection: sqlite3.Connection) -> None:
    column = random.choice(("source_before", "source_after"))
    row, text = _an_edit(random, connection, column)
    if not row:
        return
    try:
        source = json.loads(str(text))
    except (ValueError, RecursionError):  # an earlier change has damaged it
        return
    changed = json_text(random, source).decode("utf-8", "replace")
    if random.random() < 0.2:
        connection.execute("UPDATE edits SET source_after = ? WHERE rowid = ?", (changed, row))
    connection.execute(f"UPDATE edits SET {column} = ? WHERE rowid = ?", (changed, row))


def _change_rows(random: Random, connection: sqlite3.Connection) -> None:
    table = random.choice(("edits", "edits", "edits", "journals", "people"))
    column = random.choice(_COLUMNS[table])
    value = random.choice(_SUITING.get(column, (*TEXTS, *NUMBERS, None, b"\xff\0")))
    if isinstance(value, int) and abs(value) >= 2**63:
        value = str(value)
    rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table}")]
    one = random.choice(rows or [0])
    match random.randrange(6):
        case 0:
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (one,))
        case 1:
            connection.execute("UPDATE edits SET number = number + 10, edit = edit + 10")
        case 2:
            connection.execute("UPDATE edits SET image_id = 5 - image_id, number = number + 50")
        case 3:
            connection.executemany(
                "INSERT INTO people VALUES (?, ?)", [(n, f"person {n}") for n in range(2, 300)]
            )
        case _:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, one))


def _read(path: Path, random: Random) -> None:
    with Project.open(path) as project:
        if random.random() < 0.3:
            recovery = recover(project, most_edits=random.choice((1, 3, 1000)))
            named = ("image ", str(project.folder))
            assert all(error.where.startswith(named) for error in recovery.failed)
        if random.random() < 0.2:
            project.faults()
            project.journal_faults()
        if random.random() < 0.2:
            _change_classes(project, random)
        for image_id in random.sample((1, 2, 3, 4), random.choice((2, 2, 4))):
            try:
                _edit(project, image_id, random)
            except ProjectError as error:
                if error.where != f"image {image_id}":
                    raise


def _change_classes(project: Project, random: Random) -> None:
    """Let a class go or come back, whatever is in no mask yet."""
    if project.removed_classes() and random.random() < 0.5:
        project.restore_class(created=_NOW)
    elif len(project.schema.ids) > 1:
        gone, heir, *_ = random.sample(project.schema.ids, 2)
        project.remove_class(gone, random.choice((heir, None)), created=_NOW)


def _edit(project: Project, image_id: int, random: Random) -> None:
    stored = project.read_mask(image_id)
    assert stored is None or stored.mask.shape == stored.setters.shape
    if random.random() < 0.3:
        project.fold_journal(image_id)
    if random.random() < 0.2:
        mask = np.full(_SHAPE, project.schema.ids[0], np.uint8)
        source = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=_NOW)
        project.write_mask(PredictedMask(image_id, mask, np.full(_SHAPE, 0.5, np.float16)), source)
    journal = Journal(project, image_id)
    edited, _ = journal.open()
    known = (edited.mask.copy(), edited.setters.copy())
    for row in range(edited.shape[0]) if edited.mask.size < 100 else ():
        edited.origin_of(row, random.randrange(edited.shape[1]))
    if random.random() < 0.5:
        _draw_on_what_has_opened(project, journal, edited)
    steps = []
    while (step := edited.undo(now=_NOW)) is not None:
        steps.append(step)
    while (step := edited.redo(now=_NOW)) is not None:
        steps.append(step)
    drawn = edited.mask.copy()
    drawn[0, 0] = 0 if drawn[0, 0] else project.schema.ids[0]
    steps.append(edited.stroke(drawn, author="Ada", now=_NOW))
    journal.append([step for step in steps if step is not None])
    sure = FreshConfidence(np.full(edited.shape, 0.5, np.float16), edited.source)
    project.fold_journal(image_id, random.choice((None, sure)))
    assert journal.fold() == 0
    assert known[0].shape == edited.mask.shape


def _draw_on_what_has_opened(project: Project, journal: Journal, edited: EditedMask) -> None:
    """Draw, so that a stroke would be lost where the mask cannot be read with it."""
    drawn = edited.mask.copy()
    drawn[0] = np.where(drawn[0], 0, project.schema.ids[0])
    step = edited.stroke(drawn, author="Ada", now=_NOW)
    assert step is not None
    journal.append([step])
    try:
        project.read_mask(edited.image_id)
    except ProjectError as error:
        raise AssertionError("a stroke was taken over a mask that cannot be read") from error


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=5_000,
    code={
        "napari_protoseg/project/edit_codec.py": ("unpacked", "covers", "_opened", "_inflated"),
        "napari_protoseg/project/edit_rows.py": (
            "select_steps", "_found_edit", "_found_source", "_require_source", "let_go",
            "next_to_go", "journal_ends",
        ),
        "napari_protoseg/project/edits.py": ("move", "histories", "journal_of"),
        "napari_protoseg/project/journal_changes.py": ("find_journal", "Fold.of"),
        "napari_protoseg/project/found_masks.py": (
            "find_mask", "find_stored", "FoundMask.loaded", "FoundMask.seen", "FoundMask.stored",
            "FoundMask.pixels", "MaskState.source", "replayed",
        ),
        "napari_protoseg/project/mask_rows.py": ("_record_folded",),
        "napari_protoseg/project/people_rows.py": ("select_people",),
        "napari_protoseg/project/inspection.py": ("journal_faults", "journal_fault"),
        "napari_protoseg/project/heirs.py": (
            "Heirs.seen", "Heirs.seen_change", "Heirs.over", "Heirs.kept",
        ),
    },
)  # fmt: skip
