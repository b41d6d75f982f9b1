"""Whose the pixels of a mask are, whatever is painted, undone, proposed, made and reopened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from inline_runner import InlineRunner
from numpy.typing import NDArray
from tiny_project import NOW, record_images

from napari_protoseg.errors import StorageError
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.records import FIRST_PERSON, MaskSource, Origin, PredictedMask
from napari_protoseg.workbench.open_mask import OpenMask
from napari_protoseg.workbench.recording import Recording
from napari_protoseg.workbench.session import Session, Settings

SIDE = 12
DEEDS = ["paint", "paint", "save", "undo", "undo", "redo", "see", "make", "reopen"]
Mask = NDArray[np.uint8]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(InlineRunner(), lambda: Settings(person="Ada"))
    session.recording = Recording(session)  # type: ignore[attr-defined]
    session.open(record_images(tmp_path / "p", [tmp_path / "a.png"], ["x", "y", "z"], size=SIDE))
    yield session
    session.close()


@pytest.fixture(autouse=True)
def each_model_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_protoseg.workbench.open_mask.is_outdated", lambda *_, **__: True)


class Person:
    """Someone with a brush, who keeps a copy of each mask, and of whose pixels it had."""

    def __init__(self, session: Session) -> None:
        self.project = session.require_project()
        self._recording: Recording = session.recording  # type: ignore[attr-defined]
        self.image_id = self.project.images()[0].known_id
        self.open = self._opened()
        self.drawn = self.open.mask.copy()
        self.own = np.zeros((SIDE, SIDE), dtype=bool)
        self.undone: list[Any] = []
        self.redone: list[Any] = []

    def _opened(self) -> OpenMask:
        opened = self.project.open_journal(self.image_id)
        return OpenMask(self.project, opened, self._recording, lambda: "Ada", lambda: NOW)

    def _enter(self, drawn: Mask, own: NDArray[np.bool_]) -> None:
        if not np.array_equal(drawn, self.drawn):
            self.undone.append((self.drawn, self.own))
            self.redone.clear()
            self.drawn, self.own = drawn, own

    def paint(self, mask: Mask) -> None:
        self._enter(mask.copy(), self.own | (mask != self.drawn))
        self.open.stroke(mask, None)

    def undo(self) -> None:
        assert (self.open.undo() is None) == (not self.undone)
        if self.undone:
            self.redone.append((self.drawn, self.own))
            self.drawn, self.own = self.undone.pop()

    def redo(self) -> None:
        assert (self.open.redo() is None) == (not self.redone)
        if self.redone:
            self.undone.append((self.drawn, self.own))
            self.drawn, self.own = self.redone.pop()

    def _made(self, mask: Mask) -> tuple[PredictedMask, MaskSource]:
        source = MaskSource(
            round_id=None,
            label_condition="given",
            recipe_json=Recipe().model_dump_json(),
            created=NOW,
        )
        return PredictedMask(self.image_id, mask, np.full(mask.shape, 0.5, np.float16)), source

    def sight(self, mask: Mask, **of_source: Any) -> Any:
        """Return what a model sees that proposes this mask."""
        predicted, source = self._made(mask)
        made = predicted, replace(source, **of_source)
        return SimpleNamespace(
            mask=lambda now: made, key=None, labels="", predictor=SimpleNamespace(recipe=Recipe())
        )

    def see(self, mask: Mask) -> None:
        """Let a model propose a mask."""
        self.open.propose(self.sight(mask))
        self._enter(np.where(self.own, self.drawn, mask), self.own)

    def make_masks(self, mask: Mask) -> None:
        """Let a model's mask be stored by a task."""
        self.open.store()
        self.project.write_mask(*self._made(mask))
        self._enter(np.where(self.own, self.drawn, mask), self.own)
        self.open = self._opened()

    def reopen(self) -> None:
        self.open.store()
        self.open.leave()
        self.open = self._opened()

    def look(self) -> None:
        assert np.array_equal(self.open.mask, self.drawn)
        assert np.array_equal(self.open.is_protected, self.own)

    def save(self) -> None:
        self.open.save()
        stored = self.project.read_mask(self.image_id)
        if stored is None:
            assert not self.own.any()
            return
        assert np.array_equal(stored.origins == Origin.PERSON, self.own)
        assert np.array_equal(stored.mask[self.own], self.drawn[self.own])
        assert np.all(stored.confidence[self.own] == 1)
        if not self.open.is_proposed:
            assert np.array_equal(stored.mask, self.drawn)


def blotch(random: np.random.Generator, mask: Mask) -> Mask:
    """Return a mask with a rectangle of another class."""
    top, left = random.integers(0, SIDE - 1, 2)
    height, width = random.integers(1, SIDE, 2)
    changed = mask.copy()
    changed[top : top + height, left : left + width] = random.integers(0, 4)
    return changed


@pytest.mark.parametrize("seed", range(8))
def test_a_pixel_is_a_persons_where_a_person_was_the_last_to_set_it(session: Session, seed: int):
    random = np.random.default_rng(seed)
    person = Person(session)
    model = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for _ in range(40):
        match random.choice(DEEDS):
            case "paint":
                person.paint(blotch(random, person.drawn))
            case "save":
                person.save()
            case "undo":
                person.undo()
            case "redo":
                person.redo()
            case "see":
                model = blotch(random, model)
                person.see(model)
            case "make":
                model = blotch(random, model)
                person.make_masks(model)
            case "reopen":
                person.reopen()
        person.look()
    person.save()


