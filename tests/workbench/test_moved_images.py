"""Images whose folder has moved, on the page of labels."""

from __future__ import annotations

from pathlib import Path

from inline_runner import InlineRunner

from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.open_image import OpenImage
from napari_protoseg.workbench.recording import Recording
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.workbench import Workbench


def test_moved_images_are_found_again_on_the_page(made: Path):
    session = Session(InlineRunner())
    state = LabelsState(session)
    session.open(made / "project")
    state.find_images(made)
    assert session.messages.last == "No image is missing."
    (made / "tiles").rename(made / "moved")
    (lost,) = sorted((made / "moved").iterdir())[:1]
    lost.unlink()
    state.find_images(made)
    assert session.messages.last == f"Images found again: 15. Still missing: {lost.name}."
    found = [image.path for image in state.images.all if image.path.parent == made / "moved"]
    assert len(found) == 15
    session.close()


def test_the_open_image_is_read_again_once_it_is_found(made: Path):
    session = Session(InlineRunner())
    state, opened = LabelsState(session), OpenImage(session, Recording(session))
    session.open(made / "project")
    (made / "tiles").rename(made / "moved")
    state.open_image(1)
    assert opened.pixels is None
    assert "no such file" in session.messages.shown
    state.find_images(made)
    assert opened.pixels is not None
    assert opened.mask is not None
    session.close()


def test_an_image_that_is_back_at_its_place_is_opened_by_another_click(made: Path):
    session = Session(InlineRunner())
    state, opened = LabelsState(session), OpenImage(session, Recording(session))
    session.open(made / "project")
    (made / "tiles").rename(made / "away")
    state.open_image(1)
    assert opened.pixels is None
    (made / "away").rename(made / "tiles")
    state.open_image(1)
    assert opened.pixels is not None
    read = opened.pixels
    state.open_image(1)
    assert opened.pixels is read, "nothing is read twice"
    session.close()


def test_a_folder_that_is_not_there_is_told_also_where_no_image_is_missing(made: Path):
    session = Session(InlineRunner())
    state = LabelsState(session)
    session.open(made / "project")
    state.find_images(made / "nowhere")
    assert "nowhere" in session.messages.shown
    assert session.messages.last != "No image is missing."
    session.close()


def test_an_image_that_cannot_be_read_says_on_review_how_it_is_found_again(trained: Path):
    bench = Workbench(Session(InlineRunner()))
    bench.session.open(trained / "project")
    (trained / "tiles").rename(trained / "moved")
    bench.review.step(1)
    assert "Find images on Labels" in bench.review.state_of_current()
    bench.labels.find_images(trained)
    assert bench.review.state_of_current().endswith("Maps of round 1.")
    bench.close()


def test_before_there_are_maps_a_model_that_is_there_is_not_denied(trained: Path):
    bench = Workbench(Session(InlineRunner()))
    bench.session.open(trained / "project")
    assert bench.review.state_of_current() == ""
    bench.session.current = bench.review.images[0].image
    assert bench.review.state_of_current() == "Proposed. No maps yet."
    bench.close()


def test_while_a_model_looks_at_an_image_the_page_says_so(trained: Path):
    bench = Workbench(Session(InlineRunner()))
    bench.session.open(trained / "project")
    said: list[str] = []
    bench.review.changed.connect(lambda: said.append(bench.review.state_of_current()))
    bench.review.step(1)
    assert "Proposed. Its maps are being made." in said
    assert said[-1].endswith("Maps of round 1.")
    bench.close()
