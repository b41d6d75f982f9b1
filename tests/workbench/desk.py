"""A workbench without a window, and a person who draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_runner import InlineRunner, StepRunner
from numpy.typing import NDArray

from napari_protoseg.project.records import StoredMask
from napari_protoseg.workbench.session import Session, Settings
from napari_protoseg.workbench.workbench import Workbench

STROMA = 2


class Painter:
    """A person with a brush: holds the mask as it is drawn, and follows the workbench."""

    def __init__(self, bench: Workbench) -> None:
        self._opened = bench.opened
        self.mask: NDArray[np.uint8] | None = None
        bench.opened.loaded.connect(self.begin)
        bench.opened.mask_changed.connect(self.follow)

    def begin(self) -> None:
        mask = self._opened.mask
        self.mask = None if mask is None else mask.copy()
        self._opened.drawn = None if self.mask is None else self.drawn

    def drawn(self) -> NDArray[np.uint8]:
        assert self.mask is not None
        return self.mask

    def follow(self, block: tuple[slice, slice]) -> None:
        mask = self._opened.mask
        if self._opened.drawn is None:
            return  # it is just being opened
        assert mask is not None
        assert self.mask is not None
        self.mask[block] = mask[block]
        assert np.array_equal(self.mask, mask), "nothing has changed outside of the block"

    def undo(self) -> None:
        self._opened.undo()

    def redo(self) -> None:
        self._opened.redo()

    def paint(self, value: int = STROMA, side: int = 8) -> None:
        assert self.mask is not None
        self.mask[:side, :side] = value
        self._opened.take_stroke((slice(0, side), slice(0, side)))

    def draw(self, mask: NDArray[np.uint8]) -> None:
        """Draw a whole mask in one stroke."""
        assert self.mask is not None
        self.mask[:] = mask
        self._opened.take_stroke()


class Desk:
    """A workbench with a person at it."""

    def __init__(self, runner: StepRunner) -> None:
        self.runner = runner
        self.session = Session(runner, lambda: Settings(device="cpu", person="Ada"))
        self.bench = Workbench(self.session)
        self.painter = Painter(self.bench)
        self.problems: list[Any] = []
        self.session.went_wrong.connect(self.problems.append)

    def open(self, workspace: Path) -> None:
        self.session.open(workspace / "project")

    @property
    def mask(self) -> NDArray[np.uint8]:
        assert self.painter.mask is not None
        return self.painter.mask

    @property
    def image_id(self) -> int:
        current = self.session.current
        assert current is not None
        assert current.id is not None
        return current.id

    @property
    def is_anybodys(self) -> bool:
        """Whether somebody has set a pixel of the open mask."""
        is_protected = self.bench.opened.is_protected
        assert is_protected is not None
        return bool(is_protected.any())

    def stored(self, image_id: int | None = None) -> StoredMask | None:
        return self.session.require_project().read_mask(image_id or self.image_id)

    def step(self, by: int = 1) -> None:
        self.bench.review.step(by)
        self.settle()

    def settle(self) -> None:
        """Wait until what was done is on disk, and everyone has heard of it."""
        self.bench.recording.settle()
        self.runner.turn()


@pytest.fixture
def desk(made: Path) -> Iterator[Desk]:
    """A desk with an image open, of which one stroke is saved."""
    desk = Desk(InlineRunner())
    desk.open(made)
    desk.step()
    desk.painter.paint(1, side=4)
    desk.settle()
    yield desk
    desk.bench.close()
