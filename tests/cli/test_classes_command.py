"""``protoseg classes``: what it says before a class goes, and that it comes back."""

from __future__ import annotations

import json
from pathlib import Path

from terminal_runs import protoseg, refusal
from tiny_project import NAMES

from napari_protoseg.project.folder import Project

FIRST, SECOND, *OTHERS = NAMES


def names(workspace: Path) -> tuple[str, ...]:
    with Project.open(workspace / "project") as project:
        return project.schema.names


def test_it_says_what_a_removal_affects_and_does_it_only_when_told(trained: Path):
    project = trained / "project"
    said = protoseg("classes", "remove", project, FIRST).out
    assert said.startswith(f"Remove {FIRST}?\n")
    assert "bank 1 (with 1 prototype), round 1" in said
    assert said.endswith("Nothing was changed; add --yes.\n")
    assert names(trained) == NAMES
    done = protoseg("classes", "remove", project, FIRST, "--yes").out
    assert f"protoseg classes undo {project}" in done
    assert names(trained) == (SECOND, *OTHERS)
    info = protoseg("info", project).out
    assert f"Bank 1 cannot be used: it was made with {FIRST}" in info
    assert "Or bring the class back on Labels." in info
    assert protoseg("classes", "undo", project).out.startswith(f"{FIRST} is back.")
    assert names(trained) == NAMES
    assert "out of date: nothing" in protoseg("info", project).out


def test_classes_are_merged_by_name_in_any_case(made: Path):
    project = made / "project"
    ran = protoseg("classes", "merge", project, FIRST.upper(), SECOND, "--yes", "--json")
    record = json.loads(ran.out)
    assert (record["known"], record["heir"], record["done"]) == (FIRST, SECOND, True)
    assert record["present"] > 0
    assert names(made) == (SECOND, *OTHERS)
    with Project.open(project) as opened:
        assert opened.schema.position(FIRST) == 0


def test_a_class_that_is_not_there_is_refused(made: Path):
    project = made / "project"
    said = refusal("classes", "remove", project, "mucus", untouched=project)
    assert "The classes are: " in said
    assert "no class was removed" in refusal("classes", "undo", project, untouched=project)


def test_labels_that_have_changed_make_bank_and_round_out_of_date(trained: Path):
    project = trained / "project"
    with Project.open(project) as opened:
        image = opened.images()[0]
        opened.set_labels({image.known_id: (-1,) * len(NAMES)}, source="person")
    said = protoseg("info", project).out
    assert "Bank 1 is out of date: 1 image is not learned from any more. Build one" in said
    assert len(json.loads(protoseg("info", project, "--json").out)["out of date"]) == 2
