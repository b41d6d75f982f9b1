"""What is drawn on a mask layer, and how it is undone and redone: told as it happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_protoseg.workbench.open_image import OpenImage


class Strokes:
    """Tells the open image of each stroke on a layer, and of each step back or forth.

    napari tells when something enters the history of a layer, but not when it is undone or redone,
    and a mask as it was before may as well have been drawn so. So the layer's own two verbs are
    listened in on, whichever key or menu calls them.

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
        self._is_drawn = True
        layer.events.paint.connect(self._tell_stroke)
        layer.undo = partial(self._go, layer.undo, opened.note_undo)
        layer.redo = partial(self._go, layer.redo, opened.note_redo)

    def close(self) -> None:
        """Leave the layer as it was found."""
        self._layer.events.paint.disconnect(self._tell_stroke)
        del self._layer.undo, self._layer.redo

    def enter(self, mask: NDArray[np.uint8]) -> None:
        """Write what a model has changed as a step that can be undone, and is nobody's stroke."""
        changed = np.nonzero(self._layer.data != mask)
        if changed[0].size:
            self._is_drawn = False
            self._layer.data_setitem(changed, mask[changed])
            self._is_drawn = True

    def _tell_stroke(self) -> None:
        if self._is_drawn:
            self._opened.note_stroke()

    def _go(self, step: Callable[[], None], tell: Callable[[], None]) -> None:
        before = self._layer.data.copy()
        step()
        if not np.array_equal(self._layer.data, before):  # else there was nothing to undo
            tell()
