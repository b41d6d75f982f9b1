"""Records beside masks that were made to exhaust or to mislead are refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish
from PIL import Image

from napari_protoseg.errors import BankError, EvaluationError, ExportError, StorageError
from napari_protoseg.evaluation.protocol import ImageLabels, Protocol
from napari_protoseg.exports.earlier import earlier_export
from napari_protoseg.jobs.bank import summary_of
from napari_protoseg.jobs.evaluate import evaluate_masks
from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.network.record import ModelKind, ModelRecord
from napari_protoseg.project.records import BankRow
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("tumour", "stroma")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_a_description_without_end_is_of_no_export(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ExportError, match="holds no earlier export"):
        earlier_export(tmp_path)


def test_a_description_beyond_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "classes.json").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ExportError, match="holds no earlier export"):
        earlier_export(tmp_path)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Return two folders of masks beside each other, the second of them true."""
    for name in ("predictions", "masks"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / name / "a.png")
    return tmp_path


def evaluate(masks: Path) -> None:
    rules = Protocol(labels=ImageLabels.NONE)
    finish(evaluate_masks(masks / "predictions", masks / "masks", NAMES, None, rules))


def test_a_record_beyond_any_is_not_read(masks: Path) -> None:
    with (masks / "predictions" / PREDICTION_RECORD).open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(StorageError, match=r"prediction\.json: 8,589,934,592 bytes"):
        evaluate(masks)


def test_two_names_of_one_class_are_refused(masks: Path) -> None:
    schema = json.loads(ClassSchema.from_names(["tumour", "other"]).to_json())
    schema["classes"][0]["former"] = ["stroma"]
    record = PredictionRecord(
        recipe=Recipe(),
        model=ModelRecord(
            kind=ModelKind.PLAIN_CAM,
            classes=ClassSchema.model_validate(schema),
            class_positions=(0, 1),
        ),
        model_sha256="0" * 64,
        images=1,
        created=NOW.isoformat(),
    )
    (masks / "predictions" / PREDICTION_RECORD).write_text(record.model_dump_json())
    with pytest.raises(EvaluationError, match="tumour, stroma are one there, by a former name"):
        evaluate(masks)


@pytest.mark.parametrize("text", ["", "{}", '{"encoder": 1}', "[" * 5000])
def test_a_damaged_record_of_a_bank_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BankError, match="0001: the record of this bank is damaged"):
        summary_of(BankRow(1, tmp_path / "0001", text, "", NOW))
