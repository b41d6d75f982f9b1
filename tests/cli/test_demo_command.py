"""`protoseg demo`: all of it, on sample data of a size for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from terminal_runs import USAGE, Ran, protoseg, refusal
from tiny_project import NAMES, SIZE, write_training_tiles, write_validation_tiles

from napari_protoseg.network.record import ModelKind
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA
from napari_protoseg.training.checkpoint import Checkpoint
from napari_protoseg.training.config import Matching


def write_data(folder: Path) -> Path:
    """Write what `write_sample_data` does, in small tiles."""
    write_training_tiles(folder / "train", cases=2)
    write_validation_tiles(folder / "validation")
    shutil.rmtree(folder / "validation" / "positions")
    (folder / "classes.json").write_text(TISSUE_SCHEMA.to_json())
    return folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    place = tmp_path_factory.mktemp("demo")
    data = write_data(place / "data")
    out = place / "out"
    return out, protoseg("demo", "--data", data, "--out", out, "--compare", "--json")


def test_the_demonstration_leaves_masks_a_sheet_and_a_project(shown: tuple[Path, Ran]):
    out, _ = shown
    assert {path.name for path in out.iterdir()} == {"project", "masks", "contact-sheet.png"}
    masks = sorted((out / "masks").glob("*.png"))
    assert len(masks) == 8
    for path in masks:
        assert np.asarray(Image.open(path)).shape == (SIZE, SIZE)
    with Image.open(out / "contact-sheet.png") as sheet:
        assert min(sheet.size) > SIZE
    assert "round status: finished" in protoseg("info", out / "project").out


def test_a_plain_cam_is_trained_by_the_means_of_its_maps(shown: tuple[Path, Ran]):
    first = shown[0] / "project" / "runs" / "0001" / "best.safetensors"
    record, state = Checkpoint(first).record, Checkpoint(first.with_name("last.safetensors")).state
    assert record.kind is ModelKind.PLAIN_CAM
    assert not record.competing
    assert state is not None
    assert state.config.matching is Matching.NONE


def test_its_json_holds_the_figures_of_every_prediction(shown: tuple[Path, Ran]):
    record = json.loads(shown[1].out)
    predictions = record["predictions"]
    trivial = [name for name in predictions if name.startswith("Trivial: ")]
    assert len(trivial) == 2
    assert list(predictions)[2:] == ["Frozen evidence", "Plain CAM", "Trained masks"]
    for row in predictions.values():
        assert 0 <= row["given labels"]["mean_iou"] <= 1
        assert [c["name"] for c in row["given labels"]["classes"]] == list(NAMES)
    for name in ("Plain CAM", "Trained masks"):
        assert predictions[name]["image-level F1"].keys() == set(NAMES)
        assert 0 <= predictions[name]["predicted labels"]["mean_iou"] <= 1


def test_it_says_how_far_it_is_all_the_way(shown: tuple[Path, Ran]):
    said = shown[1].err
    for stage in ("Reading images", "Embedding images", "Epoch 1 of", "Making masks"):
        assert stage in said
    assert "Frozen evidence: mIoU" in said


def test_an_out_folder_that_holds_something_is_refused(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    said = refusal("demo", "--data", tmp_path / "data", "--out", out, untouched=tmp_path)
    assert str(out) in said
    assert "--out" in said


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path):
    out = tmp_path / "out"
    said = refusal("demo", "--data", tmp_path / "data", "--out", out, untouched=out, code=4)
    assert str(tmp_path / "data") in said


def test_a_seed_for_data_that_is_there_already_is_wrong_usage(tmp_path: Path):
    out = tmp_path / "out"
    args = ("--data", tmp_path, "--generator-seed", "3", "--out", out)
    assert "--generator-seed" in protoseg("demo", *args, code=USAGE).err
    assert not out.exists()
