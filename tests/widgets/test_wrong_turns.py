"""Wrong turns in the window: each ends in a sentence, with everything that was set still there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("napari")

from driven_jobs import finish
from qtpy.QtWidgets import QComboBox, QPushButton
from tiny_project import CPU, NOW, record_images, write_training_tiles

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.events import Job, Request
from napari_protoseg.jobs.bank import BankRequest
from napari_protoseg.jobs.import_masks import MaskPurpose, import_masks
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.segment import SegmentRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.plugin.layers import Role, class_of, own_layers, role_of
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import PRESETS, SECOND_STAGE, Preset
from napari_protoseg.training.events import StepFinished
from napari_protoseg.training.pixels import PixelConfig
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Task, TaskState

SHORT = {"epochs": 1, "batch_size": 2}
"""Of a training whose steps are short."""


def unlabelled(folder: Path, *names: str) -> Path:
    """Make a project of 4 tiles of which nothing is known."""
    write_training_tiles(folder / "tiles", cases=1)
    record_images(folder / "project", sorted((folder / "tiles").iterdir()), names)
    return folder


def test_nothing_can_be_built_or_trained_without_labels(user: Any, bench: Any, tmp_path: Path):
    bench.session.open(unlabelled(tmp_path, "tumour", "stroma") / "project")
    bank = user.page("Prototype bank")
    assert "Label images first" in bank.needs.text()
    assert not user.find(QPushButton, "build-bank").isEnabled()
    training = user.page("Training")
    assert training.needs.text() == (
        "Build a prototype bank first. For it, no training image is known to hold tumour, stroma "
        "yet."
    )
    assert not user.find(QPushButton, "train").isEnabled()
    bench.session.attempt(bench.training.train)
    assert "Build a prototype bank first" in user.text("message")


def ready(user: Any, bench: Any, workspace: Path, verb: str) -> Callable[[], None]:
    """Do all that comes before one of the long tasks; return what begins it as its page does."""
    validation = workspace / "validation"
    draft = Draft(images=str(validation / "images"), masks=str(validation / "masks"))
    if verb in ("make", "sample"):
        folder = str(workspace / "new")
        draft = replace(draft, classes="tumour, stroma, necrosis, other", folder=folder)
    else:
        bench.session.open(workspace / "project")
    bench.labels.intake.edit(draft)
    bench.training.second.set_options(
        SegmentRequest(
            config=SECOND_STAGE.model_copy(update=SHORT),
            pixels=PixelConfig(decoder=Decoder.SEGFORMER),
        )
    )
    if verb in ("make", "add"):
        bench.labels.intake.look()
        user.wait(lambda: not bench.session.is_busy)
    verbs: dict[str, Callable[[], None]] = {
        "sample": bench.session.open_sample,
        "look": bench.labels.intake.look,
        "make": bench.labels.intake.take,
        "add": bench.labels.intake.take,
        "import": lambda: bench.labels.import_masks(
            named_masks(workspace), MaskCodes.PROJECT, MaskPurpose.TRUTH
        ),
        "estimate": bench.training.estimate,
        "bank": bench.bank.build,
        "training": bench.training.train,
        "resumed": bench.training.resume,
        "second": bench.training.second.train,
        "find": lambda: bench.labels.find_images(workspace / "moved"),
        "class": lambda: bench.labels.removals.weigh(
            1, None, lambda impact: bench.session.say(f"It is in {impact.masks} masks.")
        ),
        "masks": bench.review.make_masks,
        "apply": lambda: bench.review.apply(workspace / "validation" / "images"),
        "export": bench.export.export,
    }
    return verbs[verb]


def bring_about(workspace: Path, verb: str) -> None:
    """Let there be what a task is about, where that is more than a trained project."""
    if verb == "find":
        (workspace / "tiles").rename(workspace / "moved")
        return
    with Project.open(workspace / "project") as project:
        if verb == "class":
            masks, codes = named_masks(workspace), MaskCodes.PROJECT
            purpose = MaskPurpose.CORRECTION
            finish(import_masks(project, masks, codes, purpose, person="Ada", now=NOW))
        if verb == "resumed":
            config = PRESETS[Preset.STANDARD].model_copy(update=SHORT)
            request = TrainRequest(preset=Preset.STANDARD, config=config)
            job = train_project(project, request, device=CPU, now=lambda: NOW)
            ended, _ = finish(
                job, lambda event: Request.STOP if isinstance(event, StepFinished) else None
            )
            assert ended is not None
            assert not ended.finished


@contextmanager
def held_back(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tasks do nothing until they are paused: short ones are over before anybody can click."""
    start = session.start

    def start_held_back(task: Task, job: Job[Any]) -> None:
        def held() -> Job[Any]:
            while task.state is TaskState.RUNNING:
                time.sleep(0.01)
            return (yield from job)

        start(task, held())

    with monkeypatch.context() as patched:
        patched.setattr(session, "start", start_held_back)
        yield


