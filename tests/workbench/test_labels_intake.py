"""Taking in: what was chosen is looked at first, and kept only when a person says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hearing import Told
from inline_runner import InlineRunner, StepRunner
from PIL import Image

from napari_protoseg.errors import LabelError
from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.jobs.import_masks import MaskPurpose
from napari_protoseg.project.records import Split
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.session import Session


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    folder = tmp_path / "tiles"
    for number in range(3):
        write_image(folder / f"{number}-[{number % 2} 1].png", number)
    (folder / "broken-[1 1].png").write_bytes(b"no image")
    return folder


@pytest.fixture
def state() -> LabelsState:
    return LabelsState(Session(InlineRunner()))


def make(state: LabelsState, tiles: Path) -> None:
    state.intake.edit(Draft(images=str(tiles), classes="tumour, stroma"))
    state.intake.look()
    state.intake.take()


def test_a_dropped_folder_is_looked_at_before_a_project_is_made(state: LabelsState, tiles: Path):
    intake, told = state.intake, Told(state.session)
    assert intake.needs() is not None
    intake.choose([tiles])
    assert intake.needs() is None
    intake.edit(replace(intake.draft, classes="tumour, stroma"))
    intake.look()
    assert intake.reading is not None
    assert intake.reading.report.usable == 3
    assert any("broken" in line for line in intake.reading.report.problems())
    assert not (tiles.parent / "tiles-protoseg").exists()
    intake.take()
    assert state.session.require_project().folder == tiles.parent / "tiles-protoseg"
    assert [image.label for image in state.images.all] == [(0, 1), (1, 1), (0, 1)]
    assert told == ["The project holds 3 images, 0 of them to validate on."]
    assert intake.draft == Draft()


def test_a_dropped_table_names_the_images_beside_it(state: LabelsState, tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "cohort" / f"{number}.png", number)
    table = tmp_path / "cohort" / "labels.csv"
    table.write_text("file,tumour,stroma\n0.png,1,0\n1.png,0,1\n")
    state.intake.choose([table])
    assert state.intake.draft.place == table.parent
    assert state.intake.draft.target == tmp_path / "cohort-protoseg"
    state.intake.look()
    state.intake.take()
    assert [image.label for image in state.images.all] == [(1, 0), (0, 1)]


def test_a_table_and_a_folder_dropped_together_belong_together(state: LabelsState, tiles: Path):
    state.intake.choose([tiles.parent / "labels.xlsx", tiles])
    assert (state.intake.draft.labels, state.intake.draft.images) == (
        str(tiles.parent / "labels.xlsx"),
        str(tiles),
    )


def test_something_else_is_refused_and_changes_nothing(state: LabelsState, tiles: Path):
    with pytest.raises(LabelError, match="neither a folder nor a table"):
        state.intake.choose([tiles, tiles / "0-[0 1].png"])
    assert state.intake.draft == Draft()


def test_a_report_is_forgotten_once_something_else_is_chosen(state: LabelsState, tiles: Path):
    state.intake.edit(Draft(images=str(tiles), classes="tumour, stroma"))
    state.intake.look()
    state.intake.edit(replace(state.intake.draft, folder=str(tiles.parent / "elsewhere")))
    assert state.intake.take_needs() is None
    state.intake.edit(replace(state.intake.draft, classes="stroma, tumour"))
    assert state.intake.reading is None
    with pytest.raises(LabelError, match="Look at the images first"):
        state.intake.take()


def test_what_was_changed_while_it_was_read_is_not_taken_for_what_was_read(tiles: Path):
    runner = StepRunner()
    state = LabelsState(Session(runner))
    state.intake.edit(Draft(images=str(tiles), classes="tumour, stroma"))
    state.intake.look()
    assert state.intake.needs() == "Look at images is under way; wait for it, or stop it."
    state.intake.edit(replace(state.intake.draft, classes="stroma, tumour"))
    runner.finish()
    assert state.intake.reading is None


def test_a_stopped_look_takes_nothing_in(tiles: Path):
    runner = StepRunner()
    state = LabelsState(Session(runner))
    told = Told(state.session)
    state.intake.edit(Draft(images=str(tiles), classes="tumour, stroma"))
    state.intake.look()
    runner.jobs[0].step()
    assert state.session.task is not None
    state.session.task.stop()
    runner.finish()
    assert state.intake.reading is None
    assert len(told) == 1
    assert state.intake.needs() is None


def test_a_project_that_is_there_is_opened_not_made_again(state: LabelsState, tiles: Path):
    make(state, tiles)
    folder = state.session.require_project().folder
    state.session.close_project()
    state.intake.choose([folder])
    assert state.intake.found_project == folder
    assert "This folder is a project" in str(state.intake.needs())
    state.intake.edit(Draft(images=str(tiles), classes="tumour, stroma"))
    state.intake.look()
    assert "is a project already" in str(state.intake.take_needs())
    state.intake.open_found()
    assert state.session.require_project().folder == folder


def test_images_are_added_under_the_classes_of_the_project(
    state: LabelsState, tiles: Path, tmp_path: Path
):
    make(state, tiles)
    told = Told(state.session)
    write_image(tmp_path / "more" / "9-[1 0].png", 9)
    write_image(tmp_path / "more" / "0-[0 1].png", 0)
    state.intake.choose([tmp_path / "more"])
    state.intake.look()
    assert len(state.images.all) == 3
    state.intake.take()
    assert len(state.images.all) == 4
    assert told == ["Images added: 1; 1 were there already."]


def test_what_cannot_be_read_becomes_a_sentence(state: LabelsState, tmp_path: Path):
    told = Told(state.session)
    (tmp_path / "empty").mkdir()
    state.intake.choose([tmp_path / "empty"])
    state.intake.look()
    assert len(told) == 1
    assert "empty" in told[0]
    assert state.intake.reading is None


def test_half_typed_paths_are_borne(state: LabelsState):
    for text in ("~", "~nobody-of-that-name/x", "/", "a" * 5000, "."):
        state.intake.edit(Draft(images=text))
        assert state.intake.found_project is None


@pytest.mark.parametrize("purpose", list(MaskPurpose))
def test_masks_are_imported(state: LabelsState, tiles: Path, tmp_path: Path, purpose: MaskPurpose):
    make(state, tiles)
    told = Told(state.session)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[:20] = 2
    Image.fromarray(mask).save(masks / "0-[0 1].png")
    Image.fromarray(mask).save(masks / "stranger.png")
    state.import_masks(masks, MaskCodes.PROJECT, purpose)
    assert told == [
        "Masks imported: 1. Images without a mask there: 2. "
        "Masks that belong to no image: stranger.png."
    ]
    image = state.images[0]
    assert image.id is not None
    if purpose is MaskPurpose.TRUTH:
        assert image.split is Split.VALIDATION
        assert image.mask_path is not None
    else:
        kept = state.session.require_project().read_mask(image.id)
        assert kept is not None
        assert np.array_equal(kept.mask, mask)
