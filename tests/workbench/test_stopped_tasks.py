"""Tasks that a person stops: a calm sentence, nothing half-done, and they can be begun again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from inline_runner import StepRunner
from tiny_project import tree

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.events import Notice, Severity
from napari_protoseg.jobs.import_masks import MaskPurpose
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import Preset
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.tasks import Problem
from napari_protoseg.workbench.workbench import Workbench

Start = Callable[[Workbench, Path], None]


def make_sample(bench: Workbench, workspace: Path) -> None:
    bench.session.open_sample()


def look(bench: Workbench, workspace: Path) -> None:
    draft = Draft(
        images=str(workspace / "tiles"),
        classes="tumour, stroma, necrosis, other",
        folder=str(workspace / "new"),
    )
    bench.labels.intake.edit(draft)
    bench.labels.intake.look()


def make_project(bench: Workbench, workspace: Path) -> None:
    draft = Draft(
        images=str(workspace / "validation" / "images"),
        masks=str(workspace / "validation" / "masks"),
        classes="tumour, stroma, necrosis, other",
        folder=str(workspace / "new"),
    )
    take_in(bench, draft)


def add_images(bench: Workbench, workspace: Path) -> None:
    open_project(bench, workspace)
    validation = workspace / "validation"
    draft = Draft(images=str(validation / "images"), masks=str(validation / "masks"))
    take_in(bench, draft)


def take_in(bench: Workbench, draft: Draft) -> None:
    bench.labels.intake.edit(draft)
    bench.labels.intake.look()
    finish(bench)
    bench.labels.intake.take()


def import_masks(bench: Workbench, workspace: Path) -> None:
    open_project(bench, workspace)
    masks = workspace / "named"
    masks.mkdir(exist_ok=True)
    mask = next((workspace / "validation" / "masks").iterdir())
    for image in bench.session.require_project().images():
        shutil.copy(mask, masks / image.path.name)
    bench.labels.import_masks(masks, MaskCodes.PROJECT, MaskPurpose.TRUTH)


def estimate(bench: Workbench, workspace: Path) -> None:
    open_project(bench, workspace)
    bench.training.choose(Preset.QUICK)
    bench.training.estimate()


def open_project(bench: Workbench, workspace: Path) -> None:
    if bench.session.project is None:
        bench.session.open(workspace / "project")


def finish(bench: Workbench) -> None:
    runner = bench.session.runner
    assert isinstance(runner, StepRunner)
    runner.finish()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return Workbench(Session(StepRunner(), lambda: Settings(device="cpu")))


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        pytest.param(
            make_sample,
            "Stopped after 1 of 144 tiles. Nothing of the sample was kept.",
            marks=pytest.mark.slow,
        ),
        (look, "Stopped after 0 of 16 images. Nothing was kept; read the labels again."),
        (make_project, "Stopped after 1 of 4 masks. Nothing was kept; read them again."),
        (add_images, "Stopped after 1 of 4 masks. Nothing was kept; read them again."),
        (import_masks, "Stopped. No mask was imported."),
        (estimate, "Stopped. Nothing was measured."),
    ],
)
def test_a_stop_is_no_problem_leaves_nothing_and_lets_it_begin_again(
    bench: Workbench, banked: Path, start: Start, sentence: str
):
    said: list[Notice] = []
    problems: list[Problem] = []
    hear, mind = said.append, problems.append
    session = bench.session
    session.said.connect(hear)
    session.went_wrong.connect(mind)
    home, runner = Path.home(), session.runner
    assert isinstance(runner, StepRunner)
    images = _images(banked)
    start(bench, banked)
    before = tree(home), (banked / "new").exists()
    runner.jobs[-1].step()
    assert session.task is not None
    session.task.stop()
    runner.finish()
    assert session.task.is_over
    assert problems == []
    assert (said[-1].text, said[-1].severity) == (sentence, Severity.INFO)
    assert (tree(home), (banked / "new").exists()) == before
    assert _images(banked) == images
    start(bench, banked)
    runner.finish()
    assert problems == []
    assert not (session.task is not None and session.task.was_stopped)
    bench.close()


def _images(workspace: Path) -> object:
    with Project.open(workspace / "project") as project:
        return project.images()
