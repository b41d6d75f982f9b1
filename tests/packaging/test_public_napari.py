"""Only what others offer is used: what is private of napari may be gone in its next version."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import napari_protoseg

_PACKAGE = Path(napari_protoseg.__file__).parent
_SHOWN = [p for part in ("plugin", "widgets", "workbench") for p in (_PACKAGE / part).glob("*.py")]


def private_names(tree: ast.AST) -> Iterator[str]:
    """Return private attributes of anything but `self` and `cls`, and private modules of napari."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            of_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            dunder = node.attr.startswith("__") and node.attr.endswith("__")
            if not (of_own or dunder):
                yield node.attr
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "napari":
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (part for part in parts if part.startswith("_"))


def test_nothing_private_of_another_is_touched() -> None:
    assert len(_SHOWN) > 20
    used = {
        path.name: sorted(private_names(ast.parse(path.read_text(encoding="utf-8"))))
        for path in _SHOWN
    }
    assert {name: names for name, names in used.items() if names} == {}


def test_a_private_name_would_be_found() -> None:
    code = "from napari._qt import x\nviewer.window._qt_window.close()\nself._own = 1"
    assert sorted(private_names(ast.parse(code))) == ["_qt", "_qt_window"]
