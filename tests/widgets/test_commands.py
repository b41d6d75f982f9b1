"""What napari's command palette and menus have of the plugin, called as napari calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("napari")

from napari._app_model import get_app_model
from qtpy.QtWidgets import QFileDialog
from test_wrong_turns import held_back

_PALETTE = "_command_pallet_"
"""What app-model calls the menu of the palette."""


def palette() -> dict[str, Any]:
    """Return the commands of the plugin that the palette has, by their titles."""
    commands = [item.command for item in get_app_model().menus.get_menu(_PALETTE)]
    return {c.title: c for c in commands if c.title.endswith("(ProtoSeg)")}


def execute(name: str) -> None:
    """Do a command of the palette as a click on it does, without arguments."""
    command = palette()[f"{name} (ProtoSeg)"]
    assert command.enablement is None or command.enablement.eval({}), f"{name} is not enabled"
    get_app_model().commands.execute_command(command.id).result()


def test_each_verb_of_the_palette_does_what_its_page_does(
    user: Any, bench: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    session, folder = bench.session, trained / "project"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    execute("Open project")
    assert session.require_project().folder == folder
    execute("Next image")
    user.wait(lambda: bench.maps.sight is not None)
    first = session.current
    execute("Next image")
    assert session.current != first
    execute("Previous image")
    assert session.current == first
    execute("Previous image")
    assert user.text("message") == "This is the first image."
    for verb, task in {
        "Build bank": "Build bank",
        "Train": "Train",
        "Make all masks": "Make masks",
        "Export masks": "Export",
    }.items():
        with held_back(session, monkeypatch):
            execute(verb)
            assert session.is_busy, verb
            assert session.task.title.startswith(task)
            execute("Stop")
            user.wait(lambda: not session.is_busy)
        assert session.task.was_stopped, verb
        assert session.task.problem is None, verb


def test_a_verb_that_can_do_nothing_says_why(user: Any, bench: Any, tmp_path: Path):
    said = bench.session.messages
    verbs = ("Next image", "Previous image", "Build bank", "Train", "Make all masks")
    for verb in (*verbs, "Export masks"):
        said.clear()
        execute(verb)
        assert "project" in said.last, verb
    execute("Stop")
    assert user.text("message") == "Nothing is under way that could be stopped."
    user.page("Review")
    said.clear()
    user.click("next-image")
    assert "no project is open" in user.text("message")


def test_what_napari_calls_with_arguments_cannot_be_chosen_in_the_palette(viewer: Any):
    shown = palette()
    asked = {"Open project folder (ProtoSeg)", "Write labels as indexed PNG (ProtoSeg)"}
    disabled = {title for title, c in shown.items() if c.enablement and not c.enablement.eval({})}
    assert disabled == asked
    assert len(shown) > len(disabled)


@pytest.mark.parametrize(
    ("menu", "entries"),
    [
        ("annotate", {"Workbench", "Labels", "Review"}),
        ("segment", {"Workbench", "Training"}),
        ("classify", {"Prototype bank"}),
    ],
)
def test_the_pages_stand_in_the_menus_of_what_they_are_for(
    viewer: Any, menu: str, entries: set[str]
):
    items = get_app_model().menus.get_menu(f"napari/layers/{menu}")
    titles = {item.command.title for item in items if hasattr(item, "command")}
    assert {title for title in titles if title.endswith("(ProtoSeg)")} == {
        f"{entry} (ProtoSeg)" for entry in entries
    }