def named_masks(workspace: Path) -> Path:
    """Return a folder with a mask for each training tile."""
    masks = workspace / "named"
    masks.mkdir(exist_ok=True)
    mask = next((workspace / "validation" / "masks").iterdir())
    for image in (workspace / "tiles").iterdir():
        shutil.copy(mask, masks / image.name)
    return masks


_LESS_USUAL = ("sample", "make", "add", "import", "resumed", "second", "apply", "find", "class")
_ENDS = {
    "resumed": "Round 2 was stopped",
    "second": "Round 2 was stopped",
    "find": "Images found again: 16.",
    "class": "It is in 16 masks.",
}
"""What is said of some tasks that were begun again and have come to their end."""


@pytest.mark.parametrize(
    "verb",
    [
        *("look", "estimate", "bank", "training", "masks", "export"),
        *(pytest.param(verb, marks=pytest.mark.slow) for verb in _LESS_USUAL),
    ],
)
def test_each_task_can_be_stopped_and_begun_again(
    user: Any, bench: Any, trained: Path, verb: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(trained))  # where the sample is made
    bench.bank.request = BankRequest.model_validate({"config": {"clusters": 1}})
    shutil.rmtree(trained / "project" / "cache", ignore_errors=True)
    bring_about(trained, verb)
    begin = ready(user, bench, trained, verb)
    with held_back(bench.session, monkeypatch):
        begin()
        bench.session.task.pause()
        user.click("stop-task")
        user.wait(lambda: not bench.session.is_busy)
    assert bench.session.task.was_stopped
    assert bench.session.task.problem is None
    assert "stopped" in user.text("message").casefold(), "it went on to its end"
    assert "\N{WARNING SIGN}" not in user.text("message")
    if verb == "estimate":
        assert bench.training.estimate_of(bench.training.preset) is None
    if verb == "training":
        user.page("Training")
        assert user.find(QPushButton, "train").isEnabled()
    if verb == "resumed":
        assert bench.training.steps == [], "it was stopped before it had gone on"
        user.page("Training")
        assert user.find(QPushButton, "resume").isEnabled()
    if verb == "find":
        assert user.text("message").endswith(" Nothing was changed; look again.")
        assert not any(image.path.exists() for image in bench.session.project.images())
    if verb == "class":
        assert user.text("message") == "Stopped. Nothing was changed."
    bench.session.close_project()
    ready(user, bench, trained, verb)()
    if verb in ("resumed", "second"):  # as long as one step, for time's sake
        user.wait(lambda: bool(bench.training.steps), 120)
        user.click("stop-task")
    user.wait(lambda: not bench.session.is_busy, 120)
    assert bench.session.task is None or bench.session.task.problem is None
    assert "\N{WARNING SIGN}" not in user.text("message")
    assert user.text("message").startswith(_ENDS.get(verb, ""))


