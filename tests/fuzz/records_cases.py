"""Hostile records of this program: beside masks, of an export, of a bank, and of a training."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from driven_jobs import finish
from fuzzed_reader import FuzzedReader
from mutations import FILE_NAMES, json_text
from PIL import Image

from napari_protoseg.errors import EvaluationError, SchemaError
from napari_protoseg.evaluation.protocol import ImageLabels, Protocol
from napari_protoseg.exports.earlier import CLASSES, earlier_export
from napari_protoseg.exports.folder import write_classes
from napari_protoseg.jobs.bank import BankSummary, summary_of
from napari_protoseg.jobs.evaluate import evaluate_masks
from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.recipes import request_of
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.records import BankRow, Round, RoundStatus

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny_training import RECORD, SCHEMA

_NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
_REQUEST = json.loads(TrainRequest().model_dump_json())
_SUMMARY = json.loads(
    BankSummary(encoder="test", encoder_weights=None, prototypes={"a": 2}).model_dump_json()
)
_PREDICTED = PredictionRecord(
    recipe=Recipe(), model=RECORD, model_sha256="0" * 64, images=1, created=_NOW.isoformat()
)


_RECORD = json.loads(_PREDICTED.documents()[PREDICTION_RECORD])


@cache
def _mask() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.tile(np.uint8([0, 1, 2]), (4, 2))).save(content, format="PNG")
    return content.getvalue()


def _make(random: Random, folder: Path) -> Path:
    """Return a folder of masks, of an export, or a file with what a row of the database holds."""
    match random.randrange(4):
        case 0:
            path = folder / "a row"
            path.write_bytes(json_text(random, random.choice((_REQUEST, _SUMMARY))))
        case 1:
            path = _named(random, folder, "predictions")
            (path / "a.png").write_bytes(_mask())
            _place(random, path / PREDICTION_RECORD, json_text(random, _RECORD))
            (folder / "masks").mkdir()
            (folder / "masks" / "a.png").write_bytes(_mask())
        case _:
            path = _named(random, folder, "export")
            write_classes(path / CLASSES, SCHEMA, [1, 2], 0)
            described = json_text(random, json.loads((path / CLASSES).read_bytes()))
            (path / CLASSES).unlink()
            _place(random, path / CLASSES, described if random.random() < 0.7 else _huge(random))
            _fill(random, path)
    return path


def _named(random: Random, folder: Path, kind: str) -> Path:
    path = folder / f"{random.choice(FILE_NAMES) if random.random() < 0.3 else ''} {kind}"
    path.mkdir()
    return path


def _huge(random: Random) -> bytes:
    depth = random.choice((500, 5000, 10**6, 3 * 10**7))
    return random.choice((b"[", b'{"a":')) * depth


def _place(random: Random, path: Path, content: bytes) -> None:
    """Write a file, or something that is none in its place."""
    odd = random.random()
    if odd > 0.04:
        path.write_bytes(content)
    elif odd > 0.03:
        path.mkdir()
    elif odd > 0.02:
        path.symlink_to(path.name)
    elif odd > 0.01:
        os.mkfifo(path)


def _fill(random: Random, path: Path) -> None:
    """Put into an export what belongs there, and now and then what does not."""
    names = ("a.png", "training/a[10].png", "valid/img/a.png", "prediction.json", "notes.txt",
             "training/deep/a.png", ".DS_Store", "training", "a.PNG", "\u202egnp")  # fmt: skip
    for name in random.sample(names, random.choice((1, 1, 2, 3))):
        place = path / name
        if random.random() < 0.1:
            place = path / random.choice(FILE_NAMES)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError:  # something else is there
            continue
        if place.exists():
            continue
        if random.random() < 0.05:
            place.symlink_to(random.choice((path, path / "nowhere", place)))
        elif name == "training":
            place.mkdir()
        else:
            place.write_bytes(b"content")


def _read(path: Path, random: Random) -> None:
    if path.name == "a row":
        text = path.read_bytes().decode("utf-8", "replace")
        request_of(Round(1, path, 1, text, RoundStatus.RUNNING, None, _NOW, None))
        summary_of(BankRow(1, path, text, "", _NOW))
    elif path.name.endswith("predictions"):
        job = evaluate_masks(
            path, path.parent / "masks", SCHEMA.names, None, Protocol(labels=ImageLabels.NONE)
        )
        try:
            finish(job)
        except EvaluationError as error:  # what the record says has led to another reading
            if error.where != str(path.parent / "masks" / "a.png"):
                raise
        except SchemaError as error:
            if error.where not in SCHEMA.names:  # the record is of other classes
                raise
    else:
        assert earlier_export(path) > 0


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=8_000,
    code={
        "napari_protoseg/exports/earlier.py": (),
        "napari_protoseg/jobs/evaluate.py": ("_record_beside", "_with_ids_of"),
        "napari_protoseg/jobs/bank.py": ("summary_of",),
        "napari_protoseg/jobs/recipes.py": ("request_of",),
    },
)
