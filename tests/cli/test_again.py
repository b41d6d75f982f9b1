"""After Ctrl+C a command says what to type to go on: what was typed, with all its options."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminal_runs import STOPPED, protoseg

from napari_protoseg.cli import commands
from napari_protoseg.events import Job
from napari_protoseg.masks.recipe import Recipe


def stops(monkeypatch: pytest.MonkeyPatch, job: str) -> None:
    """Press Ctrl+C as soon as a job of the commands begins."""
    begun: Callable[..., Job[Any]] = getattr(commands, job)

    def interrupted(*args: object, **options: object) -> Job[Any]:
        signal.raise_signal(signal.SIGINT)
        return (yield from begun(*args, **options))

    monkeypatch.setattr(commands, job, interrupted)


def last_line(*arguments: str | Path) -> str:
    return protoseg(*arguments, code=STOPPED).err.rstrip().splitlines()[-1]


def test_a_bank_goes_on_with_its_options(made: Path, monkeypatch: pytest.MonkeyPatch):
    stops(monkeypatch, "build_project_bank")
    command = ["bank", made / "project", "--clusters", "1,2,1,1", "--seed", "3", "--quiet"]
    said = last_line(*command)
    assert said.endswith(f"go on with: protoseg {' '.join(map(str, command))}")


def test_a_quick_training_begins_again_as_a_quick_one(
    banked: Path, monkeypatch: pytest.MonkeyPatch
):
    stops(monkeypatch, "train_project")
    project = banked / "project"
    said = last_line("train", project, "--preset", "quick", "--device", "cpu")
    assert said.endswith(f"again with: protoseg train {project} --preset quick --device cpu")


def test_a_training_goes_on_with_what_it_does_not_keep_itself(
    banked: Path, monkeypatch: pytest.MonkeyPatch
):
    stops(monkeypatch, "train_project")
    project = banked / "project"
    said = last_line("train", project, "--epochs", "2", "--device", "cpu")
    assert said.endswith(f"go on with: protoseg train {project} --device cpu --resume")


def test_an_export_keeps_its_recipe_and_a_name_with_spaces(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stops(monkeypatch, "export_project")
    recipe, out = tmp_path / "my recipe.json", tmp_path / "out"
    recipe.write_text(Recipe(flip=False).model_dump_json())
    said = last_line(
        "export", trained / "project", "--out", out, "--format", "png", "--recipe", recipe
    )
    assert f"--out {out} --format png --recipe '{recipe}'" in said
    stops(monkeypatch, "predict_images")
    said = last_line("predict", trained / "project", "--out", out, "--labels", "none")
    assert said.endswith(f"protoseg predict {trained / 'project'} --out {out} --labels none")
