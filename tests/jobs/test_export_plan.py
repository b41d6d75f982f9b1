"""What an export says that it will do, and that it does just that."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from drawing import draw
from driven_jobs import finish
from tiny_project import CPU, NAMES, NOW

from napari_protoseg.errors import CheckpointError, ExportError
from napari_protoseg.events import Event, Notice, Progress, Severity
from napari_protoseg.exports.folder import Exported
from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import ExportFormat, ExportPlan, plan_export
from napari_protoseg.jobs.muted import with_muted_of_project
from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.recipe import Background, Recipe
from napari_protoseg.network.record import ModelKind
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import (
    MaskSource,
    PredictedMask,
    ReviewStatus,
    RoundStatus,
)
from napari_protoseg.training.config import Preset

PNG, TRAINING = ExportFormat.PNG, ExportFormat.TRAINING
RECIPE = Recipe(flip=False)


@pytest.fixture
def project(trained: Path) -> Iterator[Project]:
    with Project.open(trained / "project") as project:
        yield project


@pytest.fixture
def untrained(made: Path) -> Iterator[Project]:
    with Project.open(made / "project") as project:
        yield project


def plan(
    project: Project, form: ExportFormat = PNG, recipe: Recipe = RECIPE, out: str = "out"
) -> ExportPlan:
    return plan_export(project, form, project.folder.with_name(out), recipe)


def export(
    project: Project,
    form: ExportFormat = PNG,
    recipe: Recipe = RECIPE,
    out: str = "out",
    *,
    overwrite: bool = False,
) -> tuple[Exported | None, list[Event]]:
    place = project.folder.with_name(out)
    return finish(
        export_project(project, form, place, recipe, overwrite=overwrite, device=CPU, now=NOW)
    )


def number_made(events: list[Event]) -> int:
    """Return how many masks an export has made."""
    making = (e for e in events if isinstance(e, Progress) and e.stage == "Making masks")
    return max((event.done for event in making), default=0)


def warnings(events: list[Event]) -> list[str]:
    notices = [event for event in events if isinstance(event, Notice)]
    return [notice.text for notice in notices if notice.severity is Severity.WARNING]


def ids(project: Project) -> list[int]:
    return [image.id for image in project.images() if image.id is not None]


def paint(project: Project, image_id: int, value: int = 1) -> None:
    image, base = project.image(image_id), project.read_mask(image_id)
    mask = np.zeros((image.height, image.width), np.uint8) if base is None else base.mask.copy()
    mask[:5] = value
    draw(project, image_id, mask, now=NOW)


def train_again(project: Project) -> None:
    request = TrainRequest(preset=Preset.QUICK)
    finish(train_project(project, request, device=CPU, now=lambda: NOW))


def record_in(out: Path) -> PredictionRecord:
    return PredictionRecord.model_validate_json((out / PREDICTION_RECORD).read_text())


def test_what_is_missing_is_made_once(project: Project):
    before = plan(project)
    assert (before.images, before.current, before.missing) == (16, 0, 16)
    assert before.stale == before.exported == tuple(ids(project))
    exported, events = export(project)
    assert exported is not None
    assert (exported.images, number_made(events)) == (16, 16)
    after = plan(project, out="again")
    assert (after.current, after.stale, after.missing) == (16, (), 0)
    _, events = export(project, out="again")
    assert number_made(events) == 0


def test_each_mask_is_read_once(project: Project, monkeypatch: pytest.MonkeyPatch):
    export(project)
    read: list[int] = []
    read_one = Project.read_mask

    def counting(opened: Project, image_id: int):
        read.append(image_id)
        return read_one(opened, image_id)

    monkeypatch.setattr(Project, "read_mask", counting)
    plan(project)
    assert read == []
    export(project, out="again")
    assert read == ids(project)


def test_masks_of_an_earlier_round_are_made_anew(project: Project):
    export(project)
    train_again(project)
    outdated = plan(project, out="again")
    assert outdated.round_id == 2
    assert (len(outdated.stale), outdated.missing) == (16, 0)
    assert any("round 2 makes anew" in line for line in outdated.lines())


def test_masks_of_an_earlier_state_of_the_round_are_made_anew(project: Project):
    export(project)
    later = NOW + timedelta(minutes=1)
    project.update_round(1, RoundStatus.FINISHED, finished=later)
    assert len(plan(project, out="again").stale) == 16


@pytest.mark.parametrize(
    ("made_by", "wanted", "stale"),
    [
        (RECIPE, Recipe(), 16),
        (RECIPE, RECIPE.model_copy(update={"muted": (1,)}), 16),
        (RECIPE.model_copy(update={"background": Background.MARGIN}), None, 0),
        (
            RECIPE.model_copy(update={"background": Background.MARGIN}),
            RECIPE.model_copy(update={"background": Background.MARGIN, "margin": 0.999}),
            16,
        ),
    ],
    ids=["flip", "muted", "learned margin", "given margin"],
)
def test_masks_by_another_recipe_are_made_anew(
    project: Project, made_by: Recipe, wanted: Recipe | None, stale: int
):
    export(project, recipe=made_by)
    found = plan(project, recipe=made_by if wanted is None else wanted, out="again")
    assert len(found.stale) == stale


def test_a_recipe_of_another_version_of_the_program_is_another_recipe(project: Project):
    image = project.images()[0]
    assert image.id is not None
    size = (image.height, image.width)
    mask = PredictedMask(image.id, np.ones(size, np.uint8), np.ones(size, np.float16))
    source = MaskSource(
        round_id=1, label_condition="given", recipe_json='{"unheard_of": 1}', created=NOW
    )
    project.write_mask(mask, source)
    found = plan(project)
    assert image.id in found.stale
    assert found.missing == 15


def test_what_was_accepted_in_review_is_written_as_it_is(project: Project):
    export(project)
    first, second, third, *_ = ids(project)
    project.set_review_status(first, ReviewStatus.ACCEPTED)
    project.set_review_status(second, ReviewStatus.FLAGGED)
    before = project.read_mask(first)
    assert before is not None
    train_again(project)
    found = plan(project, out="again")
    assert found.accepted == 1
    assert first not in found.stale
    assert {second, third} <= set(found.stale)
    _, events = export(project, out="again")
    assert number_made(events) == 15
    after = project.read_mask(first)
    assert after is not None
    assert after.source == before.source
    record = record_in(project.folder.with_name("again"))
    assert (record.images, record.others) == (15, 1)


def test_painted_masks_are_no_older_than_the_model(project: Project):
    first, second, *_ = ids(project)
    paint(project, first)
    found = plan(project)
    assert first not in found.stale
    assert (found.current, found.corrected, found.predicted) == (1, 1, 15)
    export(project)
    made = project.read_mask(second)
    assert made is not None
    other = next(k for k in project.schema.ids if (made.mask[:5] != k).all())
    paint(project, second, other)
    after = plan(project, out="again")
    assert (after.stale, after.corrected, after.predicted) == ((), 2, 15)
    train_again(project)
    assert second in plan(project, out="again").stale
    export(project, out="again")
    stored = project.read_mask(second)
    assert stored is not None
    assert (stored.mask[:5] == other).all()


def test_what_a_layout_has_no_sign_for_is_left_out_and_not_made(project: Project):
    first = ids(project)[0]
    project.set_labels({first: (-1, 1, 0, 0)}, source="person")
    found = plan(project, TRAINING)
    assert (found.unknown, len(found.exported)) == (1, 15)
    assert first not in found.stale
    exported, events = export(project, TRAINING)
    assert exported is not None
    assert (exported.images, number_made(events)) == (15, 15)
    assert [text for text in warnings(events) if "neither present nor absent" in text]
    assert project.read_mask(first) is None
    assert plan(project, PNG).unknown == 0


def test_without_a_model_painted_masks_are_exported_and_the_others_left_out(untrained: Project):
    first, second, *_ = ids(untrained)
    paint(untrained, first, 1)
    paint(untrained, second, 2)
    found = plan(untrained)
    assert (found.exported, found.without_mask, found.round_id) == ((first, second), 14, None)
    exported, events = export(untrained)
    assert exported is not None
    assert exported.images == 2
    assert any("14 images without a mask" in text for text in warnings(events))
    out = exported.folder
    name = untrained.image(second).path.name
    assert set(np.unique(read_mask(out / name))) == {0, 2}
    # No model took part, so that there is nothing to record of one.
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".json") == ["classes.json"]


def test_all_masks_painted_need_no_model_in_either_layout(untrained: Project):
    for image_id in ids(untrained):
        paint(untrained, image_id)
    for form in ExportFormat:
        exported, events = export(untrained, form, out=form.value)
        assert exported is not None
        assert exported.images == 16
        assert warnings(events) == []


def test_where_no_mask_has_to_be_made_a_training_folder_needs_no_checkpoint(project: Project):
    export(project)
    shutil.rmtree(project.folder / "runs")
    exported, _ = export(project, TRAINING, out="training")
    assert exported is not None
    with pytest.raises(CheckpointError, match="missing"):
        export(project, recipe=Recipe(), out="again")


def test_nothing_to_export_says_what_is_missing(untrained: Project, tmp_path: Path):
    obstacle = plan(untrained).obstacle()
    assert obstacle is not None
    assert "no trained model" in str(obstacle)
    with pytest.raises(ExportError, match="Train one"):
        export(untrained)
    for image_id in ids(untrained):
        paint(untrained, image_id)
        untrained.set_labels({image_id: (-1,) * len(NAMES)}, source="person")
    with pytest.raises(ExportError, match="Complete the labels"):
        export(untrained, TRAINING)
    with (
        Project.create(tmp_path / "empty", untrained.schema, created=NOW) as empty,
        pytest.raises(ExportError, match="no images"),
    ):
        export(empty)
    assert not untrained.folder.with_name("out").exists()


def test_muted_prototypes_are_those_of_the_bank_of_the_model(project: Project, made: Path):
    assert with_muted_of_project(project, RECIPE.model_copy(update={"muted": (9,)})).muted == ()
    project.set_muted_prototypes(1, {2, 0})
    recipe = with_muted_of_project(project, RECIPE)
    assert recipe.muted == (0, 2)
    export(project, recipe=recipe)
    assert plan(project, recipe=recipe, out="again").stale == ()
    project.set_muted_prototypes(1, {0})
    recipe = with_muted_of_project(project, RECIPE)
    assert len(plan(project, recipe=recipe, out="again").stale) == 16
    config = TrainRequest(kind=ModelKind.PLAIN_CAM).model_dump_json()
    project.update_round(
        project.new_round(1, config, created=NOW).id, RoundStatus.FINISHED, finished=NOW
    )
    assert with_muted_of_project(project, RECIPE).muted == ()
    with Project.open(made / "project") as untrained:
        assert with_muted_of_project(untrained, RECIPE).muted == ()


def test_the_record_tells_the_masks_of_the_model_from_the_others(project: Project):
    paint(project, ids(project)[0])
    export(project)
    record = record_in(project.folder.with_name("out"))
    assert (record.images, record.others) == (15, 1)
    assert record.recipe == RECIPE


def test_an_earlier_export_is_counted_and_replaced_only_when_asked(project: Project):
    assert plan(project).destination.is_vacant
    export(project)
    found = plan(project)
    assert found.destination.files == 16 + 3
    assert any("19 files is replaced" in line for line in found.lines())
    assert found.obstacle(overwrite=True) is None
    with pytest.raises(ExportError, match="earlier export of 19 files"):
        export(project)
    first = ids(project)[0]
    project.set_labels({first: (-1, 1, 0, 0)}, source="person")
    exported, _ = export(project, TRAINING, overwrite=True)
    assert exported is not None
    assert not list(exported.folder.glob("*.png"))
    assert not list(project.folder.parent.glob("out.*"))


def refused(project: Project, out: Path) -> str:
    """Return why an export may not replace what is in a folder, in which nothing has changed."""
    before = sorted(path for path in out.rglob("*") if path.is_file())
    job = export_project(project, PNG, out, RECIPE, overwrite=True, device=CPU, now=NOW)
    with pytest.raises(ExportError) as refusal:
        finish(job)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == before
    assert project.mask_summaries() == {}  # no work for nothing
    return str(refusal.value)


def test_a_project_its_parent_and_a_folder_of_anything_are_never_replaced(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    assert "this project" in refused(project, project.folder)
    assert "this project" in refused(project, project.folder.parent)
    home = project.folder.with_name("home")
    (home / "thesis").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert "home folder" in refused(project, home)
    assert "no earlier export" in refused(project, project.folder.with_name("validation"))


@pytest.mark.parametrize("name", ["truth", "runs/0002", "masks"])
def test_nothing_is_exported_into_the_project_itself(project: Project, name: str):
    out = project.folder / name
    job = export_project(project, PNG, out, RECIPE, device=CPU, now=NOW)
    with pytest.raises(ExportError, match="within the project"):
        finish(job)
    assert not out.exists()
    assert project.mask_summaries() == {}  # no work for nothing


def as_earlier_export(folder: Path) -> Path:
    """Make a folder look as an export does, so that only its images protect it."""
    classes = {"unlabelled": 0, "classes": [], "schema_fingerprint": ""}
    (folder / "classes.json").write_text(json.dumps(classes))
    return folder


def test_the_images_of_the_project_are_never_replaced(project: Project):
    tiles = as_earlier_export(project.images()[0].path.parent)
    assert "images or true masks of this project" in refused(project, tiles)


def test_images_that_are_only_linked_to_are_never_replaced(project: Project):
    first = project.images()[0].path
    store = project.folder.with_name("store")
    store.mkdir()
    first.rename(store / "kept.png")
    first.symlink_to(store / "kept.png")
    assert "images or true masks of this project" in refused(project, as_earlier_export(store))


def test_true_masks_of_the_project_are_never_replaced(project: Project):
    masks = project.folder.with_name("validation") / "masks"
    project.set_truth({ids(project)[0]: next(masks.iterdir())})
    assert "images or true masks of this project" in refused(project, as_earlier_export(masks))


def test_a_place_where_no_folder_can_be_made_is_named_before_the_work(project: Project):
    file = project.folder.with_name("file")
    file.write_text("")
    assert "not a folder" in refused(project, file)
    assert "no folder can be made here" in refused(project, file / "out")


def test_a_place_that_may_not_be_written_is_named_before_the_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    # Root, who may run these tests, is bound by no mode.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = plan(project)
    assert "no permission" in str(found.obstacle())


def test_the_plan_is_told_in_sentences(project: Project):
    export(project)
    first, second, third, *_ = ids(project)
    project.set_review_status(first, ReviewStatus.ACCEPTED)
    paint(project, second)
    project.set_labels({third: (-1, 1, 0, 0)}, source="person")
    train_again(project)
    assert plan(project, TRAINING, out="new").lines() == [
        "15 masks of 16 images to write; stored and up to date: 1.",
        "The model of round 2 makes anew what an earlier model, or another recipe, has made: 14.",
        "Corrected by a person, or imported; such pixels stay: 1.",
        "Accepted in review, and written as stored: 1.",
        "1 image with classes that are neither present nor absent: left out, since this layout "
        "has no sign for unknown.",
        f"They go to {project.folder.with_name('new')}, which holds nothing yet.",
    ]


def test_a_training_folder_validates_on_the_true_masks_where_there_are_some(
    trained: Path, project: Project
):
    validation = trained / "validation"
    request = AddImages(images=validation / "images", masks=validation / "masks")
    reading, _ = finish(read_addition(project, request))
    finish(add_images(project, request, reading))
    assert len(plan(project, TRAINING).true) == 4
    assert plan(project, TRAINING).missing == 16
    assert any("true masks" in line for line in plan(project, TRAINING).lines())
    assert not plan(project, PNG).true
    export(project, TRAINING)
    written = sorted((trained / "out/valid/mask").iterdir())
    truth = sorted((validation / "masks").iterdir())
    assert len(written) == len(truth) == 4
    for path, true in zip(written, truth, strict=True):
        values = read_mask(true).astype(int)
        assert np.array_equal(read_mask(path), np.where(values == 0, len(NAMES), values - 1))
