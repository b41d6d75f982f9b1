"""Ctrl+C and worse, in a real process: a training that goes on as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file
from terminal_runs import STOPPED, Process, protoseg
from tiny_backbone import TINY, tiny_weights
from tiny_project import NAMES, NOW

from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.events import Job, Notice, Request
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import RoundStatus

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

LAST = Path("project/runs/0001/last.safetensors")


@pytest.fixture
def command(tmp_path: Path) -> Callable[[Path], list[str | Path]]:
    """Return the command of a training of seconds: a small network with weights of its own."""
    weights = tiny_weights(tmp_path)
    options = ["--epochs", "4", "--batch-size", "8", "--backbone", TINY]
    return lambda workspace: [
        "train", workspace / "project", *options, "--backbone-weights", weights
    ]  # fmt: skip


def same_model(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one if name.startswith("model/"))


def status(workspace: Path) -> RoundStatus | None:
    with Project.open(workspace / "project") as project:
        newest = project.latest_round()
    return None if newest is None else newest.status


def test_a_stopped_and_a_killed_training_end_as_one_that_was_left_alone(
    banked: Path, command: Callable[[Path], list[str | Path]]
):
    workspaces = {name: banked.with_name(name) for name in ("alone", "stopped", "killed")}
    for workspace in workspaces.values():
        shutil.copytree(banked, workspace)
    stopped, killed = (
        Process(*command(workspaces[name]), at="Epoch 2 of 4", signal=number)
        for name, number in (("stopped", signal.SIGINT), ("killed", signal.SIGKILL))
    )
    code, said = stopped.end()
    assert code == STOPPED, said
    last = said.splitlines()[-1]
    assert last.startswith("Stopped. ")
    assert f"protoseg train {workspaces['stopped'] / 'project'} --resume" in last
    assert "Traceback" not in said
    assert "Epoch 4" not in said
    assert status(workspaces["stopped"]) is RoundStatus.STOPPED

    code, _ = killed.end()
    assert code == -signal.SIGKILL
    assert status(workspaces["killed"]) is RoundStatus.RUNNING

    protoseg(*command(workspaces["alone"]))
    for name in ("stopped", "killed"):
        protoseg("train", workspaces[name] / "project", "--resume")
        assert status(workspaces[name]) is RoundStatus.FINISHED
        assert same_model(workspaces[name] / LAST, workspaces["alone"] / LAST)


@contextmanager
def left_with(code: int) -> Iterator[None]:
    with pytest.raises(typer.Exit) as left:
        yield
    assert left.value.exit_code == code


def interrupted(times: int, answers: list[Request | None]) -> Job[str]:
    """Press Ctrl+C, notice it by the answer to the next event, and so on."""
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)
        answers.append((yield Notice("working")))
    return "done"


def test_the_first_ctrl_c_asks_the_job_to_stop_and_lets_it_end():
    before = signal.getsignal(signal.SIGINT)
    answers: list[Request | None] = []
    terminal = Terminal(quiet=True)
    with terminal.errors():
        assert terminal.run(interrupted(1, answers)) == "done"
    assert answers == [Request.STOP]
    assert terminal.stopped
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_leaves_at_once(capsys: pytest.CaptureFixture[str]):
    before = signal.getsignal(signal.SIGINT)
    answers: list[Request | None] = []
    terminal = Terminal(quiet=True)
    with left_with(STOPPED), terminal.errors():
        terminal.run(interrupted(2, answers))
    assert answers == [Request.STOP]
    assert "Left at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_that_keeps_nothing_says_what_it_was_stopped_in(
    tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str]
):
    def job() -> Job[object]:
        signal.raise_signal(signal.SIGINT)
        request = NewProject(folder=tmp_path / "p", images=made / "tiles", classes=NAMES)
        return (yield from new_project(request, now=NOW))

    terminal = Terminal(quiet=True)
    with left_with(STOPPED), terminal.errors():
        terminal.run(job())
    said = capsys.readouterr().err
    assert said.startswith("Stopped: ")
    assert "Nothing was kept" in said
    assert not (tmp_path / "p").exists()
