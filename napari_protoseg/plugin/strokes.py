"""What is drawn on a mask layer, what enters it otherwise, and its undo: the open image's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_protoseg.review.edited_mask import Block
from napari_protoseg.workbench.open_image import OpenImage

_AT_ONCE = 32_768
"""About how many pixels enter a layer at once; napari remembers 18 bytes of each for a while."""

_Box = tuple[int, int, int, int]
"""First row and column, and those behind the last."""


def _around_brush(layer: Labels, coord: Iterable[float], *_: Any, **__: Any) -> _Box | None:
    """Return a box around a dab of the brush, one pixel wider than it may be."""
    row, column = (round(float(place)) for place in coord)
    reach = math.ceil(layer.brush_size / 2) + 1
    return row - reach, column - reach, row + reach + 1, column + reach + 1


def _around_points(layer: Labels, points: Any, *_: Any, **__: Any) -> _Box | None:
    found = np.asarray(points)
    (top, left), (bottom, right) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return int(top) - 1, int(left) - 1, int(bottom) + 2, int(right) + 2


def _around_indices(layer: Labels, indices: Any, *_: Any, **__: Any) -> _Box | None:
    rows, columns = (np.asarray(along) for along in indices)
    if not rows.size or not columns.size:
        return None
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def _anywhere(layer: Labels, *_: Any, **__: Any) -> _Box | None:
    return None


_WRITING: dict[str, Callable[..., _Box | None]] = {
    "paint": _around_brush,
    "fill": _anywhere,
    "paint_polygon": _around_points,
    "data_setitem": _around_indices,
}
"""Verbs of a labels layer that change its pixels, and where: None for anywhere."""


class Strokes:
    """Tells the open image of each stroke on a layer, and leads the layer's undo to it.

    napari tells when a stroke enters the history of a layer: as the mouse is released, or before
    pixels are changed by what is no stroke of the mouse. So its writing verbs are listened in on:
    what they touch bounds what has to be looked at, and the open image is told after them. The
    pixels themselves are read from the layer.

    Undo and redo, whichever key or menu calls them, are those of the open image. napari's own
    history is asked by nobody, and forgotten when the layer is let go; until then it holds the last
    hundred strokes and portions of what has entered.

    While the mouse is held down napari gathers all changes for one step. `block_history` ends what
    was gathered until then, so that neither a model's step nor an undo becomes a part of a stroke.

    Parameters
    ----------
    layer
        Which.
    opened
        Who is told.
    """

    def __init__(self, layer: Labels, opened: OpenImage) -> None:
        self._layer = layer
        self._opened = opened
        self._is_writing = False
        self._is_told_after = False
        self._touched: list[_Box | None] = []
        self._set_pixels = layer.data_setitem
        layer.events.paint.connect(self._note)
        opened.changing.connect(self._end_stroke)
        for name, place in _WRITING.items():
            setattr(layer, name, partial(self._write, getattr(layer, name), place))
        layer.undo = opened.undo
        layer.redo = opened.redo

    def close(self) -> None:
        """Leave the layer as it was found, with nothing to undo."""
        layer = self._layer
        layer.events.paint.disconnect(self._note)
        self._opened.changing.disconnect(self._end_stroke, missing_ok=True)
        for name in (*_WRITING, "undo", "redo"):
            delattr(layer, name)
        mode, editable = layer.mode, layer.editable
        layer.editable = False  # napari forgets then what could be undone
        layer.editable = editable
        if editable:
            layer.mode = mode

    def enter(self, mask: NDArray[np.uint8], block: Block) -> None:
        """Set the pixels of the layer that differ from a mask in a block; nobody has drawn them.

        This is no stroke, and the open image is told nothing of it: it is who says what enters.
        napari draws anew what has changed.

        Parameters
        ----------
        mask
            ``(height, width)``, as the layer is to be.
        block
            The only rows and columns that are looked at.
        """
        layer = self._layer
        layer.set_view_slice()  # while hidden, it may still be that of an image of another size
        (rows, columns), seen = block, mask[block]
        differs = np.asarray(layer.data[block]) != seen
        with layer.events.paint.blocker(self._note):
            for portion in _portions(differs):
                down, across = np.nonzero(differs[portion])
                down += portion.start
                with layer.block_history():
                    places = down + rows.start, across + columns.start
                    self._set_pixels(places, seen[down, across])
        layer.refresh(data_displayed=False, highlight=False, extent=False)  # the thumbnail

    def _end_stroke(self) -> None:
        """Let what is drawn with the mouse be a step now; what follows is another one."""
        with self._layer.block_history():
            pass

    def _write(
        self,
        verb: Callable[..., None],
        place: Callable[..., _Box | None],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self._touched.append(place(self._layer, *args, **kwargs))
        self._is_writing = True
        try:
            verb(*args, **kwargs)
        finally:
            self._is_writing = False
            is_told, self._is_told_after = self._is_told_after, False
        if is_told:
            self._note()

    def _note(self) -> None:
        if self._is_writing:
            self._is_told_after = True
            return
        block = self._bounds()
        self._touched.clear()
        self._opened.take_stroke(block)

    def _bounds(self) -> Block | None:
        """Return the rows and columns that were touched; None where that is not known."""
        boxes = [box for box in self._touched if box is not None]
        if not boxes or len(boxes) < len(self._touched):
            return None
        tops, lefts, bottoms, rights = zip(*boxes, strict=True)
        return (
            slice(max(min(tops), 0), max(*bottoms, 0)),
            slice(max(min(lefts), 0), max(*rights, 0)),
        )


def _portions(differs: NDArray[np.bool_]) -> Iterator[slice]:
    """Part the rows of a block so that little more than `_AT_ONCE` of their pixels differ."""
    portion = np.cumsum(np.count_nonzero(differs, axis=1)) // _AT_ONCE
    first = (np.flatnonzero(np.diff(portion)) + 1).tolist()
    return (slice(start, stop) for start, stop in pairwise([0, *first, len(differs)]))
