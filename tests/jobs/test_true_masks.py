"""True masks that are imported: all of them or none, each of one file, read as masks are seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from driven_jobs import finish
from PIL import Image
from tiny_project import CPU, NOW

from napari_protoseg.errors import EvaluationError, ProjectError, StorageError
from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.evaluation.trivial import Trivial
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import ExportFormat
from napari_protoseg.jobs.import_masks import ImportedMasks, MaskPurpose, import_masks
from napari_protoseg.jobs.measure import measure_trivial
from napari_protoseg.jobs.truth import true_mask, true_positions
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.project.records import Split
from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumour", "stroma", "necrosis"])
SIZE = 64
IMAGES = 6


def write_masks(folder: Path, value: int, number: int = IMAGES) -> Path:
    """Write a mask of one value for each image."""
    folder.mkdir(exist_ok=True)
    for name in range(number):
        Image.fromarray(np.full((SIZE, SIZE), value, np.uint8)).save(folder / f"{name}.png")
    return folder


def imported(
    project: Project, folder: Path, purpose: MaskPurpose = MaskPurpose.TRUTH
) -> ImportedMasks | None:
    codes = MaskCodes.PROJECT
    return finish(import_masks(project, folder, codes, purpose, person="Ada", now=NOW))[0]


def values(project: Project) -> list[list[int]]:
    """Return the class ids in the true mask of each image."""
    return [
        [] if image.mask_path is None else np.unique(true_mask(image, project.schema)).tolist()
        for image in project.images()
    ]


def truth_files(project: Project) -> set[Path]:
    return set((project.folder / "truth").iterdir())


def named_files(project: Project) -> set[Path | None]:
    return {image.mask_path for image in project.images()}


def made(folder: Path) -> Project:
    """Make a project of noise that holds all classes, and open it."""
    random = np.random.default_rng(0)
    records = []
    (folder / "tiles").mkdir(parents=True)
    for number in range(IMAGES):
        path = folder / "tiles" / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
        records.append(
            ImageRecord(
                path=path, content_hash=str(number), width=SIZE, height=SIZE, label=(1, 1, 1)
            )
        )
    project = Project.create(folder / "project", SCHEMA, created=NOW)
    project.add_images(records)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with made(tmp_path) as project:
        yield project


def test_a_file_of_somebodys_own_among_the_true_masks_stays_when_others_are_imported(
    project: Project, tmp_path: Path
):
    imported(project, write_masks(tmp_path / "masks", 1))
    own = project.folder / "truth" / "mine.png"
    own.write_bytes((tmp_path / "masks" / "0.png").read_bytes())
    image = project.images()[0]
    project.set_truth({image.known_id: own})
    imported(project, write_masks(tmp_path / "masks", 2))
    assert values(project) == [[2]] * IMAGES
    assert own in truth_files(project) - named_files(project)


def test_truth_that_is_imported_anew_takes_the_place_of_all_of_the_former(
    project: Project, tmp_path: Path
):
    imported(project, write_masks(tmp_path / "first", 1))
    former = truth_files(project)
    imported(project, write_masks(tmp_path / "second", 2))
    assert values(project) == [[2]] * IMAGES
    assert truth_files(project) == named_files(project)
    assert truth_files(project).isdisjoint(former)
    assert all(image.split is Split.VALIDATION for image in project.images())
    assert finish(check_project(project, images=False))[0].findings == []


def test_the_same_truth_imported_twice_is_kept_once(project: Project, tmp_path: Path):
    masks = write_masks(tmp_path / "masks", 1)
    imported(project, masks)
    before = truth_files(project)
    imported(project, masks)
    assert truth_files(project) == before == named_files(project)
    assert values(project) == [[1]] * IMAGES


def test_true_masks_that_lie_elsewhere_stay_where_others_take_their_place(
    project: Project, tmp_path: Path
):
    theirs = write_masks(tmp_path / "theirs", 1) / "0.png"
    project.set_truth({1: theirs})
    imported(project, write_masks(tmp_path / "second", 2))
    assert theirs.is_file()
    assert values(project)[0] == [2]


@pytest.mark.parametrize("tiny_tmpfs", ["4m"], indirect=True)
def test_a_disk_that_gets_full_leaves_every_true_mask_as_it_was(tiny_tmpfs: Path, tmp_path: Path):
    with made(tiny_tmpfs) as project:
        imported(project, write_masks(tmp_path / "first", 1))
        before = truth_files(project)
        space = os.statvfs(tiny_tmpfs)
        room = 2 * 4096  # for two masks
        ballast = tiny_tmpfs / "ballast"
        ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - room))
        with pytest.raises(StorageError, match="no space left"):
            imported(project, write_masks(tmp_path / "second", 2))
        assert values(project) == [[1]] * IMAGES
        assert truth_files(project) == before
        ballast.unlink()
        imported(project, tmp_path / "second")
        assert values(project) == [[2]] * IMAGES


def test_truth_that_cannot_be_named_leaves_every_true_mask_as_it_was(
    project: Project, tmp_path: Path
):
    imported(project, write_masks(tmp_path / "first", 1))
    with pytest.raises(ProjectError, match="no such image"):
        project.import_truth([(1, b"new"), (99, b"of no image")])
    assert values(project) == [[1]] * IMAGES
    assert truth_files(project) == named_files(project)


@pytest.mark.parametrize("purpose", list(MaskPurpose))
def test_two_masks_of_one_image_are_refused_by_name_and_none_is_imported(
    project: Project, tmp_path: Path, purpose: MaskPurpose
):
    masks = write_masks(tmp_path / "masks", 1)
    Image.fromarray(np.full((SIZE, SIZE), 2, np.uint8)).save(masks / "3.PNG", format="PNG")
    if len(list(masks.iterdir())) == IMAGES:
        pytest.skip("this disk takes both names for one")
    with pytest.raises(ProjectError) as refused:
        imported(project, masks, purpose)
    named = f"{refused.value.where} {refused.value.what}"
    assert "3.png" in named
    assert "3.PNG" in named
    assert str(project.image(4).path) in named
    assert "nothing was imported" in refused.value.remedy
    assert values(project) == [[]] * IMAGES
    assert project.mask_summaries() == {}


@pytest.mark.parametrize(("heir", "seen"), [(1, 1), (None, 0)])
def test_true_masks_are_exported_and_measured_on_after_a_class_of_theirs_has_gone(
    project: Project, tmp_path: Path, heir: int | None, seen: int
):
    imported(project, write_masks(tmp_path / "masks", 2))
    project.remove_class(2, heir, created=NOW)
    schema = project.schema
    assert values(project) == [[seen]] * IMAGES
    out = tmp_path / "training"
    export = export_project(project, ExportFormat.TRAINING, out, Recipe(), device=CPU, now=NOW)
    exported, _ = finish(export)
    assert exported is not None
    written = [np.array(Image.open(path)) for path in (out / "valid" / "mask").iterdir()]
    position = schema.ids.index(seen) if seen else len(schema.ids)
    assert [np.unique(mask).tolist() for mask in written] == [[position]] * IMAGES
    for image in project.images():
        assert np.unique(true_positions(image, schema)).tolist() == [position]
    measured = measure_trivial(Trivial.LAST_NAMED, project.images(), schema)
    assert len(measured.classes) == len(schema.ids)


def test_a_value_of_no_class_in_a_true_mask_is_named_by_an_export(project: Project, tmp_path: Path):
    project.set_truth({1: write_masks(tmp_path / "masks", 9) / "0.png"})
    out = tmp_path / "training"
    export = export_project(project, ExportFormat.TRAINING, out, Recipe(), device=CPU, now=NOW)
    with pytest.raises(EvaluationError, match="value 9"):
        finish(export)