def test_layers_may_be_deleted_while_a_task_runs(user: Any, bench: Any, trained: Path):
    bench.session.open(trained / "project")
    user.page("Review")
    user.click("next-image")
    user.wait(lambda: bench.maps.sight is not None)
    bench.review.make_masks()
    for layer in list(user.viewer.layers):
        user.viewer.layers.remove(layer)
    user.wait(lambda: not bench.session.is_busy)
    assert bench.session.task.problem is None
    user.settle()
    before = bench.session.current.id
    user.click("next-image")
    user.wait(lambda: bench.opened.image is not None and bench.opened.image.id != before)
    user.wait(lambda: bench.maps.sight is not None)
    assert {role_of(layer) for layer in user.viewer.layers} == {
        Role.IMAGE,
        Role.CLASS_MAP,
        Role.MASK,
    }


def test_layers_may_be_deleted_while_a_network_trains(user: Any, bench: Any, banked: Path):
    bench.session.open(banked / "project")
    user.page("Review")
    user.click("next-image")
    user.wait(lambda: bench.maps.sight is not None)
    preset = user.find(QComboBox, "preset")
    user.page("Training")
    preset.setCurrentIndex(preset.findData("standard"))
    preset.activated.emit(preset.currentIndex())
    user.click("train")
    for layer in list(user.viewer.layers):
        user.viewer.layers.remove(layer)
    user.wait(lambda: "epoch" in bench.maps.source, 120)
    user.click("stop-task")
    user.wait(lambda: not bench.session.is_busy, 120)
    assert bench.session.task.problem is None


def test_a_project_with_other_classes_after_another(
    user: Any, bench: Any, trained: Path, tmp_path: Path
):
    bench.session.open(trained / "project")
    user.page("Review")
    user.click("next-image")
    user.wait(lambda: bench.maps.sight is not None)
    first = bench.session.current.id
    (mask,) = [la for la in own_layers(user.viewer.layers) if role_of(la) is Role.MASK]
    mask.data_setitem((np.array([0]), np.array([0])), np.array([4]))
    other = unlabelled(tmp_path / "other", "gland", "muscle")
    bench.session.open(other / "project")
    assert list(own_layers(user.viewer.layers)) == []
    assert len(bench.labels.images.all) == 4
    user.click("next-image")
    # Its recorded hash is not that of the file: said, not shown.
    user.wait(lambda: "has changed since it was taken in" in user.text("message"))
    assert bench.opened.image is None
    with Project.open(trained / "project") as project:
        stored = project.read_mask(first)
    assert stored is not None
    assert stored.mask[0, 0] == 4
    assert [class_of(layer) for layer in own_layers(user.viewer.layers)] == []


def test_a_model_for_other_classes_is_refused_with_the_reason(
    user: Any, bench: Any, trained: Path, tmp_path: Path
):
    other = unlabelled(tmp_path / "other", "gland", "muscle")
    bench.session.open(other / "project")
    bench.review.apply(trained / "validation" / "images", trained / "project")
    user.wait(lambda: not bench.session.is_busy)
    assert "the model knows classes that the project does not have" in user.text("message")
    assert len(bench.session.project.images()) == 4


def test_a_project_without_a_database_is_refused_and_the_open_one_stays(
    user: Any, bench: Any, trained: Path, tmp_path: Path
):
    bench.session.open(trained / "project")
    bench.session.attempt(lambda: bench.session.open(tmp_path / "nothing"))
    assert "nothing" in user.text("message")
    assert bench.session.project.folder == trained / "project"


@pytest.mark.parametrize("verb", ["bank", "training", "masks", "export"])
def test_an_image_that_vanished_from_disk_is_named(user: Any, bench: Any, trained: Path, verb: str):
    shutil.rmtree(trained / "project" / "cache", ignore_errors=True)
    with Project.open(trained / "project") as project:
        gone = project.images()[0].path
    gone.unlink()
    ready(user, bench, trained, verb)()
    user.wait(lambda: not bench.session.is_busy)
    assert gone.name in user.text("message")
    assert bench.bank.needs() is None
    assert bench.training.needs() is None
