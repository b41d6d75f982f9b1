"""Masks cannot be stored: what is drawn is recorded nonetheless, and what is stored is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from desk import Desk
from hearing import Told
from PIL import Image

from napari_protoseg.errors import StorageError
from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.jobs.import_masks import MaskPurpose
from napari_protoseg.project.arrays import ArrayFolder
from napari_protoseg.workbench.session import Settings


def fail(*_: object) -> None:
    raise StorageError("no space left on the disk", where="arrays", remedy="Free some.")


def test_strokes_are_called_saved_and_a_new_person_keeps_her_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    review = desk.bench.review
    with monkeypatch.context() as patch:
        patch.setattr(ArrayFolder, "write", fail)
        desk.painter.paint(2, side=4)
        desk.session.save()
        desk.runner.turn()
        assert "Masks cannot be stored" in desk.session.messages.shown
        assert not desk.bench.recording.is_held_up
        assert "not saved yet" not in review.state_of_current()
        desk.session.settings = lambda: Settings(device="cpu", person="Bob")
        desk.painter.paint(1, side=3)
        desk.bench.recording.flush()
        stored = desk.stored()
        assert stored is not None
        assert stored.setters[0, 0] != stored.setters[3, 3]
    desk.session.save()
    desk.runner.turn()
    assert "Masks cannot be stored" not in desk.session.messages.shown


def test_masks_that_an_import_has_stored_before_it_failed_are_shown(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told, masks = Told(desk.session), tmp_path / "masks"
    masks.mkdir()
    project = desk.session.require_project()
    current = desk.session.current
    assert current is not None
    others = [image for image in project.images() if image.id != current.id]
    for image in (current, *others[:2]):
        mask = np.full((image.height, image.width), 2, np.uint8)
        Image.fromarray(mask).save(masks / f"{image.path.stem}.png")
    store, times = project.store_imports, iter(range(2))

    def full_after_two(masks, *, person, now):
        if next(times, None) is None:
            fail()
        store(masks, person=person, now=now)

    monkeypatch.setattr("napari_protoseg.jobs.import_masks._AT_ONCE", 1)
    monkeypatch.setattr(project, "store_imports", full_after_two)
    desk.bench.labels.import_masks(masks, MaskCodes.PROJECT, MaskPurpose.CORRECTION)
    assert any("Masks that are imported: 2 of 3." in text for text in told)
    stored = desk.stored()
    assert stored is not None
    assert np.array_equal(desk.mask, stored.mask)
