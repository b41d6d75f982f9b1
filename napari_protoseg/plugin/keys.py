"""The keys of the plugin on napari's canvas: one table, bound while a workbench is open."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.layers import Labels

from napari_protoseg.plugin.canvas import Canvas
from napari_protoseg.plugin.layers import role_of
from napari_protoseg.project.records import ReviewStatus
from napari_protoseg.schema import TissueClass


@dataclass(frozen=True)
class Key:
    """A key, what it is for, and what it does.

    Parameters
    ----------
    chord
        As napari spells it ("Alt-A").
    words
        What happens, for a person.
    do
        Called with the canvas; its errors are shown.
    """

    chord: str
    words: str
    do: Callable[[Canvas], object]


DIGITS = "1234567890"
"""Keys of classes that also take up the brush; the last one as on a keyboard."""


def chord_of(known: TissueClass) -> str | None:
    """Return the chord that takes up the brush with a class, as it is read; None for none."""
    return f"Alt+{known.shortcut}" if known.shortcut and known.shortcut in DIGITS else None


def _pick(digit: str, canvas: Canvas) -> None:
    """Draw with the class that has a digit as its key."""
    project = canvas.bench.session.project
    classes = () if project is None else project.schema.classes
    for known in classes:
        if known.shortcut == digit:
            canvas.pick_class(known.id)


KEYS = (
    Key("PageDown", "Save, and open the next image", lambda c: c.bench.review.step(1)),
    Key("PageUp", "Save, and open the image before", lambda c: c.bench.review.step(-1)),
    Key(
        "Alt-A", "Accept the mask, and go on", lambda c: c.bench.review.mark(ReviewStatus.ACCEPTED)
    ),
    Key("Alt-K", "Skip the image, and go on", lambda c: c.bench.review.mark(ReviewStatus.SKIPPED)),
    Key("Alt-G", "Flag the image, and go on", lambda c: c.bench.review.mark(ReviewStatus.FLAGGED)),
    Key("Alt-M", "Save the mask", lambda c: c.bench.review.save()),
    *(
        Key(f"Alt-{digit}", f"Draw with the class of key {digit}", partial(_pick, digit))
        for digit in DIGITS
    ),
)
"""None of them is one of napari's own, whatever the kind of layer."""


_COMMAND = "Meta" if sys.platform == "darwin" else "Control"
"""The key that Qt calls Ctrl everywhere."""

UNDO_KEYS = (
    Key(f"{_COMMAND}-Z", "Undo what was done last to the mask", Canvas.undo),
    Key(f"{_COMMAND}-Shift-Z", "Redo what was undone last", Canvas.redo),
)
"""Those by which napari undoes what was drawn on a layer: here whichever layer is selected."""


def bind_keys(viewer: Any, canvas: Canvas) -> None:
    """Let the keys work while the canvas of `viewer` has the focus."""
    for key in KEYS:
        viewer.bind_key(key.chord, _pressing(key, canvas), overwrite=True)
    for key in UNDO_KEYS:
        viewer.bind_key(key.chord, _undoing(key, canvas), overwrite=True)


def unbind_keys(viewer: Any) -> None:
    """Take the keys away again."""
    for key in (*KEYS, *UNDO_KEYS):
        viewer.bind_key(key.chord, None)


def press(key: Key, canvas: Canvas) -> None:
    """Do what a key is for, and show what goes wrong."""
    canvas.bench.session.attempt(lambda: key.do(canvas))


def _undoing(key: Key, canvas: Canvas) -> Callable[[Any], None]:
    """Return what napari calls with its viewer; labels of a person's own are undone themselves."""

    def pressed(viewer: Any) -> None:
        active = viewer.layers.selection.active
        if isinstance(active, Labels) and role_of(active) is None:
            (active.undo if key.do is Canvas.undo else active.redo)()
        else:
            press(key, canvas)

    return pressed


def _pressing(key: Key, canvas: Canvas) -> Callable[[Any], None]:
    """Return what napari calls with its viewer: a function, since it looks at the name."""

    def pressed(viewer: Any) -> None:
        press(key, canvas)

    return pressed
