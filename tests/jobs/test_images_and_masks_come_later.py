"""Images and masks that are added to a project which is there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish, stop_after
from PIL import Image
from tiny_project import CASE_PATTERN, NOW

from napari_protoseg.errors import (
    EvaluationError,
    ImageError,
    LabelError,
    ProjectError,
    Stopped,
    StorageError,
)
from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.events import Event, Job, Notice, Request
from napari_protoseg.jobs.add import AddImages, add_images, read_addition
from napari_protoseg.jobs.import_masks import ImportedMasks, MaskPurpose, import_masks
from napari_protoseg.labels.brackets import bracket_label
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Origin, Split
from napari_protoseg.schema import ClassSchema, TissueClass


def add(project: Project, request: AddImages):
    reading, _ = finish(read_addition(project, request))
    return finish(add_images(project, request, reading))[0]


def test_new_images_come_with_labels_cases_and_masks(made: Path):
    with Project.open(made / "project") as project:
        before = project.images()
        validation = made / "validation"
        added = add(
            project,
            AddImages(
                images=validation / "images",
                masks=validation / "masks",
                case_pattern=CASE_PATTERN,
            ),
        )
        assert (added.added, added.already_there, added.masks) == (4, 0, 4)
        new = project.images(Split.VALIDATION)
        assert len(new) == 4
        assert all(image.case and image.mask_path and -1 not in image.label for image in new)
        assert set(before) < set(project.images())


def test_labels_in_names_from_before_a_class_was_added_leave_it_unknown(made: Path):
    with Project.open(made / "project") as project:
        known = project.schema
        mucus = TissueClass(id=9, name="mucus", color="#123456")
        grown = ClassSchema(classes=(mucus, *known.classes))
        project.set_schema(grown, created=NOW)
        request = AddImages(images=made / "validation" / "images")
        reading, _ = finish(read_addition(project, request))
        assert reading.report.problems() == [
            "The labels in the names have 4 digits, from before mucus was added: "
            "unknown in these images."
        ]
        assert finish(add_images(project, request, reading))[0].added == 4
        new = [i for i in project.images() if i.path.parent == request.images.resolve()]
        assert [(i.label[0], len(i.label)) for i in new] == [(-1, 5)] * 4
        assert all(i.label[1:] == bracket_label(i.path) for i in new)


@pytest.mark.parametrize("digits", ["[1 0 0]", "[1 0 0 0 0 1]"])
def test_labels_for_numbers_of_classes_that_the_project_never_had_are_refused(
    made: Path, tmp_path: Path, digits: str
):
    with Project.open(made / "project") as project:
        mucus = TissueClass(id=9, name="mucus", color="#123456")
        grown = ClassSchema(classes=(*project.schema.classes, mucus))
        project.set_schema(grown, created=NOW)
        (tmp_path / "more").mkdir()
        tile = next((made / "tiles").iterdir())
        shutil.copy(tile, tmp_path / "more" / f"tile-{digits}.png")
        with pytest.raises(LabelError, match="and there are 5 classes"):
            add(project, AddImages(images=tmp_path / "more"))


def test_images_that_are_there_already_stay_as_they_were(made: Path):
    with Project.open(made / "project") as project:
        first = project.images()[0]
        assert first.id is not None
        project.set_labels({first.id: (-1,) * len(first.label)}, source="person")
        before = project.images()
        added = add(project, AddImages(images=made / "tiles"))
        assert (added.added, added.already_there) == (0, len(before))
        assert project.images() == before


def test_adding_can_be_stopped_and_leaves_nothing(made: Path):
    with Project.open(made / "project") as project:
        before = project.images()
        request = AddImages(images=made / "validation" / "images")
        with pytest.raises(Stopped, match="stopped"):
            finish(read_addition(project, request), lambda event: Request.STOP)
        assert project.images() == before


@pytest.fixture
def with_validation(made: Path):
    with Project.open(made / "project") as project:
        add(project, AddImages(images=made / "validation" / "images"))
        yield project


@pytest.mark.parametrize("codes", list(MaskCodes))
def test_truth_is_kept_in_the_project_in_its_own_codes(
    made: Path, with_validation: Project, codes: MaskCodes
):
    folder = {MaskCodes.PROJECT: "masks", MaskCodes.ZERO_BASED: "positions"}[codes]
    result, _ = finish(
        import_masks(
            with_validation,
            made / "validation" / folder,
            codes,
            MaskPurpose.TRUTH,
            person="Ada",
            now=NOW,
        )
    )
    assert result.imported == 4
    assert result.without_mask == 16
    assert result.without_image == ()
    for image in with_validation.images(Split.VALIDATION):
        assert image.mask_path is not None
        assert image.mask_path.is_relative_to(with_validation.folder)
        truth = made / "validation" / "masks" / f"{image.path.stem}.png"
        assert np.array_equal(Image.open(image.mask_path), Image.open(truth))


def test_masks_to_correct_protect_what_they_label(made: Path, with_validation: Project):
    project = with_validation
    finish(
        import_masks(
            project,
            made / "validation" / "masks",
            MaskCodes.PROJECT,
            MaskPurpose.CORRECTION,
            person="Ada",
            now=NOW,
        )
    )
    summaries = project.mask_summaries()
    assert len(summaries) == 4
    for image_id, summary in summaries.items():
        stored = project.read_mask(image_id)
        assert stored is not None
        assert summary.corrected_by == "Ada"
        assert np.array_equal(stored.origins == Origin.IMPORTED, stored.mask > 0)


def to_correct(project: Project, workspace: Path) -> Job[ImportedMasks | None]:
    masks = workspace / "validation" / "masks"
    codes, purpose = MaskCodes.PROJECT, MaskPurpose.CORRECTION
    return import_masks(project, masks, codes, purpose, person="Ada", now=NOW)


def test_a_full_disk_leaves_the_masks_that_are_stored_and_the_same_import_brings_the_rest(
    made: Path, with_validation: Project, monkeypatch: pytest.MonkeyPatch
):
    project, times = with_validation, iter(range(2))
    monkeypatch.setattr("napari_protoseg.jobs.import_masks._AT_ONCE", 1)
    store = project.store_imports

    def full_after_two(masks, *, person, now):
        if next(times, None) is None:
            raise StorageError("no space left on the disk", where="disk", remedy="Free some.")
        store(masks, person=person, now=now)

    said: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(project, "store_imports", full_after_two)
        with pytest.raises(StorageError, match="no space"):
            finish(to_correct(project, made), said.append)
    assert isinstance(said[-1], Notice)
    assert "Masks that are imported: 2 of 4." in said[-1].text
    assert len(project.mask_summaries()) == 2
    assert finish(to_correct(project, made))[0].imported == 4
    assert len(project.mask_summaries()) == 4


def test_an_import_that_is_stopped_keeps_what_is_stored(
    made: Path, with_validation: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("napari_protoseg.jobs.import_masks._AT_ONCE", 1)
    ended, _ = finish(to_correct(with_validation, made), stop_after(4 + 1))
    assert (ended.imported, ended.left_out) == (1, 3)
    assert len(with_validation.mask_summaries()) == 1


def test_masks_that_do_not_fit_are_named_and_none_is_imported(
    made: Path, with_validation: Project, tmp_path: Path
):
    def imported(folder: Path):
        return finish(
            import_masks(
                with_validation,
                folder,
                MaskCodes.PROJECT,
                MaskPurpose.TRUTH,
                person="Ada",
                now=NOW,
            )
        )

    before = with_validation.images()
    masks = tmp_path / "masks"
    shutil.copytree(made / "validation" / "masks", masks)
    last = sorted(masks.iterdir())[-1]
    good = np.array(Image.open(last))
    for values, error in (
        (good[:-1], ImageError),
        (np.full_like(good, 9), EvaluationError),
    ):
        Image.fromarray(values).save(last)
        with pytest.raises(error, match=last.name.partition("[")[0]):
            imported(masks)
    (tmp_path / "other").mkdir()
    Image.fromarray(good).save(tmp_path / "other" / "nobody.png")
    with pytest.raises(ProjectError, match="no mask named as an image"):
        imported(tmp_path / "other")
    assert with_validation.images() == before
