"""A class that is removed or merged, and that comes back: labels, pixels, journals, kills."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from drawing import draw

from napari_protoseg.errors import MissingError, ProjectError, SchemaError
from napari_protoseg.events import finish
from napari_protoseg.jobs.check import check_project
from napari_protoseg.project import (
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    Project,
    StoredMask,
)
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.review.journal import Journal, recover
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma", "fat"])
TUMOUR, STROMA, FAT = SCHEMA.ids
SHAPE = (4, 6)
LABELS = [(1, 1, 0), (1, 0, 0), (0, 0, -1), (-1, 0, 1), (0, 1, -1), (-1, -1, -1), (0, 0, 0)]
MODEL, NONE = Origin.MODEL, Origin.NONE


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project.create(tmp_path / "project", SCHEMA, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{k}.png", content_hash=str(k), width=6, height=4, label=label
            )
            for k, label in enumerate(LABELS)
        )
        yield project


def source(recipe: str = "{}") -> MaskSource:
    return MaskSource(round_id=None, label_condition="given", recipe_json=recipe, created=NOW)


def predict(project: Project, *rows: int) -> None:
    """Store a mask of image 1 with one class in each row."""
    mask = np.repeat(np.array(rows, np.uint8)[:, None], 6, axis=1)
    made = PredictedMask(1, mask, np.full(SHAPE, 0.5, np.float16))
    project.write_mask(made, source())


def paint(project: Project, row: int, value: int, person: str = "Ada") -> None:
    mask = seen(project).mask.copy()
    mask[row] = value
    draw(project, 1, mask, person=person, now=NOW)


def seen(project: Project) -> StoredMask:
    stored = project.read_mask(1)
    assert stored is not None
    return stored


def rows(project: Project) -> list[int]:
    return seen(project).mask[:, 0].tolist()


def setters(project: Project) -> list[int]:
    return seen(project).setters[:, 0].tolist()


def labels(project: Project) -> list[tuple[int, ...]]:
    return [image.label for image in project.images()]


def content(project: Project) -> list[tuple[object, ...]]:
    """Return every row of the database that a class may touch."""
    with closing(sqlite3.connect(project.folder / "project.db")) as connection:
        return [
            row
            for table in ("labels", "former_labels", "masks", "journals", "edits", "reviews")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
        ]


def test_the_labels_of_a_removed_class_go_and_its_pixels_are_unlabelled(project: Project):
    predict(project, TUMOUR, STROMA, FAT, 0)
    project.remove_class(STROMA, created=NOW)
    assert project.schema.names == ("tumour", "fat")
    assert labels(project)[0] == (1, 0)
    assert rows(project) == [TUMOUR, 0, FAT, 0]
    assert setters(project) == [MODEL, NONE, MODEL, NONE]


def test_what_a_person_had_set_stays_theirs_and_no_prediction_fills_it(project: Project):
    predict(project, TUMOUR, STROMA, STROMA, 0)
    paint(project, 3, STROMA)
    project.remove_class(STROMA, created=NOW)
    predict(project, FAT, FAT, FAT, FAT)
    assert rows(project) == [FAT, FAT, FAT, 0]
    assert seen(project).origins[:, 0].tolist() == [MODEL, MODEL, MODEL, Origin.PERSON]
    project.restore_class(created=NOW)
    assert rows(project) == [FAT, FAT, FAT, STROMA], "what the model has filled is not undone"


def test_pixels_of_a_merged_class_are_of_the_other_and_whose_they_were(project: Project):
    predict(project, TUMOUR, STROMA, FAT, 0)
    paint(project, 3, STROMA)
    ada = setters(project)[3]
    project.remove_class(STROMA, TUMOUR, created=NOW)
    assert rows(project) == [TUMOUR, TUMOUR, FAT, TUMOUR]
    assert setters(project) == [MODEL, MODEL, MODEL, ada]


def test_merged_labels_are_present_where_either_was_and_absent_where_both_were(project: Project):
    project.remove_class(STROMA, TUMOUR, created=NOW)
    assert [label[0] for label in labels(project)] == [1, 1, 0, -1, 1, -1, 0]
    assert [label[1] for label in labels(project)] == [label[2] for label in LABELS]


def test_the_name_of_a_merged_class_means_the_other_until_it_is_back(project: Project):
    schema = project.remove_class(STROMA, TUMOUR, created=NOW)
    assert schema.position("Stroma") == schema.position("tumour")
    project.restore_class(created=NOW)
    assert project.schema == SCHEMA


@pytest.mark.parametrize("heir", [None, TUMOUR])
def test_nothing_is_as_it_was_but_all_when_the_class_is_back(project: Project, heir: int | None):
    predict(project, TUMOUR, STROMA, FAT, 0)
    paint(project, 3, STROMA)
    before, mask = content(project), seen(project)
    project.remove_class(STROMA, heir, created=NOW)
    assert content(project) != before
    gone = project.restore_class(created=NOW)
    assert (gone.known.name, gone.heir) == ("stroma", heir)
    assert content(project) == before
    assert project.schema == SCHEMA
    np.testing.assert_array_equal(seen(project).mask, mask.mask)
    np.testing.assert_array_equal(seen(project).setters, mask.setters)


def test_classes_come_back_in_the_order_in_which_the_last_went_first(project: Project):
    predict(project, TUMOUR, STROMA, FAT, 0)
    before = content(project)
    project.remove_class(STROMA, FAT, created=NOW)
    project.remove_class(FAT, TUMOUR, created=NOW)
    assert rows(project) == [TUMOUR, TUMOUR, TUMOUR, 0]
    assert project.schema.heirs == {STROMA: TUMOUR, FAT: TUMOUR}
    assert [gone.known.name for gone in project.removed_classes()] == ["stroma", "fat"]
    project.restore_class(created=NOW)
    assert rows(project) == [TUMOUR, FAT, FAT, 0]
    project.restore_class(created=NOW)
    assert (content(project), project.schema) == (before, SCHEMA)
    with pytest.raises(SchemaError, match="no class was removed"):
        project.restore_class(created=NOW)


def test_a_class_may_be_removed_that_another_was_merged_into(project: Project):
    predict(project, TUMOUR, STROMA, FAT, 0)
    project.remove_class(STROMA, FAT, created=NOW)
    project.remove_class(FAT, created=NOW)
    assert rows(project) == [TUMOUR, 0, 0, 0]
    project.restore_class(created=NOW)
    assert rows(project) == [TUMOUR, FAT, FAT, 0]


def test_what_was_labelled_since_a_merge_stays_as_a_person_has_said(project: Project):
    project.remove_class(STROMA, TUMOUR, created=NOW)
    project.set_labels({1: (0, 0), 3: (1, -1)}, source="person")
    project.restore_class(created=NOW)
    assert labels(project)[0] == (0, 0, 0), "absent together is absent each"
    assert labels(project)[2] == (1, 0, -1), "present together is present in the one that stayed"
    assert labels(project)[1] == LABELS[1]


def test_what_was_drawn_since_stays_and_the_rest_of_the_class_comes_back(project: Project):
    predict(project, STROMA, STROMA, STROMA, 0)
    project.remove_class(STROMA, created=NOW)
    paint(project, 1, FAT)
    project.restore_class(created=NOW)
    assert rows(project) == [STROMA, FAT, STROMA, 0]


@pytest.mark.parametrize("folds", [False, True], ids=["not stored between", "stored between"])
def test_a_stroke_over_a_class_that_is_gone_can_be_undone_to_the_last_pixel(
    project: Project, folds: bool
):
    predict(project, TUMOUR, STROMA, FAT, 0)
    paint(project, 3, STROMA)
    journal = Journal(project, 1)
    journal.open()
    before = (seen(project).mask, seen(project).setters)
    project.remove_class(STROMA, created=NOW)
    edited, _ = journal.open()
    drawn = edited.mask.copy()
    drawn[1:] = TUMOUR
    step = edited.stroke(drawn, author="Bob", now=NOW)
    assert step is not None
    project.introduce("Bob")
    journal.append([step])
    if folds:
        project.fold_journal(1)
    assert rows(project) == [TUMOUR] * 4
    back = edited.undo(now=NOW)
    assert back is not None
    journal.append([back])
    assert rows(project) == [TUMOUR, 0, FAT, 0]
    project.fold_journal(1)
    assert rows(project) == [TUMOUR, 0, FAT, 0]
    project.restore_class(created=NOW)
    np.testing.assert_array_equal(seen(project).mask, before[0])
    np.testing.assert_array_equal(seen(project).setters, before[1])


def stroke(project: Project, journal: Journal, row: int, value: int) -> None:
    """Record a stroke of Ada over what is seen, and store no mask."""
    project.introduce("Ada")
    edited, _ = journal.open()
    drawn = edited.mask.copy()
    drawn[row] = value
    step = edited.stroke(drawn, author="Ada", now=NOW)
    assert step is not None
    journal.append([step])


def undo(journal: Journal) -> None:
    """Undo the last edit, as somebody does who has just opened the image."""
    edited, _ = journal.open()
    step = edited.undo(now=NOW)
    assert step is not None
    journal.append([step])


@pytest.mark.parametrize("between", ["restored", "predicted", "imported", "removed", "merged on"])
def test_what_a_stroke_has_taken_of_a_class_that_is_gone_comes_back_whatever_happens_first(
    project: Project, between: str
):
    journal = Journal(project, 1)
    stroke(project, journal, 0, STROMA)
    before = (seen(project).mask, seen(project).setters)
    project.remove_class(STROMA, FAT if between == "merged on" else None, created=NOW)
    stroke(project, journal, 0, TUMOUR)
    match between:
        case "restored":
            project.restore_class(created=NOW)
        case "predicted":
            predict(project, 0, FAT, 0, 0)
        case "imported":
            mask = np.zeros(SHAPE, np.uint8)
            mask[1] = FAT
            project.store_imports({1: mask}, person="Bob", now=NOW)
        case _:
            project.remove_class(FAT, created=NOW)
    if between in ("predicted", "imported"):
        undo(journal)
    undo(journal)
    project.fold_journal(1)
    while project.removed_classes():
        project.restore_class(created=NOW)
    np.testing.assert_array_equal(seen(project).mask, before[0])
    np.testing.assert_array_equal(seen(project).setters, before[1])


@pytest.mark.parametrize("heir", [FAT, None])
@pytest.mark.parametrize("fold", [False, True])
def test_strokes_that_waited_while_another_drew_the_same_and_removed_its_class_are_all_there(
    project: Project, heir: int | None, fold: bool
):
    journal = Journal(project, 1)
    ada, _ = journal.open()
    other, _ = journal.open()  # of another program, where the same person is at work
    number = project.introduce("Ada")
    waiting = []
    for edited in (ada, other):
        edited.introduce("Ada", number)
        drawn = edited.mask.copy()
        drawn[0] = STROMA
        waiting.append(edited.stroke(drawn, author="Ada", now=NOW))
    drawn[1] = TUMOUR
    waiting.append(ada.stroke(drawn, author="Ada", now=NOW))
    hers, its, later = waiting
    journal.append([its])
    project.remove_class(STROMA, heir, created=NOW)
    assert journal.append([hers, later]) == [Outcome.THERE, Outcome.OVER_OTHERS]
    if fold:
        project.fold_journal(1)
    else:
        project.remove_class(FAT, created=NOW)  # what is not folded is looked at for it
    assert (seen(project).mask[1] == TUMOUR).all()
    assert recover(project).failed == ()
    while project.removed_classes():
        project.restore_class(created=NOW)
    edited, _ = journal.open()
    assert edited.mask[:2, 0].tolist() == [STROMA, TUMOUR]
    while edited.undo(now=NOW) is not None:
        pass
    assert not edited.mask.any()


def test_a_stroke_over_a_class_that_is_gone_may_be_undone_and_redone_once_no_mask_was_left(
    project: Project,
):
    journal = Journal(project, 1)
    stroke(project, journal, 0, STROMA)
    project.fold_journal(1)
    project.remove_class(STROMA, created=NOW)
    stroke(project, journal, 0, TUMOUR)
    undo(journal)
    undo(journal)
    project.fold_journal(1)
    assert project.read_mask(1) is None
    project.restore_class(created=NOW)
    edited, _ = journal.open()
    steps = [edited.redo(now=NOW), edited.redo(now=NOW), edited.undo(now=NOW)]
    journal.append([step for step in steps if step is not None])
    assert rows(project)[0] == edited.mask[0, 0] == STROMA


def test_no_undo_in_a_journal_leads_to_a_class_that_is_gone(project: Project):
    journal = Journal(project, 1)
    edited, _ = journal.open()
    project.introduce("Ada")
    for value in (STROMA, FAT, STROMA):
        drawn = edited.mask.copy()
        drawn[0] = value
        step = edited.stroke(drawn, author="Ada", now=NOW)
        assert step is not None
        journal.append([step])
    project.remove_class(STROMA, created=NOW)
    again, _ = journal.open()
    shown = [again.mask[0, 0]]
    while (step := again.undo(now=NOW)) is not None:
        journal.append([step])
        shown.append(again.mask[0, 0])
        assert rows(project)[0] == shown[-1] if project.read_mask(1) is not None else True
    assert shown == [0, FAT, 0, 0]


def test_a_class_id_is_never_given_again(project: Project):
    project.remove_class(FAT, created=NOW)
    taken = SCHEMA.classes[2].model_copy(update={"name": "other"})
    with pytest.raises(SchemaError, match="do not keep the ids"):
        project.set_schema(ClassSchema(classes=(*SCHEMA.classes[:2], taken)), created=NOW)
    with pytest.raises(SchemaError, match="no class with the id 3"):
        project.remove_class(FAT, created=NOW)
    with pytest.raises(ProjectError, match="no class ids"):
        predict(project, TUMOUR, FAT, FAT, 0)


def test_a_class_cannot_come_back_while_another_has_its_name(project: Project):
    project.remove_class(FAT, created=NOW)
    named = project.schema.classes[0].model_copy(update={"name": "Fat", "former": ("tumour",)})
    project.set_schema(
        ClassSchema(classes=(named, project.schema.classes[1]), retired=(FAT,)), created=NOW
    )
    with pytest.raises(SchemaError, match=r"another class has taken its name.*Rename that one"):
        project.restore_class(created=NOW)
    assert project.schema.names == ("Fat", "stroma")


def test_the_last_class_stays(project: Project):
    project.remove_class(FAT, created=NOW)
    project.remove_class(STROMA, TUMOUR, created=NOW)
    with pytest.raises(SchemaError, match="one class at least"):
        project.remove_class(TUMOUR, created=NOW)


def test_a_project_with_removed_classes_passes_its_check_and_opens_elsewhere(
    project: Project, tmp_path: Path
):
    predict(project, TUMOUR, STROMA, FAT, 0)
    project.remove_class(STROMA, FAT, created=NOW)
    assert project.faults() == []
    assert project.journal_faults() == {}
    project.close()
    moved = Path(shutil.move(project.folder, tmp_path / "moved"))
    with Project.open(moved) as again:
        assert rows(again) == [TUMOUR, FAT, FAT, 0]
        again.restore_class(created=NOW)
        assert rows(again) == [TUMOUR, STROMA, FAT, 0]
        report = finish(check_project(again, images=False))
        assert report.problems == []


def test_an_import_of_class_ids_means_the_class_that_took_the_place(project: Project):
    project.remove_class(STROMA, FAT, created=NOW)
    project.store_imports({1: np.full(SHAPE, FAT, np.uint8)}, person="Ada", now=NOW)
    assert rows(project) == [FAT] * 4
    project.restore_class(created=NOW)
    assert rows(project) == [FAT] * 4


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.project import class_changes
from napari_protoseg.project.folder import Project

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

name, verb, folder = sys.argv[1:]
setattr(class_changes, name, kill)
project = Project.open(Path(folder))
project.remove_class(2, 1, created=datetime.now(UTC))
if verb == "restore":
    project.restore_class(created=datetime.now(UTC))
"""


