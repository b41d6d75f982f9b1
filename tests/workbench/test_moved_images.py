"""Images whose folder has moved, on the page of labels."""

from __future__ import annotations

from pathlib import Path

from inline_runner import InlineRunner

from napari_protoseg.workbench.labels_page import LabelsState
from napari_protoseg.workbench.session import Session


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
