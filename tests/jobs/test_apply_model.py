"""A model of this project, or of another, makes masks of a new folder of images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import draw
from driven_jobs import finish
from PIL import Image
from tiny_project import CPU, NAMES, NOW, build, tile

from napari_protoseg.errors import ProjectError, SchemaError, Stopped
from napari_protoseg.events import Event, Notice, Progress, Request, Severity
from napari_protoseg.jobs.apply import AppliedModel, ApplyModel, apply_model
from napari_protoseg.jobs.export import ExportFormat, export_project
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.predict import compare_pixel_sizes
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.recipe import Background, LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, StoredMask
from napari_protoseg.schema import ClassSchema
from napari_protoseg.training.config import Preset

RECIPE = Recipe(flip=False)


def write_new_images(folder: Path, *, labelled: bool = False) -> Path:
    """Write two tiles of a case that no project of these tests has."""
    folder.mkdir()
    for number in range(2):
        label = f"-[{' '.join(str(int(k == number)) for k in range(4))}]" if labelled else ""
        pixels = tile(20, number, number, number + 1).image
        Image.fromarray(pixels).save(folder / f"new_{number}{label}.png")
    return folder


def apply(
    project: Project, request: ApplyModel, recipe: Recipe = RECIPE
) -> tuple[AppliedModel | None, list[Event]]:
    return finish(apply_model(project, request, recipe, device=CPU, now=NOW))


def of_folder(project: Project, folder: Path) -> list[ImageRecord]:
    return [image for image in project.images() if image.path.parent == folder.resolve()]


def mask_of(project: Project, image: ImageRecord) -> StoredMask:
    assert image.id is not None
    stored = project.read_mask(image.id)
    assert stored is not None
    return stored


def warnings(events: Sequence[Event]) -> list[str]:
    notices = [event for event in events if isinstance(event, Notice)]
    return [notice.text for notice in notices if notice.severity is Severity.WARNING]


@pytest.fixture
def project(trained: Path) -> Iterator[Project]:
    with Project.open(trained / "project") as project:
        yield project


def empty_project(tmp_path: Path, *names: str) -> Project:
    return Project.create(tmp_path / "empty", ClassSchema.from_names(names), created=NOW)


def test_new_images_are_added_and_get_masks(project: Project, tmp_path: Path):
    before = project.images()
    folder = write_new_images(tmp_path / "new", labelled=True)
    applied, _ = apply(project, ApplyModel(images=folder))
    assert applied == AppliedModel(added=2, predicted=2)
    for number, image in enumerate(of_folder(project, folder)):
        stored = mask_of(project, image)
        assert stored.source.label_condition == "given"
        # The given label leaves one class.
        assert set(np.unique(stored.mask)) <= {0, number + 1}
    assert [image for image in project.images() if image in before] == list(before)


def test_images_that_are_there_already_get_masks_but_keep_labels_and_painted_pixels(
    project: Project, trained: Path
):
    first = project.images()[0]
    assert first.id is not None
    painted = np.zeros((first.height, first.width), np.uint8)
    painted[:5] = 3
    draw(project, first.id, painted, now=NOW)
    before = project.images()
    applied, _ = apply(project, ApplyModel(images=trained / "tiles"))
    assert applied == AppliedModel(added=0, predicted=16)
    assert project.images() == before
    stored = mask_of(project, first)
    assert (stored.mask[:5] == 3).all()
    assert stored.is_protected.sum() == painted[:5].size


def test_without_labels_the_model_says_which_classes_are_there(project: Project, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    _, events = apply(project, ApplyModel(images=folder))
    texts = [event.text for event in events if isinstance(event, Notice)]
    assert any("2 of 2 images have no image-level labels" in text for text in texts)
    by_given = [mask_of(project, image) for image in of_folder(project, folder)]
    assert {stored.source.label_condition for stored in by_given} == {"predicted"}
    predicted = RECIPE.model_copy(update={"labels": LabelCondition.PREDICTED})
    apply(project, ApplyModel(images=folder), predicted)
    for image, stored in zip(of_folder(project, folder), by_given, strict=True):
        np.testing.assert_array_equal(mask_of(project, image).mask, stored.mask)


def test_an_export_takes_the_masks_as_they_are(project: Project, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    apply(project, ApplyModel(images=folder))
    before = [mask_of(project, image) for image in of_folder(project, folder)]
    finish(export_project(project, ExportFormat.PNG, tmp_path / "out", RECIPE, device=CPU, now=NOW))
    for image, stored in zip(of_folder(project, folder), before, strict=True):
        assert mask_of(project, image).source == stored.source


def test_the_classes_of_another_projects_model_are_found_by_name(trained: Path, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    with Project.open(trained / "project") as source:
        apply(source, ApplyModel(images=folder))
        expected = [mask_of(source, image).mask for image in of_folder(source, folder)]
    names = [*reversed([name.upper() for name in NAMES]), "fat"]
    with empty_project(tmp_path, *names) as project:
        request = ApplyModel(images=folder, model_project=trained / "project")
        applied, events = apply(project, request)
        assert applied == AppliedModel(added=2, predicted=2, unlabelled=2)
        assert any("does not know fat" in text for text in warnings(events))
        id_here = np.array([0, 4, 3, 2, 1], np.uint8)
        for image, mask in zip(of_folder(project, folder), expected, strict=True):
            stored = mask_of(project, image)
            assert stored.source.round_id is None
            np.testing.assert_array_equal(stored.mask, id_here[mask])


def test_a_class_that_was_renamed_here_is_found_by_its_former_name(trained: Path, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    request = ApplyModel(images=folder, model_project=trained / "project")
    with empty_project(tmp_path, *NAMES) as project:
        schema = project.schema
        renamed = schema.classes[0].model_copy(update={"name": "epithelium", "former": NAMES[:1]})
        changed = schema.model_copy(update={"classes": (renamed, *schema.classes[1:])})
        project.set_schema(changed, created=NOW)
        applied, _ = apply(project, request)
        assert applied == AppliedModel(added=2, predicted=2, unlabelled=2)


def test_a_background_margin_is_learned_from_the_images_of_the_model(trained: Path, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    recipe = RECIPE.model_copy(update={"background": Background.MARGIN})
    with empty_project(tmp_path, *NAMES, "fat") as project:
        request = ApplyModel(images=folder, model_project=trained / "project")
        _, events = apply(project, request, recipe)
        assert any("margin from 16 training images" in str(event) for event in events)
        for image in of_folder(project, folder):
            made_with = Recipe.model_validate_json(mask_of(project, image).source.recipe_json)
            assert made_with.margin is not None


def test_another_projects_model_is_muted_as_it_is_there(trained: Path, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    with Project.open(trained / "project") as source:
        source.set_muted_prototypes(1, {2})
    with empty_project(tmp_path, *NAMES) as project:
        request = ApplyModel(images=folder, model_project=trained / "project")
        apply(project, request, RECIPE.model_copy(update={"muted": (0, 99)}))
        for image in of_folder(project, folder):
            made_with = Recipe.model_validate_json(mask_of(project, image).source.recipe_json)
            assert made_with.muted == (2,)


def test_a_class_that_the_project_lacks_is_named_and_nothing_is_added(
    trained: Path, tmp_path: Path
):
    folder = write_new_images(tmp_path / "new")
    with empty_project(tmp_path, *NAMES[:-1]) as project:
        request = ApplyModel(images=folder, model_project=trained / "project")
        with pytest.raises(SchemaError, match=rf"{NAMES[-1]}.*Labels page"):
            apply(project, request)
        assert project.images() == ()


def test_another_pixel_size_is_warned_of(made: Path, tmp_path: Path):
    shutil.rmtree(made / "project")
    request = NewProject(
        folder=made / "project", images=made / "tiles", classes=NAMES, micrometres_per_pixel=0.5
    )
    finish(new_project(request, now=NOW))
    build(made)
    with Project.open(made / "project") as project:
        finish(
            train_project(project, TrainRequest(preset=Preset.QUICK), device=CPU, now=lambda: NOW)
        )
        folder = tmp_path / "new"
        folder.mkdir()
        table = tmp_path / "labels.csv"
        Image.fromarray(tile(20, 0, 1).image).save(folder / "new.png")
        table.write_text(f"file,{','.join(NAMES)},mpp\nnew.png,0,1,0,0,1.0\n")
        _, events = apply(project, ApplyModel(images=folder, labels=table))
        assert any("1 micrometres per pixel" in text for text in warnings(events))
        assert of_folder(project, folder)[0].label == (0, 1, 0, 0)


def test_a_stop_while_images_are_read_adds_nothing(project: Project, tmp_path: Path):
    before = project.images()
    job = apply_model(
        project,
        ApplyModel(images=write_new_images(tmp_path / "new")),
        RECIPE,
        device=CPU,
        now=NOW,
    )
    with pytest.raises(Stopped, match="stopped"):
        finish(job, lambda event: Request.STOP)
    assert project.images() == before


def test_a_stop_while_masks_are_made_keeps_those_until_then(project: Project, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    # Images of another size are computed apart, and the small ones first.
    Image.fromarray(tile(20, 5, 1).image[:48]).save(folder / "low.png")

    def stop(event: Event) -> Request | None:
        making = isinstance(event, Progress) and event.stage == "Making masks"
        return Request.STOP if making else None

    job = apply_model(project, ApplyModel(images=folder), RECIPE, device=CPU, now=NOW)
    assert finish(job, stop)[0] is None
    summaries = project.mask_summaries()
    assert [image.id in summaries for image in of_folder(project, folder)] == [True, False, False]


def test_a_project_without_a_model_says_so(made: Path, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    with Project.open(made / "project") as project:
        before = project.images()
        with pytest.raises(ProjectError, match="no trained model"):
            apply(project, ApplyModel(images=folder))
        assert project.images() == before


def test_a_class_that_was_added_after_training_does_not_disturb_the_model(
    project: Project, tmp_path: Path
):
    fat = ClassSchema.from_names([*NAMES, "fat"]).classes[-1]
    classes = (fat, *project.schema.classes)
    project.set_schema(project.schema.model_copy(update={"classes": classes}), created=NOW)
    recipe = RECIPE.model_copy(update={"background": Background.MARGIN})
    out = tmp_path / "out"
    finish(export_project(project, ExportFormat.PNG, out, recipe, device=CPU, now=NOW))
    folder = write_new_images(tmp_path / "new")
    _, events = apply(project, ApplyModel(images=folder), recipe)
    assert any("does not know fat" in text for text in warnings(events))
    for image in project.images():
        assert fat.id not in mask_of(project, image).mask


@pytest.mark.parametrize("trained_on", [None, 0.5])
def test_a_pixel_size_that_is_known_of_one_side_alone_is_said(trained_on: float | None):
    given = 0.25 if trained_on is None else None
    image = ImageRecord(
        path=Path("a.png"),
        content_hash="0" * 64,
        width=4,
        height=4,
        micrometres_per_pixel=given,
        label=(1,),
    )
    (notice,) = compare_pixel_sizes(SimpleNamespace(micrometres_per_pixel=trained_on), [image])  # type: ignore[arg-type]
    assert f"{trained_on or given} micrometres per pixel" in notice.text
    assert "are not known" in notice.text
    assert not list(compare_pixel_sizes(SimpleNamespace(micrometres_per_pixel=trained_on), []))  # type: ignore[arg-type]


def test_the_pixel_size_that_is_given_is_that_of_the_images(project: Project, tmp_path: Path):
    folder = write_new_images(tmp_path / "new")
    apply(project, ApplyModel(images=folder, micrometres_per_pixel="0.5"))
    assert [i.micrometres_per_pixel for i in of_folder(project, folder)] == [0.5, 0.5]
