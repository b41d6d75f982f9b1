"""Rounds of a project that were stopped, killed or failed, and how they are taken up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from driven_jobs import finish
from PIL import Image
from safetensors.torch import load_file
from tiny_project import CPU, NOW, build, make_project, tree

from napari_protoseg.errors import CheckpointError, ImageError, TrainingError
from napari_protoseg.events import Event, Progress, Request
from napari_protoseg.exports.folder import Exported
from napari_protoseg.jobs.export import ExportFormat, export_project
from napari_protoseg.jobs.models import newest_trained_round, trained_model
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import TrainedRound, resume_training, train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, RoundStatus, Split
from napari_protoseg.training.config import Preset
from napari_protoseg.training.events import EpochFinished, StepFinished

LAST = "last.safetensors"
Answer = Callable[[Event], Request | None]


def train(
    workspace: Path, request: TrainRequest, answer: Answer = lambda event: None
) -> TrainedRound | None:
    with Project.open(workspace / "project") as project:
        job = train_project(project, request, device=CPU, now=lambda: NOW)
        return finish(job, answer)[0]


def resume(workspace: Path, now: datetime = NOW) -> TrainedRound | None:
    with Project.open(workspace / "project") as project:
        return finish(resume_training(project, device=CPU, now=lambda: now))[0]


def newest(workspace: Path) -> Round | None:
    with Project.open(workspace / "project") as project:
        return project.latest_round()


def stop_after_epoch(event: Event) -> Request | None:
    return Request.STOP if isinstance(event, EpochFinished) else None


def weights_of(ended: TrainedRound | None) -> dict[str, torch.Tensor]:
    assert ended is not None
    tensors = load_file(ended.round.folder / LAST)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model/")}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def uninterrupted(
    banked_workspace: Path, request_: TrainRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """Weights of the round that nothing happens to."""
    workspace = tmp_path_factory.mktemp("uninterrupted") / "workspace"
    shutil.copytree(banked_workspace, workspace)
    return weights_of(train(workspace, request_))


def test_a_newer_bank_does_not_keep_a_round_from_going_on_with_its_own(
    banked: Path, request_: TrainRequest, uninterrupted: dict[str, torch.Tensor]
):
    stopped = train(banked, request_, stop_after_epoch)
    assert stopped is not None
    assert not stopped.finished
    build(banked, clusters=2)
    ended = resume(banked)
    assert ended is not None
    assert ended.finished
    assert ended.round.bank_version == 1
    assert same(weights_of(ended), uninterrupted)


def relabel(project: Project) -> None:
    first = project.images()[0]
    project.set_labels({first.known_id: (0, 1, 0, 1)}, source="manual")


def unlabel(project: Project) -> None:
    first = project.images()[0]
    project.set_labels({first.known_id: (-1, -1, -1, -1)}, source="manual")


def hold_out(project: Project) -> None:
    project.set_split([image.known_id for image in project.images()[:4]], Split.VALIDATION)


@pytest.mark.parametrize(
    ("change", "named"),
    [(relabel, "their labels"), (unlabel, "images to train on"), (hold_out, "held-out images")],
)
def test_a_round_does_not_go_on_with_other_data_than_it_was_begun_on(
    banked: Path, request_: TrainRequest, change: Callable[[Project], None], named: str
):
    train(banked, request_, stop_after_epoch)
    before = newest(banked)
    with Project.open(banked / "project") as project:
        change(project)
    with pytest.raises(CheckpointError, match=named) as caught:
        resume(banked)
    assert "train anew" in caught.value.remedy
    assert newest(banked) == before


def test_a_round_killed_before_its_first_checkpoint_begins_at_its_first_step(
    banked: Path, request_: TrainRequest, uninterrupted: dict[str, torch.Tensor]
):
    with Project.open(banked / "project") as project:
        begun = project.new_round(1, request_.model_dump_json(), created=NOW)
    ended = resume(banked)
    assert ended is not None
    assert ended.finished
    assert ended.round.id == begun.id
    assert same(weights_of(ended), uninterrupted)


def test_a_round_that_failed_for_want_of_an_image_goes_on_when_it_is_back(
    banked: Path, request_: TrainRequest, uninterrupted: dict[str, torch.Tensor]
):
    first = min((banked / "tiles").iterdir())
    content = first.read_bytes()
    first.unlink()
    with pytest.raises(ImageError, match=r"case00_000"):
        train(banked, request_)
    failed = newest(banked)
    assert failed is not None
    assert failed.status is RoundStatus.FAILED
    first.write_bytes(content)
    ended = resume(banked)
    assert ended is not None
    assert ended.finished
    assert same(weights_of(ended), uninterrupted)


def test_a_closed_training_is_a_stopped_one(
    banked: Path, request_: TrainRequest, uninterrupted: dict[str, torch.Tensor]
):
    with Project.open(banked / "project") as project:
        job = train_project(project, request_, device=CPU, now=lambda: NOW)
        while not isinstance(next(job), StepFinished):
            pass
        job.close()
    stopped = newest(banked)
    assert stopped is not None
    assert stopped.status is RoundStatus.STOPPED
    ended = resume(banked)
    assert same(weights_of(ended), uninterrupted)


def test_a_checkpoint_of_another_training_is_refused_and_the_round_stays_usable(
    banked: Path, request_: TrainRequest
):
    stopped = train(banked, request_, stop_after_epoch)
    assert stopped is not None
    other = request_.model_copy(update={"config": request_.config.model_copy(update={"seed": 7})})
    foreign = train(banked, other, stop_after_epoch)
    assert foreign is not None
    (foreign.round.folder / LAST).write_bytes((stopped.round.folder / LAST).read_bytes())
    before = tree(banked)
    with pytest.raises(CheckpointError, match="begun with another configuration"):
        resume(banked)
    (foreign.round.folder / LAST).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="damaged"):
        resume(banked)
    (foreign.round.folder / LAST).write_bytes((stopped.round.folder / LAST).read_bytes())
    assert tree(banked) == before
    with Project.open(banked / "project") as project:
        assert trained_model(project).round.id == foreign.round.id


def test_a_round_of_another_version_of_the_program_is_refused(banked: Path):
    with Project.open(banked / "project") as project:
        project.new_round(1, '{"preset": "overnight"}', created=NOW)
    before = tree(banked)
    with pytest.raises(TrainingError, match="another version"):
        resume(banked)
    assert tree(banked) == before


def test_weights_named_by_a_relative_path_are_found_from_another_folder(
    banked: Path, request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert request_.backbone_weights is not None
    monkeypatch.chdir(request_.backbone_weights.parent)
    named = Path(os.path.relpath(request_.backbone_weights))
    train(banked, request_.model_copy(update={"backbone_weights": named}), stop_after_epoch)
    monkeypatch.chdir(tmp_path)
    ended = resume(banked)
    assert ended is not None
    assert ended.finished


def export(workspace: Path, out: Path, now: datetime) -> dict[str, bytes]:
    with Project.open(workspace / "project") as project:
        job = export_project(project, ExportFormat.PNG, out, Recipe(), device=CPU, now=now)
        finish(job)
    return {path.name: np.asarray(Image.open(path)).tobytes() for path in out.glob("*.png")}


def test_masks_of_a_stopped_round_give_way_to_those_of_the_finished_one(
    banked: Path, request_: TrainRequest, tmp_path: Path
):
    def minutes(number: int) -> datetime:
        return NOW + timedelta(minutes=number)

    train(banked, request_, stop_after_epoch)
    early = export(banked, tmp_path / "early", minutes(1))
    resume(banked, minutes(2))
    late = export(banked, tmp_path / "late", minutes(3))
    with Project.open(banked / "project") as project:
        made = {
            stored.source.created
            for image in project.images()
            if image.id is not None and (stored := project.read_mask(image.id)) is not None
        }
    assert made == {minutes(3)}
    assert early.keys() == late.keys()


def test_a_stopped_export_makes_only_the_masks_that_are_missing(made: Path, tmp_path: Path):
    # Two sizes of images: masks are made by size, and the work may stop between the two.
    for path in sorted((made / "tiles").iterdir())[:3]:
        Image.open(path).resize((96, 96)).save(path)
    shutil.rmtree(made / "project")
    make_project(made)
    build(made)
    train(made, TrainRequest(preset=Preset.QUICK))

    def run(out: Path, answer: Answer) -> tuple[Exported | None, list[int]]:
        with Project.open(made / "project") as project:
            job = export_project(project, ExportFormat.PNG, out, Recipe(), device=CPU, now=NOW)
            exported, events = finish(job, answer)
        making = [e for e in events if isinstance(e, Progress) and e.stage == "Making masks"]
        return exported, [event.total for event in making]

    exported, totals = run(
        tmp_path / "out",
        lambda e: Request.STOP if isinstance(e, Progress) and e.done == 13 else None,
    )
    assert (exported, totals) == (None, [16])
    assert not (tmp_path / "out").exists()
    exported, totals = run(tmp_path / "out", lambda event: None)
    assert totals == [3]
    assert exported == Exported(tmp_path / "out", 16)


def test_a_quick_training_that_was_stopped_leaves_no_round(banked: Path):
    stopped = train(banked, TrainRequest(preset=Preset.QUICK), lambda event: Request.STOP)
    assert stopped is None
    assert newest(banked) is None


def stop_after_a_step(event: Event) -> Request | None:
    return Request.STOP if isinstance(event, StepFinished) else None


def test_a_round_that_is_stopped_at_once_does_not_take_the_place_of_a_trained_one(
    trained: Path, request_: TrainRequest
):
    stopped = train(trained, request_, stop_after_a_step)
    assert stopped is not None
    assert (stopped.round.id, stopped.finished) == (2, False)
    with Project.open(trained / "project") as project:
        newest = newest_trained_round(project)
        assert newest is not None
        assert newest.id == 1
        model = trained_model(project)
    assert model.round.id == 1
    assert [notice.text.startswith("Round 2 has not ended") for notice in model.notices()] == [True]
    resumed = resume(trained)
    assert resumed is not None
    with Project.open(trained / "project") as project:
        assert trained_model(project).round.id == 2


def test_a_round_that_is_stopped_at_once_counts_where_there_is_no_other(
    banked: Path, request_: TrainRequest
):
    train(banked, request_, stop_after_a_step)
    with Project.open(banked / "project") as project:
        assert trained_model(project).round.id == 1
