"""What is drawn on a mask layer, and how it is undone and redone: told as it happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_protoseg.workbench.open_image import OpenImage

_WRITING = ("paint", "fill", "paint_polygon", "data_setitem")
"""Verbs of a labels layer that change its pixels, alone or as parts of a stroke."""


class Strokes:
    """Tells the open image of each stroke on a layer, and of each step back or forth.

    napari tells when something enters the history of a layer, but not when it is undone or redone,
    and a mask as it was before may as well have been drawn so. So the layer's own two verbs are
    listened in on, whichever key or menu calls them. What is not part of a stroke of the mouse it
    tells before the pixels are changed: so its writing verbs are listened in on too, and the open
    image is told after them.

    While the mouse is held down napari gathers all changes for one step. `block_history` ends what
    was gathered until then: a step of the person's own, so that neither a model's step nor an undo
    becomes a part of a stroke.

    Parameters
    ----------
    layer
        Whose history it is.
    opened
        Who is told.
    """

    def __init__(self, layer: Labels, opened: OpenImage) -> None:
        self._layer = layer
        self._opened = opened
        self._is_entering = False
        self._is_writing = False
        self._is_told_after = False
        layer.events.paint.connect(self._note)
        opened.changing.connect(self._end_stroke)
        for name in _WRITING:
            setattr(layer, name, partial(self._write, getattr(layer, name)))
        layer.undo = partial(self._go, layer.undo, opened.note_undo)
        layer.redo = partial(self._go, layer.redo, opened.note_redo)

    def close(self) -> None:
        """Leave the layer as it was found."""
        self._layer.events.paint.disconnect(self._note)
        self._opened.changing.disconnect(self._end_stroke, missing_ok=True)
        for name in (*_WRITING, "undo", "redo"):
            delattr(self._layer, name)

    def enter(self, mask: NDArray[np.uint8]) -> None:
        """Write what a model has changed as a step that can be undone, and is nobody's stroke.

        A stroke that is under way must have ended before: see `OpenImage.changing`.
        """
        changed = np.nonzero(self._layer.data != mask)
        if not changed[0].size:
            return
        self._is_entering = True
        try:
            with self._layer.block_history():
                self._layer.data_setitem(changed, mask[changed])
        finally:
            self._is_entering = False

    def _end_stroke(self) -> None:
        """Let what is drawn with the mouse be a step now; what follows is another one."""
        with self._layer.block_history():
            pass

    def _write(self, verb: Callable[..., None], *args: Any, **kwargs: Any) -> None:
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
        elif not self._is_entering:
            self._opened.note_stroke()

    def _go(self, step: Callable[[], None], tell: Callable[[NDArray[np.uint8]], None]) -> None:
        self._end_stroke()
        before = np.array(self._layer.data, dtype=np.uint8)
        step()
        if not np.array_equal(self._layer.data, before):  # else there was nothing to undo
            tell(before)
