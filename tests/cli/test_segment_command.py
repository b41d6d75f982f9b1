"""The second stage on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from terminal_runs import protoseg, refusal

from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.masks.recipe import LabelCondition
from napari_protoseg.network.record import ModelKind
from napari_protoseg.network.segmentation import Decoder


def test_it_is_trained_named_and_used_without_labels(tmp_path: Path, trained: Path):
    project = trained / "project"
    assert "segmentation round: none" in protoseg("info", project).out
    said = refusal("predict", project, "--model", "segmentation", "--out", tmp_path / "no",
                   untouched=tmp_path / "no")  # fmt: skip
    assert f"protoseg segment {project}" in said

    options = ("--decoder", "segformer", "--epochs", "1", "--batch-size", "8")
    ran = protoseg("segment", project, *options, "--json")
    assert json.loads(ran.out)["finished"] is True
    assert "segmentation round status: finished" in protoseg("info", project).out

    records = {}
    for model in ("segmentation", "prototypes"):
        out = tmp_path / model
        protoseg("predict", project, "--model", model, "--out", out)
        text = (out / PREDICTION_RECORD).read_text()
        records[model] = PredictionRecord.model_validate_json(text)
    assert records["segmentation"].model.kind is ModelKind.SEGMENTATION
    assert records["segmentation"].model.decoder is Decoder.SEGFORMER
    assert records["segmentation"].recipe.labels is LabelCondition.PREDICTED
    assert records["prototypes"].recipe.labels is LabelCondition.GIVEN


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_network_is_exported_for_other_programs(tmp_path: Path, trained: Path):
    project = trained / "project"
    protoseg("segment", project, "--epochs", "1", "--batch-size", "8")
    ran = protoseg("export", project, "--format", "onnx", "--out", tmp_path, "--json")
    assert json.loads(ran.out)["file"] == str(tmp_path / "segmentation.onnx")
    assert (tmp_path / "segmentation.onnx").stat().st_size > 10**6


def test_before_the_first_stage_it_says_what_to_do(banked: Path):
    said = refusal("segment", banked / "project", untouched=banked / "project" / "runs")
    assert "protoseg train" in said
