"""A step waits in memory while classes go or come back: it is recorded by those that are there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from drawing import draw

from napari_protoseg.project import ImageRecord, MaskSource, Origin, PredictedMask, Project
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.review.edited_mask import EditedMask
from napari_protoseg.review.journal import Journal
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "fat"])
TUMOUR, STROMA, FAT = SCHEMA.ids
SHAPE = (4, 6)

TAKES_OVER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import Project
with Project.open(Path(sys.argv[1]), take_over=True) as project:
    project.restore_class(created=datetime.now(UTC))
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project with one image, of which Ada and Bea are known."""
    image = tmp_path / "image.png"
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            [ImageRecord(path=image, content_hash="0", width=6, height=4, label=(1, 1, 1))]
        )
        for person in ("Ada", "Bea"):
            project.introduce(person)
        yield project


def full(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.uint8)


def opened(project: Project) -> EditedMask:
    edited, _ = Journal(project, 1).open()
    return edited


def recorded(project: Project, step: NewStep | None) -> Outcome:
    assert step is not None
    (outcome,) = Journal(project, 1).append([step])
    return outcome


def undo(project: Project) -> None:
    recorded(project, opened(project).undo(now=NOW))


def restore_all(project: Project) -> None:
    while project.removed_classes():
        project.restore_class(created=NOW)


def pixel(project: Project) -> tuple[int, int]:
    """Return class and setter of the last pixel."""
    stored = project.read_mask(1)
    assert stored is not None
    return int(stored.mask[-1, -1]), int(stored.setters[-1, -1])


@pytest.mark.parametrize("heir", [None, FAT])
def test_a_stroke_that_waits_while_another_program_brings_a_class_back_gives_back_whose_that_was(
    project: Project, heir: int | None
):
    draw(project, 1, full(STROMA), person="Bea", now=NOW)
    of_bea = pixel(project)
    project.remove_class(STROMA, heir, created=NOW)
    stroke = opened(project).stroke(full(TUMOUR), author="Ada", now=NOW)
    subprocess.run([sys.executable, "-c", TAKES_OVER, project.folder], check=True)
    with Project.open(project.folder, take_over=True) as again:
        assert recorded(again, stroke) is Outcome.OVER_OTHERS
        again.fold_journal(1)
        assert pixel(again)[0] == TUMOUR
        undo(again)
        assert pixel(again) == of_bea == (STROMA, again.introduce("Bea"))


@pytest.mark.parametrize("back", ["before it is recorded", "after"])
def test_a_stroke_that_waits_between_two_merges_gives_back_the_class_that_was_there(
    project: Project, back: str
):
    project.write_mask(
        PredictedMask(1, full(TUMOUR), np.full(SHAPE, 0.5, np.float16)),
        MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW),
    )
    opened(project)
    project.remove_class(TUMOUR, FAT, created=NOW)
    stroke = opened(project).stroke(full(STROMA), author="Ada", now=NOW)
    project.remove_class(FAT, STROMA, created=NOW)
    if back == "after":
        assert recorded(project, stroke) is Outcome.OVER_OTHERS
        project.fold_journal(1)
        restore_all(project)
    else:
        restore_all(project)
        assert recorded(project, stroke) is Outcome.OVER_OTHERS
    undo(project)
    assert pixel(project) == (TUMOUR, Origin.MODEL)


@pytest.mark.parametrize("heir", [None, FAT])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["alone", "another draws elsewhere"])
@pytest.mark.parametrize("waits", [False, True], ids=["recorded at once", "waits"])
def test_what_is_given_back_of_a_class_that_is_gone_is_of_that_class_again_once_it_is_back(
    project: Project, heir: int | None, elsewhere: bool, waits: bool
):
    drawn = full(STROMA)
    drawn[0] = 0
    draw(project, 1, drawn, now=NOW)
    of_ada = pixel(project)
    project.remove_class(STROMA, heir, created=NOW)
    ada, bea = opened(project), opened(project)
    if elsewhere:
        drawn = bea.mask.copy()
        drawn[0] = TUMOUR
        recorded(project, bea.stroke(drawn, author="Bea", now=NOW))
    release = ada.release(np.ones(SHAPE, np.bool_), author="Ada", now=NOW)
    if waits:
        restore_all(project)
    as_made = not (waits or elsewhere)
    assert (recorded(project, release) is Outcome.AS_MADE) == as_made
    assert pixel(project)[0] == (STROMA if waits else heir or 0) == opened(project).mask[-1, -1]
    project.fold_journal(1)
    restore_all(project)
    assert pixel(project) == (STROMA, Origin.MODEL)
    undo(project)
    assert pixel(project) == of_ada


def test_what_the_same_person_has_drawn_since_elsewhere_is_not_given_back_as_a_class_comes_back(
    project: Project,
):
    draw(project, 1, full(STROMA), now=NOW)
    project.remove_class(STROMA, FAT, created=NOW)
    ada, other = opened(project), opened(project)
    recorded(project, other.stroke(full(TUMOUR), author="Ada", now=NOW))
    restore_all(project)
    release = ada.release(np.ones(SHAPE, np.bool_), author="Ada", now=NOW)
    assert recorded(project, release) is Outcome.REFUSED
    assert pixel(project) == (TUMOUR, project.introduce("Ada"))


def test_a_class_that_is_drawn_while_it_is_gone_takes_nothing_from_itself(project: Project):
    draw(project, 1, full(STROMA), now=NOW)
    project.remove_class(STROMA, created=NOW)
    # In a window that has not heard of it, in which the class may still be drawn.
    edited = EditedMask(project.open_journal(1), SCHEMA)
    drawn = full(STROMA)
    drawn[:1] = TUMOUR
    assert recorded(project, edited.stroke(drawn, author="Ada", now=NOW)) is Outcome.OVER_OTHERS
    restore_all(project)
    np.testing.assert_array_equal(opened(project).mask, drawn)
    undo(project)
    np.testing.assert_array_equal(opened(project).mask, full(STROMA))


def test_a_class_that_is_added_leaves_what_waits_as_it_was_made(project: Project):
    stroke = opened(project).stroke(full(TUMOUR), author="Ada", now=NOW)
    project.set_schema(ClassSchema.from_names([*SCHEMA.names, "necrosis"]), created=NOW)
    assert recorded(project, stroke) is Outcome.AS_MADE
