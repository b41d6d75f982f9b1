"""What a person is told: warnings are not lost under the last sentence, nor kept for ever."""

from __future__ import annotations

from pathlib import Path

from inline_runner import StepRunner
from test_session import failing, made

from napari_protoseg.events import Job, Notice, Progress, Severity
from napari_protoseg.workbench.session import Session

UNKNOWN = "The model does not know fat."


def applying() -> Job[int]:
    yield Notice(UNKNOWN, Severity.WARNING)
    yield Notice("Computing on the CPU.")
    yield Notice(UNKNOWN, Severity.WARNING)
    return 4


def test_a_warning_of_a_task_stands_above_its_last_sentence():
    runner = StepRunner()
    session = Session(runner)
    session.run("Apply model", applying(), lambda added: session.say(f"{added} images added."))
    runner.finish()
    assert session.messages.warnings == (UNKNOWN,)
    assert session.messages.last == "4 images added."
    assert session.messages.details.splitlines() == [
        f"\N{WARNING SIGN} {UNKNOWN}",
        "Computing on the CPU.",
        "4 images added.",
    ]
    session.messages.dismiss()
    assert session.messages.warnings == ()
    assert UNKNOWN in session.messages.details


def test_a_task_begins_with_nothing_of_the_one_before():
    runner = StepRunner()
    session = Session(runner)
    session.run("Apply model", applying(), lambda _: session.say("Images added."))
    runner.finish()
    session.run("Fail", failing(), lambda _: None)
    assert (session.messages.warnings, session.messages.last) == ((), "")
    assert session.messages.details == ""
    runner.finish()
    assert "nothing to train on" in session.messages.last
    assert session.messages.warnings == ("Trying.",)
    assert "Traceback" in session.messages.details
    session.say("The mask is saved.")
    assert session.messages.last == "The mask is saved."
    assert "Traceback" not in session.messages.details


def test_what_went_wrong_beside_a_task_is_there_when_it_ends():
    runner = StepRunner()
    session = Session(runner)
    session.run("Apply model", applying(), lambda _: session.say("Images added."))
    session.run_aside("Open image", failing(), lambda _: None)
    runner.jobs[1].finish()
    runner.finish()
    assert session.messages.last == "Images added."
    assert any("nothing to train on" in warning for warning in session.messages.warnings)


def test_warnings_of_a_task_that_opens_its_project_stay_and_those_of_another_go(tmp_path: Path):
    def making() -> Job[Path]:
        yield Notice("2 images were left out.", Severity.WARNING)
        yield Progress("Making", 0, 1)
        return made(tmp_path / "new")

    runner = StepRunner()
    session = Session(runner)
    session.run("Make project", making(), session.open)
    runner.finish()
    assert session.messages.warnings == ("2 images were left out.",)
    session.open(made(tmp_path / "other"))
    assert session.messages.warnings == ()
    session.close()


def test_the_answer_to_a_wrong_turn_gives_way_to_the_next_sentence():
    runner = StepRunner()
    session = Session(runner)
    session.run("Apply model", applying(), lambda _: session.say("Images added."))
    session.attempt(session.require_project)
    assert "no project is open" in session.messages.last
    runner.finish()
    assert session.messages.last == "Images added."
    assert session.messages.warnings == (UNKNOWN,)
