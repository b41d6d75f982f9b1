"""Tasks of a program whose project another takes over meanwhile: they write over nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish
from PIL import Image
from tiny_backbone import TINY, tiny_weights
from tiny_project import CPU, NOW, tree

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.errors import ProjectLockedError
from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.events import Event, Job, Progress, Request
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.import_masks import MaskPurpose, import_masks
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.segment import SegmentRequest, Start, segment_project
from napari_protoseg.jobs.train import resume_training, train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus
from napari_protoseg.training.config import SECOND_STAGE, Matching, Preset, TrainingConfig
from napari_protoseg.training.events import EpochFinished, StepFinished

EPOCHS = 3

FINISH_THE_ROUND = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import torch
from napari_protoseg.events import finish
from napari_protoseg.jobs.train import resume_training
from napari_protoseg.project import Project
torch.set_num_threads(1)
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    ended = finish(resume_training(project, device=torch.device("cpu"), now=lambda: now))
    assert ended.finished
"""

LOOK_IN = """
import sys
from pathlib import Path
from napari_protoseg.project import Project
Project.open(Path(sys.argv[1]), take_over=True).close()
"""

ADD_A_BANK = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    project.add_bank(b"theirs", "{}", project.schema.fingerprint, created=now)
"""


def files(folder: Path) -> dict[str, str]:
    """Return the hash of every file beside the database and the cache."""
    found = tree(folder)
    return {name: found[name] for name in found if not name.startswith(("project.db", "cache"))}


def another_takes_over(folder: Path, script: str) -> dict[str, str]:
    """Let a process take the project over, work and end; return what it has left."""
    command = [sys.executable, "-c", script, str(folder)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return files(folder)


def refused_after(
    job: Job[object], is_moment: Callable[[Event], bool], folder: Path, script: str = LOOK_IN
) -> dict[str, str]:
    """Let a job be taken over at a moment, and see it refused; return what the other has left."""
    left = []

    def answer(event: Event) -> None:
        if not left and is_moment(event):
            left.append(another_takes_over(folder, script))

    with pytest.raises(ProjectLockedError):
        finish(job, answer)
    (theirs,) = left
    return theirs


def is_epoch(event: Event) -> bool:
    return isinstance(event, EpochFinished)


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> TrainRequest:
    weights = tiny_weights(tmp_path_factory.mktemp("weights"))
    config = TrainingConfig(
        backbone=TINY,
        epochs=EPOCHS,
        batch_size=8,
        max_side=32,
        matching=Matching.NONE,
    )
    return TrainRequest(config=config, backbone_weights=weights)


def test_a_training_leaves_the_round_that_the_other_program_has_finished(
    banked: Path, request_: TrainRequest
):
    folder = banked / "project"
    with Project.open(folder) as project:
        job = train_project(project, request_, device=CPU, now=lambda: NOW)
        while not is_epoch(next(job)):
            pass
        theirs = another_takes_over(folder, FINISH_THE_ROUND)
        with pytest.raises(ProjectLockedError):
            # Where it went on, it would be stopped before it has come as far as the other.
            finish(job, lambda event: Request.STOP if is_epoch(event) else None)
    assert files(folder) == theirs
    with Project.open(folder) as project:
        (row,) = project.rounds()
        assert row.status is RoundStatus.FINISHED
        assert finish(check_project(project))[0].findings == []


def test_a_training_that_is_closed_writes_no_checkpoint_into_what_another_has(
    banked: Path, request_: TrainRequest
):
    folder = banked / "project"
    with Project.open(folder) as project:
        job = train_project(project, request_, device=CPU, now=lambda: NOW)
        while not isinstance(next(job), StepFinished):
            pass
        theirs = another_takes_over(folder, LOOK_IN)
        with pytest.raises(ProjectLockedError):
            job.close()
    assert files(folder) == theirs


def test_a_training_that_is_resumed_is_refused_as_one_that_is_begun(
    banked: Path, request_: TrainRequest
):
    folder = banked / "project"
    with Project.open(folder) as project:
        job = train_project(project, request_, device=CPU, now=lambda: NOW)
        while not is_epoch(next(job)):
            pass
        job.close()
        job = resume_training(project, device=CPU, now=lambda: NOW)
        theirs = refused_after(job, is_epoch, folder)
    assert files(folder) == theirs


def test_the_second_stage_writes_no_checkpoint_into_what_another_has(both_stages: Path):
    folder = both_stages / "project"
    short = SECOND_STAGE.model_copy(update={"epochs": 2, "batch_size": 8})
    request = SegmentRequest(config=short, start=Start.FIRST_STAGE)
    with Project.open(folder) as project:
        job = segment_project(project, request, Recipe(), device=CPU, now=lambda: NOW)
        theirs = refused_after(job, is_epoch, folder)
    assert files(folder) == theirs


def test_the_masks_that_a_second_stage_is_to_learn_from_are_not_put_where_another_writes(
    both_stages: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = both_stages / "project"
    begin = Project.new_round

    def begin_and_lose(project: Project, *given: object, **named: object) -> object:
        begun = begin(project, *given, **named)
        another_takes_over(folder, LOOK_IN)
        return begun

    monkeypatch.setattr(Project, "new_round", begin_and_lose)
    short = SECOND_STAGE.model_copy(update={"epochs": 1, "batch_size": 8})
    with Project.open(folder) as project:
        request = SegmentRequest(config=short, start=Start.FIRST_STAGE)
        with pytest.raises(ProjectLockedError):
            finish(segment_project(project, request, Recipe(), device=CPU, now=lambda: NOW))
    assert list((folder / "runs" / "0003").iterdir()) == []


def test_the_quick_preset_writes_no_model_into_what_another_has(
    banked: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = banked / "project"
    begin, left = Project.new_round, []

    def begin_and_lose(project: Project, *given: object, **named: object) -> object:
        begun = begin(project, *given, **named)
        left.append(another_takes_over(folder, LOOK_IN))
        return begun

    monkeypatch.setattr(Project, "new_round", begin_and_lose)
    with Project.open(folder) as project:
        request = TrainRequest(preset=Preset.QUICK)
        with pytest.raises(ProjectLockedError):
            finish(train_project(project, request, device=CPU, now=lambda: NOW))
    assert [files(folder)] == left


def test_a_bank_leaves_the_one_that_the_other_program_has_built_meanwhile(banked: Path):
    folder = banked / "project"
    request = BankRequest(config=BankConfig(clusters=1))
    with Project.open(folder) as project:
        job = build_project_bank(project, request, device=CPU, now=NOW)
        theirs = refused_after(job, lambda event: isinstance(event, Progress), folder, ADD_A_BANK)
    assert files(folder) == theirs
    assert (folder / "banks" / "0002.safetensors").read_bytes() == b"theirs"


@pytest.mark.parametrize("purpose", list(MaskPurpose))
def test_an_import_of_masks_leaves_those_of_whom_has_the_project_now(
    made: Path, tmp_path: Path, purpose: MaskPurpose
):
    folder, masks = made / "project", tmp_path / "masks"
    masks.mkdir()

    def imported(project: Project) -> Job[object]:
        return import_masks(project, masks, MaskCodes.PROJECT, purpose, person="Ada", now=NOW)

    with Project.open(folder) as project:
        places = [masks / image.path.name for image in project.images()[:4]]
        for place in places:
            Image.fromarray(np.ones((64, 64), np.uint8)).save(place)
        finish(imported(project))
        for place in places:
            Image.fromarray(np.full((64, 64), 2, np.uint8)).save(place)
        theirs = refused_after(imported(project), lambda event: isinstance(event, Progress), folder)
    assert files(folder) == theirs
