"""What a person decides in a project is kept: labels, muted prototypes, pixels, reviews."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from drawing import draw

from napari_protoseg.errors import ProjectError
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import (
    ImageRecord,
    MaskSource,
    Origin,
    PredictedMask,
    ReviewStatus,
    Split,
)
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)


@pytest.fixture
def project(tmp_path: Path):
    schema = ClassSchema.from_names(["tumour", "stroma"])
    with Project.create(tmp_path / "project", schema, created=NOW) as project:
        project.add_images(
            ImageRecord(
                path=tmp_path / f"{k}.png", content_hash=str(k), width=6, height=4, label=(1, -1)
            )
            for k in range(3)
        )
        yield project


def predicted(image_id: int, value: int) -> PredictedMask:
    return PredictedMask(
        image_id, np.full((4, 6), value, np.uint8), np.full((4, 6), 0.5, np.float16)
    )


def test_labels_are_set_and_unset(project: Project):
    project.set_labels({1: (1, 0), 2: (-1, 1)}, source="person")
    assert [image.label for image in project.images()] == [(1, 0), (-1, 1), (1, -1)]
    assert project.image(2).label == (-1, 1)


@pytest.mark.parametrize("labels", [{1: (0, 0), 9: (1, 1)}, {1: (0, 0), 2: (1,)}, {1: (0, 2)}])
def test_labels_that_do_not_fit_change_nothing(project: Project, labels: dict[int, tuple[int]]):
    before = project.images()
    with pytest.raises(ProjectError):
        project.set_labels(labels, source="person")
    assert project.images() == before


def test_true_masks_make_images_to_validate_on(project: Project, tmp_path: Path):
    project.set_truth({2: tmp_path / "truth.png"})
    assert project.image(2).mask_path == tmp_path / "truth.png"
    assert [image.id for image in project.images(Split.VALIDATION)] == [2]


def test_a_true_mask_is_taken_away_and_the_split_is_a_persons_to_set(
    project: Project, tmp_path: Path
):
    project.set_truth({2: tmp_path / "truth.png"})
    project.set_truth({2: None})
    assert (project.image(2).mask_path, project.image(2).split) == (None, Split.VALIDATION)
    project.set_split({2}, Split.TRAIN)
    project.set_split({1, 3}, Split.VALIDATION)
    assert [image.id for image in project.images(Split.TRAIN)] == [2]
    with pytest.raises(ProjectError, match="no such image"):
        project.set_split({2, 9}, Split.VALIDATION)
    assert project.image(2).split is Split.TRAIN


def test_a_prediction_leaves_the_pixels_of_a_person(project: Project):
    project.write_mask(predicted(1, 1), SOURCE)
    base = project.read_mask(1)
    assert base is not None
    edited = base.mask.copy()
    edited[0, :2] = (2, 0)
    draw(project, 1, edited, now=NOW)
    project.write_masks((predicted(1, 2), predicted(2, 2)), SOURCE)
    stored = project.read_mask(1)
    assert stored is not None
    assert stored.mask[0].tolist() == [2, 0, 2, 2, 2, 2]
    assert stored.origins[0, :3].tolist() == [Origin.PERSON, Origin.PERSON, Origin.MODEL]
    assert stored.confidence[0, 0] == 1
    assert stored.is_protected.sum() == 2
    summary = project.mask_summaries()[1]
    assert (summary.corrected_by, summary.corrected, summary.created) == ("Ada", NOW, NOW)
    assert summary.recipe_json == SOURCE.recipe_json
    assert project.mask_summaries()[2].corrected is None


def test_an_image_without_a_mask_can_be_painted(project: Project):
    painted = np.zeros((4, 6), np.uint8)
    painted[1, 1] = 2
    stored = draw(project, 3, painted, now=NOW)
    assert np.array_equal(stored.mask, painted)
    assert stored.is_protected.sum() == 1
    project.write_mask(predicted(3, 1), SOURCE)
    stored = project.read_mask(3)
    assert stored is not None
    assert stored.mask[1, 1] == 2
    assert (stored.mask == 1).sum() == 23


@pytest.mark.parametrize("mask", [np.full((4, 6), 7, np.uint8), np.zeros((4, 5), np.uint8)])
def test_an_import_that_does_not_fit_changes_nothing(project: Project, mask: np.ndarray):
    project.write_mask(predicted(1, 1), SOURCE)
    before = project.mask_summaries()
    fitting = np.full((4, 6), 2, np.uint8)
    for image_id in (1, 2):  # with a mask, and without one
        with pytest.raises(ProjectError, match=f"image {image_id}"):
            project.store_imports({3: fitting, image_id: mask}, person="Ada", now=NOW)
    assert project.mask_summaries() == before
    stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask == 1).all()


def test_an_import_that_says_nothing_leaves_an_image_without_a_mask(project: Project):
    project.write_mask(predicted(1, 1), SOURCE)
    project.open_journal(3)  # as who only looks at it does
    nothing = np.zeros((4, 6), np.uint8)
    project.store_imports(dict.fromkeys((1, 2, 3), nothing), person="Ada", now=NOW)
    (summary,) = project.mask_summaries().values()
    assert (summary.recipe_json, summary.corrected_by) == (SOURCE.recipe_json, None)
    assert project.read_mask(2) is project.read_mask(3) is None


def test_imported_pixels_are_kept_as_well(project: Project):
    mask = np.zeros((4, 6), np.uint8)
    mask[2] = 2
    project.store_imports({1: mask}, person="Ada", now=NOW)
    project.write_mask(predicted(1, 1), SOURCE)
    stored = project.read_mask(1)
    assert stored is not None
    assert (stored.mask[2] == 2).all()
    assert (stored.origins[2] == Origin.IMPORTED).all()


def test_who_imports_the_same_once_more_has_corrected_nothing(project: Project):
    mask = np.zeros((4, 6), np.uint8)
    mask[2] = 2
    later = NOW + timedelta(days=1)
    for opened in (False, True):
        if opened:
            project.open_journal(1)
        project.store_imports({1: mask}, person="Ada", now=NOW)
        project.store_imports({1: mask}, person="Bob", now=later)
        project.store_imports({1: np.zeros_like(mask)}, person="Bob", now=later)
        summary = project.mask_summaries()[1]
        assert (summary.corrected_by, summary.corrected) == ("Ada", NOW)


def test_muted_prototypes_belong_to_one_bank(project: Project):
    for version in (1, 2):
        fingerprint = project.schema.fingerprint
        assert project.add_bank(b"bank", "{}", fingerprint, created=NOW).version == version
    project.set_muted_prototypes(1, {0, 3})
    project.set_muted_prototypes(2, {1})
    assert project.muted_prototypes(1) == {0, 3}
    project.set_muted_prototypes(1, ())
    assert (project.muted_prototypes(1), project.muted_prototypes(2)) == (set(), {1})
    with pytest.raises(ProjectError):
        project.set_muted_prototypes(9, {1})


def test_a_review_is_said_changed_and_taken_back(project: Project):
    project.write_mask(predicted(1, 1), SOURCE)
    project.set_review_status(1, ReviewStatus.FLAGGED)
    project.set_review_status(1, ReviewStatus.ACCEPTED)
    project.set_review_status(2, ReviewStatus.SKIPPED)
    project.set_review_status(2, None)
    assert project.review_states() == {1: ReviewStatus.ACCEPTED}
    with pytest.raises(ProjectError, match="no such image"):
        project.set_review_status(9, ReviewStatus.SKIPPED)


def test_an_image_without_a_mask_is_not_accepted(project: Project):
    project.set_review_status(1, ReviewStatus.FLAGGED)
    with pytest.raises(ProjectError, match="there is no mask to accept"):
        project.set_review_status(1, ReviewStatus.ACCEPTED)
    assert project.review_states() == {1: ReviewStatus.FLAGGED}
    with closing(sqlite3.connect(project.folder / "project.db")) as connection, connection:
        connection.execute("UPDATE reviews SET status = 'accepted'")
    assert project.review_states() == {}, "nor by what was said before this was looked at"
