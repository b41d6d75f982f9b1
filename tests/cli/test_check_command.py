"""``protoseg check``: what it prints, and how it exits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from terminal_runs import protoseg
from tiny_project import NOW

from napari_protoseg.project.folder import Project
from napari_protoseg.project.lock import LockOwner

PROBLEMS, INPUT = 1, 3


def test_a_trained_project_is_well_until_its_files_are_damaged(trained: Path):
    project = trained / "project"
    assert "1 banks and 1 rounds of training: all is well" in protoseg("check", project).out
    (checkpoint,) = (project / "runs" / "0001").glob("*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-10])
    (project / "banks" / "0001.safetensors").unlink()
    said = protoseg("check", project, code=PROBLEMS).out
    assert "2 problems" in said
    assert f"problem: {checkpoint}" in said
    record = json.loads(protoseg("check", project, "--json", code=PROBLEMS).out)
    assert record["problems"] == len(record["findings"]) == 2
    assert record["findings"][1]["outcome"] == "problem"


def test_a_project_of_a_program_that_is_gone_elsewhere_is_set_free(made: Path):
    project = made / "project"
    owner = LockOwner.here().model_copy(update={"host": "elsewhere", "user": "ada"})
    (project / "project.lock").write_text(owner.model_dump_json())
    assert "read-only here" in protoseg("check", project).err
    assert "ada on elsewhere" in protoseg("check", project, "--take-over").err
    assert not (project / "project.lock").exists()


def test_a_lost_mask_is_given_up_by_the_command_that_a_check_prints(trained: Path):
    project = trained / "project"
    with Project.open(project) as opened:
        shape = (opened.images()[0].height, opened.images()[0].width)
        opened.store_imports({1: np.full(shape, 1, np.uint8)}, person="Ada", now=NOW)
    shutil.rmtree(project / "arrays.zarr")
    said = protoseg("check", project, code=PROBLEMS).out
    assert "corrections by Ada" in said
    assert "image 1 " in said
    assert "protoseg check PROJECT --give-up NUMBER" in said
    given_up = protoseg("check", project, "--give-up", "1", "--quiet").out
    assert "repaired: image 1 " in given_up
    assert "what was lost of its mask or its journal is given up" in given_up
    assert "all is well" in given_up
    assert (
        "nothing of its mask and its journal is lost"
        in protoseg("check", project, "--give-up", "1", code=INPUT).err
    )
