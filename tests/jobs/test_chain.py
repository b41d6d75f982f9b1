"""What a result was made of is recorded with it, and it says why it is out of date."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from drawing import draw
from driven_jobs import finish
from tiny_project import CPU, NAMES, NOW, build

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.errors import BankError, CheckpointError
from napari_protoseg.events import Event
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.chain import standings
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.class_impact import class_impact
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import ExportFormat, plan_export
from napari_protoseg.jobs.info import describe_project
from napari_protoseg.jobs.make_masks import make_masks
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ReviewStatus, RoundStatus, Split
from napari_protoseg.training.config import Preset
from napari_protoseg.workbench.class_edits import with_class, with_name

FIRST, SECOND, *_ = range(1, len(NAMES) + 1)
BANK = BankRequest(config=BankConfig(clusters=1))
QUICK = TrainRequest(preset=Preset.QUICK)


@pytest.fixture
def project(trained: Path) -> Iterator[Project]:
    with Project.open(trained / "project") as project:
        yield project


def sentences(project: Project) -> list[str]:
    return [of.sentence for of in standings(project) if of.sentence]


def relabel(project: Project, count: int) -> None:
    """Make the first class unknown in some images."""
    some = project.images(Split.TRAIN)[:count]
    labels = {image.known_id: (-1, *image.label[1:]) for image in some}
    project.set_labels(labels, source="person")


def train(project: Project, answer: Callable[[Event], None] = lambda event: None) -> None:
    finish(train_project(project, QUICK, device=CPU, now=lambda: NOW), answer)


def test_what_is_just_made_is_current(project: Project):
    finish(make_masks(project, Recipe(flip=False), device=CPU, now=NOW + timedelta(minutes=1)))
    project.set_recipe_json(Recipe(flip=False).model_dump_json())
    assert [of.state for of in standings(project)] == ["current"] * 3
    assert describe_project(project)["out of date"] == []


def test_changed_labels_are_counted_and_named_as_the_reason(project: Project):
    some = project.images(Split.TRAIN)[:3]
    turned = {i.known_id: tuple(1 - known for known in i.label) for i in some}
    project.set_labels(turned, source="person")
    bank, trained = sentences(project)
    assert bank.startswith("Bank 1 is out of date: the labels of 3 images have changed. Build")
    assert trained.startswith("Round 1 is out of date: the labels of 3 images have changed. Train")
    project.set_labels({i.known_id: i.label for i in some}, source="person")
    assert sentences(project) == [], "it is again of what it was made of"


def test_other_names_and_colours_make_nothing_out_of_date(project: Project):
    project.set_schema(with_name(project.schema, FIRST, "carcinoma"), created=NOW)
    assert sentences(project) == []


def test_a_class_that_was_added_is_named(project: Project):
    project.set_schema(with_class(project.schema, "nerve"), created=NOW)
    for sentence in sentences(project):
        assert "out of date: nerve has been added to the classes" in sentence


def test_a_newer_bank_makes_a_round_out_of_date(project: Project, trained: Path):
    finish(build_project_bank(project, BANK, device=CPU, now=NOW))
    (sentence,) = sentences(project)
    assert sentence.startswith("Round 1 is out of date: bank 2 is newer than bank 1")
    train(project)
    assert sentences(project) == []


def test_images_that_are_labelled_or_held_back_later_are_counted(project: Project):
    first, second, *_ = project.images(Split.TRAIN)
    project.set_labels({first.known_id: (-1,) * len(NAMES)}, source="person")
    project.set_split({second.known_id}, Split.VALIDATION)
    bank, trained = sentences(project)
    assert "2 images are not learned from any more" in bank
    assert "the labels of 1 image have changed, and 1 image is not learned from" in trained


def test_masks_of_an_earlier_round_are_counted_but_for_accepted_ones(project: Project):
    finish(make_masks(project, Recipe(), device=CPU, now=NOW + timedelta(minutes=1)))
    train(project)
    count = len(project.images())
    assert f"Masks are out of date: {count} of {count} are of an ea" in sentences(project)[-1]
    project.set_review_status(project.images()[0].known_id, ReviewStatus.ACCEPTED)
    assert f"{count - 1} of {count} are of an earlier round" in sentences(project)[-1]


def test_a_mask_that_was_made_with_another_label_is_made_anew(project: Project, tmp_path: Path):
    recipe = Recipe(flip=False)
    project.set_recipe_json(recipe.model_dump_json())
    finish(make_masks(project, recipe, device=CPU, now=NOW + timedelta(minutes=1)))
    image = project.images()[0]
    project.set_labels({image.known_id: (1,) * len(NAMES)}, source="person")
    count = len(project.images())
    assert f"1 of {count} is of an earlier round, bank, recipe or label" in sentences(project)[-1]
    plan = plan_export(project, ExportFormat.PNG, tmp_path / "out", recipe)
    assert plan.stale == (image.known_id,)
    finish(export_project(project, ExportFormat.PNG, tmp_path / "out", recipe, device=CPU, now=NOW))
    project.set_schema(with_class(project.schema, "nerve"), created=NOW)
    assert not any("earlier round" in sentence for sentence in sentences(project))


def test_of_results_of_an_earlier_version_it_is_not_known(project: Project):
    with closing(sqlite3.connect(project.folder / "project.db")) as connection, connection:
        connection.execute("UPDATE banks SET made_of = NULL")
        connection.execute('UPDATE rounds SET made_of = \'{"of": "a later version"}\'')
    assert [of.state for of in standings(project)] == ["not known"] * 2
    assert all("It is not known whether" in sentence for sentence in sentences(project))
    project.remove_class(FIRST, created=NOW)
    assert all(f"was made with {NAMES[0]}" in sentence for sentence in sentences(project))


def test_a_round_whose_labels_changed_while_it_ran_is_kept_and_out_of_date(project: Project):
    changed: list[Event] = []

    def relabel_once(event: Event) -> None:
        if not changed:
            changed.append(event)
            relabel(project, 2)

    train(project, relabel_once)
    assert changed
    newest = project.latest_round()
    assert newest is not None
    assert (newest.id, newest.status) == (2, RoundStatus.FINISHED)
    assert trained_model(project).round.id == 2
    assert "Round 2 is out of date: the labels of 2 images" in " ".join(sentences(project))


@pytest.mark.parametrize("change", ["class", "bank"])
def test_a_round_is_kept_where_a_class_was_added_or_a_bank_built_while_it_ran(
    project: Project, change: str
):
    changed: list[Event] = []

    def change_once(event: Event) -> None:
        if not changed:
            changed.append(event)
            if change == "class":
                project.set_schema(with_class(project.schema, "nerve"), created=NOW)
            else:
                finish(build_project_bank(project, BANK, device=CPU, now=NOW))

    train(project, change_once)
    assert trained_model(project).round.id == 2
    reason = {"class": "nerve has been added", "bank": "bank 2 is newer than bank 1"}[change]
    assert f"Round 2 is out of date: {reason}" in " ".join(sentences(project))


def test_a_bank_is_kept_where_a_class_was_added_while_it_was_built(made: Path):
    added: list[Event] = []
    with Project.open(made / "project") as project:

        def add_once(event: Event) -> None:
            if not added:
                added.append(event)
                project.set_schema(with_class(project.schema, "nerve"), created=NOW)

        built, _ = finish(build_project_bank(project, BANK, device=CPU, now=NOW), add_once)
        assert built is not None
        assert built.bank.schema.names == NAMES
        (sentence,) = sentences(project)
        assert "nerve has been added" in sentence
        assert finish(check_project(project))[0].problems == []


def test_what_was_made_with_a_removed_class_is_refused_by_name_until_it_is_back(
    project: Project,
):
    project.remove_class(FIRST, created=NOW)
    for sentence in sentences(project):
        assert f"cannot be used: it was made with {NAMES[0]}" in sentence
        assert "bring the class back on Labels" in sentence
    with pytest.raises(CheckpointError, match=r"bring back the class that was removed"):
        trained_model(project)
    with pytest.raises(BankError, match=r"bring back one that was removed"):
        train(project)
    assert finish(check_project(project))[0].problems == [], "it can come back"
    project.restore_class(created=NOW)
    assert trained_model(project).round.id == 1
    assert sentences(project) == []
    train(project)


def test_what_a_class_has_is_told_before_it_goes(project: Project):
    finish(make_masks(project, Recipe(), device=CPU, now=NOW))
    image = project.images()[0].known_id
    base = project.read_mask(image)
    assert base is not None
    drawn = base.mask.copy()
    drawn[:] = SECOND
    draw(project, image, drawn, now=NOW)
    drawn = drawn.copy()
    drawn[:8] = FIRST
    stored = draw(project, image, drawn, now=NOW)
    project.set_review_status(image, ReviewStatus.ACCEPTED)
    impact, _ = finish(class_impact(project, FIRST, None))
    assert impact is not None
    masks = [project.read_mask(i.known_id) for i in project.images()]
    pixels = [int((of.mask == FIRST).sum()) for of in masks if of is not None]
    assert (impact.pixels, impact.masks) == (sum(pixels), np.count_nonzero(pixels))
    by_hand = 8 * stored.mask.shape[1]
    assert (impact.set_pixels, impact.set_masks, impact.accepted) == (by_hand, 1, 1)
    present = sum(i.label[0] == 1 for i in project.images())
    assert (impact.present, impact.absent) == (present, len(project.images()) - present)
    assert (impact.bank, impact.prototypes, impact.rounds) == (1, 1, ("round 1",))
    text = "\n".join(impact.lines())
    assert f"{by_hand:,} of them, in 1 mask, were set by a person" in text
    assert "bank 1 (with 1 prototype), round 1" in text
    merged, _ = finish(class_impact(project, FIRST, SECOND))
    assert merged is not None
    assert merged.question == f"Merge {NAMES[0]} into {NAMES[1]}?"
    assert f"become {NAMES[1]}; whose they are does not change" in "\n".join(merged.lines())


def test_true_masks_follow_a_class_that_was_merged(project: Project, tmp_path: Path):
    from PIL import Image

    from napari_protoseg.evaluation.protocol import MaskCodes, class_positions
    from napari_protoseg.images.reading import read_mask

    Image.fromarray(np.array([[FIRST, SECOND, 3, 0]], np.uint8)).save(tmp_path / "truth.png")
    project.remove_class(FIRST, SECOND, created=NOW)
    project.remove_class(3, created=NOW)
    found = class_positions(
        read_mask(tmp_path / "truth.png"), project.schema, MaskCodes.PROJECT, where="truth"
    )
    assert found.tolist() == [[0, 0, 2, 2]]


def test_the_record_of_a_bank_can_be_read_by_a_person(made: Path):
    build(made)
    with Project.open(made / "project") as project:
        (bank,) = project.banks()
        made_of = json.loads(bank.made_of_json or "")
    assert made_of["schema_version"] == 1
    assert set(made_of["labels"].values()) <= {
        "t" + "".join("-+"[known] for known in image.label) for image in project_images(made)
    }


def project_images(workspace: Path) -> tuple[object, ...]:
    with Project.open(workspace / "project") as project:
        return project.images()