def test_a_stroke_that_was_saved_and_is_undone_is_the_models_again(session: Session):
    person = Person(session)
    model = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    person.see(model)
    drawn = model.copy()
    drawn[:4] = 1
    person.paint(drawn)
    person.save()
    assert person.project.mask_summaries()[person.image_id].corrected_by == "Ada"
    person.undo()
    person.save()
    stored = person.project.read_mask(person.image_id)
    assert stored is not None
    assert np.all(stored.origins == Origin.MODEL)
    assert person.project.mask_summaries()[person.image_id].corrected_by is None
    person.redo()
    person.save()
    assert person.project.mask_summaries()[person.image_id].corrected_by == "Ada"


def test_a_saved_stroke_that_is_undone_before_any_model_leaves_no_mask(session: Session):
    person = Person(session)
    person.paint(np.full((SIDE, SIDE), 1, dtype=np.uint8))
    person.save()
    assert person.open.is_there
    person.undo()
    person.save()
    assert person.project.read_mask(person.image_id) is None
    assert person.project.mask_summaries() == {}
    assert not person.open.is_there
    person.see(np.full((SIDE, SIDE), 3, dtype=np.uint8))
    assert np.all(person.open.mask == 3)


def test_a_proposal_is_recorded_with_the_next_stroke_and_else_not_at_all(session: Session):
    person = Person(session)
    person.see(np.full((SIDE, SIDE), 2, dtype=np.uint8))
    assert person.open.is_proposed
    person.open.leave()
    assert person.project.open_journal(person.image_id).steps == ()
    drawn = person.drawn.copy()
    drawn[:4] = 1
    person.paint(drawn)
    assert not person.open.is_proposed
    person.open.leave()
    kinds = [known.step.edit.kind for known in person.project.open_journal(person.image_id).steps]
    assert kinds == ["model", "stroke"]
    person.reopen()
    person.undo()
    person.undo()
    assert not person.open.mask.any()


def test_what_a_model_has_made_of_a_class_that_is_gone_is_undone_though_nothing_is_seen_of_it(
    session: Session,
):
    person = Person(session)
    for value in (1, 2):
        person.make_masks(np.full((SIDE, SIDE), value, dtype=np.uint8))
    person.project.remove_class(2, 1, created=NOW)
    person.open = person._opened()
    assert person.open.undo() is None, "nothing is seen of it"
    assert (person.open.mask == 1).all()
    assert person.open.undo() is not None
    assert not person.open.mask.any()
    person.open.save()
    assert person.project.read_mask(person.image_id) is None


def test_who_draws_first_while_the_disk_is_gone_is_known_by_name_once_it_is_back(
    session: Session,
):
    person, recording = Person(session), session.recording  # type: ignore[attr-defined]
    folder, drawn = person.project.folder, person.drawn.copy()
    folder.rename(folder.with_name("away"))
    drawn[0] = 1
    person.paint(drawn.copy())
    with pytest.raises(StorageError):
        recording.flush()
    folder.with_name("away").rename(folder)
    recording.flush()
    drawn[1] = 1
    person.paint(drawn.copy())
    recording.flush()
    stored = person.project.read_mask(person.image_id)
    assert stored is not None
    assert stored.setters[:2, 0].tolist() == [Origin.PERSON, FIRST_PERSON + 1]


def test_a_mask_that_a_newer_model_agrees_with_is_stored_as_its_own(session: Session):
    person = Person(session)
    model = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    person.see(model)
    person.open.store()
    sight = person.sight(model, recipe_json="{}")
    assert person.open.propose(sight) is None
    assert person.open.is_proposed
    assert person.open.store()
    assert person.project.mask_summaries()[person.image_id].recipe_json == "{}"
    assert not person.open.is_proposed


def test_a_stroke_that_a_newer_model_has_not_looked_under_shows_what_it_hid_when_undone(
    session: Session,
):
    person = Person(session)
    model = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    person.see(model)
    person.open.store()
    drawn = model.copy()
    drawn[:4] = 1
    person.paint(drawn)
    newer = model.copy()
    newer[:4] = 3  # agrees wherever it may
    assert person.open.propose(person.sight(newer, recipe_json="{}")) is None
    person.undo()
    assert not person.open.is_proposed
    person.open.store()
    stored = person.project.read_mask(person.image_id)
    assert stored is not None
    assert np.all(stored.mask == 2), "as it is seen"
    assert person.project.mask_summaries()[person.image_id].recipe_json != "{}", "outdated"


@pytest.mark.parametrize("value", [0, 2])
def test_a_stroke_that_is_undone_takes_nothing_from_a_model_that_agrees_with_what_it_hid(
    session: Session, value: int
):
    person = Person(session)
    model = np.full((SIDE, SIDE), value, dtype=np.uint8)
    if value:
        person.see(model)
        person.open.store()
    person.open.propose(person.sight(model, recipe_json="{}"))
    drawn = model.copy()
    drawn[:4] = 1
    person.paint(drawn)
    person.undo()
    assert person.open.is_there
    assert person.open.store()
    assert person.project.mask_summaries()[person.image_id].recipe_json == "{}"
