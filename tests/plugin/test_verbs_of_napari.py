"""All by which the installed napari changes the pixels of a labels layer is known to strokes."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("napari")

import napari
from napari.layers import Labels

from napari_protoseg.plugin.strokes import _WRITING

_LED_ELSEWHERE = {"undo", "redo"}
"""Those of the layer are not called: the open image has its own."""

_TAKES_BACK = {"_abort_stroke"}
"""Sets pixels as they were before a stroke that is not ended, and that nobody was told of."""


def writers(source: str, stop: set[str]) -> set[str]:
    """Return the methods of a class that change its data, but by those of `stop`.

    They set items of ``self.data``, note a change in the history, or call such a method.
    """
    (layer,) = [node for node in ast.parse(dedent(source)).body if isinstance(node, ast.ClassDef)]
    methods = [node for node in layer.body if isinstance(node, ast.FunctionDef)]
    found = {"_save_history"}
    while True:
        more = {
            method.name
            for method in methods
            if method.name in found
            or _sets_data(method)
            or not (found - stop).isdisjoint(_used_of(method, "self"))
        }
        if more <= found:
            return found
        found |= more


def _used_of(tree: ast.AST, owner: str | None) -> Iterator[str]:
    """Return the attributes of a name, or of anything, that are used somewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_of = isinstance(node.value, ast.Name) and node.value.id == owner
            if owner is None or is_of:
                yield node.attr


def _sets_data(method: ast.FunctionDef) -> bool:
    return any(
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and "data" in _used_of(node.value, "self")
        for node in ast.walk(method)
    )


def test_no_verb_of_a_labels_layer_writes_unseen():
    found = writers(inspect.getsource(Labels), set(_WRITING))
    assert {name for name in found if not name.startswith("_")} == {*_WRITING, *_LED_ELSEWHERE}


def test_nothing_else_in_napari_writes_by_what_is_private_of_the_layer():
    private = {
        name for name in writers(inspect.getsource(Labels), set(_WRITING)) if name.startswith("_")
    }
    package = Path(napari.__file__).parent
    own = Path(inspect.getfile(Labels))
    used: set[str] = set()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path != own and "_tests" not in path.parts and any(name in text for name in private):
            used |= private & set(_used_of(ast.parse(text), None))
    assert used <= _TAKES_BACK


def test_a_new_verb_that_writes_would_be_found():
    source = """
    class Layer:
        def smear(self):
            self._smear()

        def _smear(self):
            self.data[0] = 1

        def mend(self):
            self._save_history(None)

        def dab(self):
            self.smear()

        def look(self):
            return self.data[0]
    """
    assert writers(source, {"smear"}) == {"_save_history", "smear", "_smear", "mend"}
