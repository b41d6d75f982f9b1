"""The session: one project, one image, one long task, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_runner import InlineRunner, StepRunner

from napari_protoseg.errors import ProjectError, TrainingError
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import ClassSchema
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Problem, Task, TaskState


def made(folder: Path) -> Path:
    schema = ClassSchema.from_names(["tumour", "stroma"])
    Project.create(folder, schema, created=Session.now()).close()
    return folder


class heard(list[Any]):  # noqa: N801 (reads as what was heard)
    """What a signal has emitted; it must be kept, since signals hold their slots weakly."""

    def __init__(self, signal: Any) -> None:
        super().__init__()
        signal.connect(self.hear)

    def hear(self, *args: Any) -> None:
        self.append(args[0] if args else None)


def counting(total: int) -> Job[int]:
    for number in range(total):
        if (yield Progress("Counting", number, total)) is Request.STOP:
            return number
    return total


def failing() -> Job[int]:
    yield Notice("Trying.", Severity.WARNING)
    raise TrainingError("nothing to train on", where="here", remedy="Label some images.")


def test_one_project_after_another(tmp_path: Path):
    session = Session(InlineRunner())
    opened = heard(session.opened)
    session.open(made(tmp_path / "first"))
    first = session.require_project()
    session.show(ImageRecord(path=tmp_path, content_hash="0", width=1, height=1, label=(1, 1)))
    session.open(made(tmp_path / "second"))
    assert session.require_project().folder == tmp_path / "second"
    assert session.current is None
    assert len(opened) == 2
    with pytest.raises(Exception, match="closed"):
        first.images()
    session.close()


def test_a_project_that_cannot_be_opened_leaves_the_open_one(tmp_path: Path):
    session = Session(InlineRunner())
    session.open(made(tmp_path / "first"))
    problems = heard(session.went_wrong)
    assert not session.attempt(lambda: session.open(tmp_path / "missing"))
    assert "missing" in problems[0].sentence
    assert session.require_project().folder == tmp_path / "first"
    session.close()


def test_without_a_project_the_way_to_one_is_said():
    with pytest.raises(ProjectError, match="Open or make one on Labels"):
        Session(InlineRunner()).require_project()


def test_a_task_runs_to_its_result_and_is_followed():
    session = Session(InlineRunner())
    events, results = heard(session.progressed), []
    task = session.run("Count", counting(3), results.append)
    assert results == [3]
    assert [events[k].done for k in range(3)] == [0, 1, 2]
    assert task.is_over
    assert not session.is_busy


def test_a_task_that_fails_becomes_a_sentence_with_its_details():
    session = Session(InlineRunner())
    said, problems, results = heard(session.said), heard(session.went_wrong), []
    task = session.run("Fail", failing(), results.append)
    assert said[0] == Notice("Trying.", Severity.WARNING)
    assert problems[0].sentence == "here: nothing to train on. Label some images."
    assert "Traceback" in problems[0].details
    assert task.problem == problems[0]
    assert results == []
    assert not session.is_busy


def test_an_error_that_is_none_of_ours_is_called_unexpected():
    assert Problem.of(ValueError("odd")).sentence == "Unexpected: ValueError: odd"


def test_only_one_task_at_a_time_and_no_other_project_meanwhile(tmp_path: Path):
    runner = StepRunner()
    session = Session(runner)
    session.open(made(tmp_path / "first"))
    session.run("Count", counting(3), lambda result: None)
    with pytest.raises(ProjectError, match="Count is under way"):
        session.run("Count again", counting(3), lambda result: None)
    with pytest.raises(ProjectError, match="Count is under way"):
        session.open(made(tmp_path / "second"))
    assert session.require_project().folder == tmp_path / "first"
    runner.finish()
    session.open(tmp_path / "second")
    session.close()


def test_a_task_is_paused_resumed_and_stopped():
    runner, results = StepRunner(), []
    session = Session(runner)
    task = session.run("Count", counting(5), results.append)
    changes = heard(session.task_changed)
    runner.jobs[0].step()
    task.pause()
    assert (task.state, runner.jobs[0].paused) == (TaskState.PAUSED, True)
    task.resume()
    assert (task.state, runner.jobs[0].paused) == (TaskState.RUNNING, False)
    task.pause()
    task.stop()
    assert task.state is TaskState.STOPPING
    task.pause()
    assert task.state is TaskState.STOPPING
    runner.finish()
    assert results == [0]
    assert task.is_over
    assert len(changes) == 5


def test_a_result_may_open_another_project(tmp_path: Path):
    def making() -> Job[Path]:
        yield Progress("Making", 0, 1)
        return made(tmp_path / "new")

    session = Session(InlineRunner())
    session.run("Make", making(), session.open)
    assert session.require_project().folder == tmp_path / "new"
    session.close()


def test_a_task_is_over_once_its_result_is_handed_over():
    seen: list[str] = []
    session = Session(InlineRunner())

    def see_over(task: Task) -> None:
        seen.append(f"{task.title} is over")

    session.task_over.connect(see_over)
    session.run("Count", counting(3), lambda result: seen.append(f"{result} is handed over"))
    session.run("Fail", failing(), lambda result: seen.append("a result"))
    assert seen == ["3 is handed over", "Count is over", "Fail is over"]


def test_a_closed_session_takes_nothing_more(tmp_path: Path):
    class LateRunner(StepRunner):
        def close(self) -> None:
            """Leave what runs, as a thread does whose end is not heard any more."""

    runner, results = LateRunner(), []
    session = Session(runner)
    session.open(made(tmp_path / "first"))
    session.show(ImageRecord(path=tmp_path, content_hash="0", width=1, height=1, label=(1, 1)))
    shown = heard(session.current_changed)
    session.run("Count", counting(3), results.append)
    session.close()
    assert (session.project, session.current) == (None, None)
    assert len(shown) == 1
    runner.finish()
    assert results == []
    for begin in (
        lambda: session.open(tmp_path / "first"),
        lambda: session.run("Count", counting(3), results.append),
    ):
        with pytest.raises(ProjectError, match="The workbench is closed"):
            begin()
    assert (session.project, len(runner.jobs)) == (None, 1)
