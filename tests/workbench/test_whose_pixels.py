"""Whose the pixels of a mask are, whatever was painted, saved, undone, redone and proposed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_project import NOW, record_images

from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Correction, MaskSource, Origin, PredictedMask
from napari_protoseg.workbench.mask_edit import MaskEdit

SIDE = 12
Mask = NDArray[np.uint8]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = record_images(tmp_path / "p", [tmp_path / "a.png"], ["x", "y", "z"], size=SIDE)
    with Project.open(folder) as project:
        yield project


@pytest.fixture(autouse=True)
def each_model_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_protoseg.workbench.mask_edit.is_outdated", lambda *_: True)


@dataclass
class Person:
    """Someone with a brush and a history, who knows whose each pixel is."""

    project: Project
    drawn: Mask
    edit: MaskEdit
    own: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((SIDE, SIDE), dtype=bool))
    undone: list[Any] = field(default_factory=list)
    redone: list[Any] = field(default_factory=list)

    @classmethod
    def at(cls, project: Project) -> Person:
        (image,) = project.images()
        edit = MaskEdit(project, image, lambda: "Ada", lambda: NOW)
        return cls(project, edit.shown.copy(), edit)

    @property
    def image_id(self) -> int:
        return self.project.images()[0].known_id

    def _enter(self, drawn: Mask, own: NDArray[np.bool_]) -> None:
        if not np.array_equal(drawn, self.drawn):
            self.undone.append((self.drawn, self.own))
            self.redone.clear()
        self.drawn, self.own = drawn, own

    def paint(self, mask: Mask) -> None:
        self.redone.clear()
        self._enter(mask.copy(), self.own | (mask != self.drawn))
        self.edit.note_stroke(self.drawn.copy())

    def undo(self) -> None:
        before = self.drawn
        if self.undone:
            self.redone.append((self.drawn, self.own))
            self.drawn, self.own = self.undone.pop()
            self.edit.undo(before, self.drawn.copy())

    def redo(self) -> None:
        before = self.drawn
        if self.redone:
            self.undone.append((self.drawn, self.own))
            self.drawn, self.own = self.redone.pop()
            self.edit.redo(before, self.drawn.copy())

    def _made(self, mask: Mask) -> tuple[PredictedMask, MaskSource]:
        source = MaskSource(
            round_id=None,
            label_condition="given",
            recipe_json=Recipe().model_dump_json(),
            created=NOW,
        )
        return PredictedMask(self.image_id, mask, np.full(mask.shape, 0.5, np.float16)), source

    def see(self, mask: Mask) -> None:
        """Let a model propose a mask."""
        made = self._made(mask)
        sight = SimpleNamespace(
            mask=lambda now: made, key=None, predictor=SimpleNamespace(recipe=Recipe())
        )
        self._follow(self.edit.propose(sight, self.drawn.copy()))  # type: ignore[arg-type]

    def make_masks(self, mask: Mask) -> None:
        """Let a model's mask be stored by a task."""
        self.save()
        self.project.write_mask(*self._made(mask))
        self._follow(self.edit.reread(self.drawn.copy()))

    def _follow(self, shown: Mask) -> None:
        if self.edit.begins_anew:
            self.undone.clear()
            self.redone.clear()
            self.drawn = shown
        else:
            self._enter(shown, self.own)

    def save(self) -> None:
        is_stored = self.edit.save(self.drawn.copy())
        assert not self.edit.is_edited(self.drawn)
        stored = self.project.read_mask(self.image_id)
        if stored is None:
            assert not self.own.any()
            return
        assert np.array_equal(stored.origins == Origin.PERSON, self.own)
        assert np.array_equal(stored.mask[self.own], self.drawn[self.own])
        assert np.all(stored.confidence[self.own] == 1)
        if is_stored:
            assert np.array_equal(stored.mask, self.drawn)


def blotch(random: np.random.Generator, mask: Mask) -> Mask:
    """Return a mask with a rectangle of another class."""
    top, left = random.integers(0, SIDE - 1, 2)
    height, width = random.integers(1, SIDE, 2)
    changed = mask.copy()
    changed[top : top + height, left : left + width] = random.integers(0, 4)
    return changed


@pytest.mark.parametrize("seed", range(12))
def test_a_pixel_is_a_persons_where_a_person_was_the_last_to_set_it(project: Project, seed: int):
    random = np.random.default_rng(seed)
    person = Person.at(project)
    model = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for _ in range(40):
        match random.choice(["paint", "paint", "save", "undo", "undo", "redo", "see", "make"]):
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
    person.save()


def test_a_stroke_that_was_saved_and_is_undone_is_the_models_again(project: Project):
    person = Person.at(project)
    model = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    person.see(model)
    drawn = model.copy()
    drawn[:4] = 1
    person.paint(drawn)
    person.save()
    assert project.mask_summaries()[person.image_id].corrected_by == "Ada"
    person.undo()
    assert person.edit.is_edited(person.drawn)
    person.save()
    stored = project.read_mask(person.image_id)
    assert stored is not None
    assert np.all(stored.origins == Origin.MODEL)
    assert np.all(stored.confidence == np.float16(0.5))
    assert project.mask_summaries()[person.image_id].corrected_by is None
    person.redo()
    person.save()
    assert project.mask_summaries()[person.image_id].corrected_by == "Ada"


def test_a_saved_stroke_that_is_undone_before_any_model_leaves_no_mask(project: Project):
    person = Person.at(project)
    person.paint(np.full((SIDE, SIDE), 1, dtype=np.uint8))
    person.save()
    assert person.edit.is_stored
    person.undo()
    person.save()
    assert project.read_mask(person.image_id) is None
    assert not person.edit.is_stored
    person.see(np.full((SIDE, SIDE), 3, dtype=np.uint8))
    assert np.all(person.drawn == 3)


def test_what_others_have_set_begins_a_new_history_and_keeps_what_is_drawn(project: Project):
    person = Person.at(project)
    model = np.full((SIDE, SIDE), 2, dtype=np.uint8)
    person.make_masks(model)
    assert not person.edit.begins_anew
    drawn = person.drawn.copy()
    drawn[-2:] = 1
    person.paint(drawn)
    stored = project.read_mask(person.image_id)
    assert stored is not None
    is_set = np.zeros(model.shape, dtype=bool)
    is_set[:3] = True
    imported = Correction(
        image_id=person.image_id,
        mask=np.where(is_set, np.uint8(3), stored.mask),
        is_set=is_set,
        base=stored,
        origin=Origin.IMPORTED,
    )
    project.store_corrections((imported,), person="Ada", now=NOW)
    shown = person.edit.reread(person.drawn.copy())
    assert person.edit.begins_anew
    assert np.all(shown[:3] == 3)
    assert np.all(shown[-2:] == 1)
    now = project.read_mask(person.image_id)
    assert now is not None
    assert np.array_equal(now.origins == Origin.IMPORTED, is_set)
    assert np.array_equal(now.origins == Origin.PERSON, drawn == 1)
    assert not person.edit.is_edited(shown)