@pytest.mark.parametrize(
    ("name", "verb"), [("_keep_labels_aside", "remove"), ("_bring_labels_back", "restore")]
)
def test_a_kill_in_the_middle_leaves_the_class_as_it_was_before(
    project: Project, name: str, verb: str
):
    predict(project, TUMOUR, STROMA, FAT, 0)
    before, folder = content(project), project.folder
    project.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, name, verb, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    with Project.open(folder) as again:
        if verb == "restore":
            assert again.schema.ids == (TUMOUR, FAT)
            assert rows(again) == [TUMOUR, TUMOUR, FAT, 0]
            again.restore_class(created=NOW)
        assert again.schema == SCHEMA
        assert content(again) == before
        assert rows(again) == [TUMOUR, STROMA, FAT, 0]


def test_a_mask_that_is_gone_keeps_no_class_from_going_or_coming_back(project: Project) -> None:
    predict(project, TUMOUR, STROMA, FAT, FAT)
    project.remove_class(STROMA, None, created=NOW)
    stroke = np.full(SHAPE, TUMOUR, np.uint8)
    journal = Journal(project, 1)
    edited, _ = journal.open()
    edited.introduce("Ada", project.introduce("Ada"))
    step = edited.stroke(stroke, author="Ada", now=NOW)
    assert step is not None
    journal.append([step])
    away = project.folder.with_name("away")
    (project.folder / "arrays.zarr").rename(away)
    with pytest.raises(MissingError):
        seen(project)
    project.restore_class(created=NOW)
    project.remove_class(FAT, None, created=NOW)
    away.rename(project.folder / "arrays.zarr")
    np.testing.assert_array_equal(seen(project).mask, stroke)
