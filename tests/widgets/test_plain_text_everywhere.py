"""No text of the window reaches Qt as what it might take for HTML, unless it was escaped."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

import napari_protoseg
from napari_protoseg.plugin.layers import image_layer, map_name, prototype_map_layer, rename
from napari_protoseg.schema import ClassSchema
from napari_protoseg.widgets.class_palette import ClassPalette

NAME = "<b>tumour</b>"
WIDGETS = Path(napari_protoseg.__file__).parent / "widgets"
MODULES = sorted(path for path in WIDGETS.glob("*.py") if path.name != "plain_text.py")
ASKING = {"question", "warning", "information", "critical", "about"}


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield the calls in a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def is_plain(text: ast.expr) -> bool:
    """Tell whether an expression is text that stands in the source, or has been through `plain`."""
    match text:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name.isupper()  # a constant of the module
        case ast.IfExp(body=body, orelse=orelse):
            return is_plain(body) and is_plain(orelse)
        case ast.Call(func=ast.Name(id="plain")):
            return True
    return False


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_tooltip_and_every_question_is_plain(path: Path):
    for call in calls(path):
        match call.func:
            case ast.Attribute(attr="setToolTip" | "setStatusTip" | "setWhatsThis"):
                assert is_plain(call.args[0]), ast.unparse(call)
            case ast.Attribute(value=ast.Name(id="QMessageBox"), attr=name) if name in ASKING:
                assert is_plain(call.args[2]), ast.unparse(call)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_label_that_may_hold_html_says_so_in_its_module(path: Path):
    text = path.read_text("utf-8")
    may = [call for call in calls(path) if ast.unparse(call.func) == "QLabel"]
    for call in may:
        # Its text stands in the source, or the module escapes what it puts in.
        constant = bool(call.args) and is_plain(call.args[0])
        assert constant or "html.escape(" in text, ast.unparse(call)


def test_a_class_is_offered_by_its_name(qtbot: Any):
    palette = ClassPalette()
    qtbot.addWidget(palette)
    palette.show_schema(ClassSchema.from_names([NAME, "stroma"]))
    tip = palette.findChild(QPushButton, "pick-1").toolTip()
    assert "&lt;b&gt;tumour&lt;/b&gt;" in tip
    assert Qt.mightBeRichText(tip)


def test_napari_takes_no_name_of_a_layer_for_html():
    pixels = np.zeros((4, 4, 3), np.uint8)
    schema = ClassSchema.from_names([NAME])
    renamed = image_layer(pixels, "tumour.png")
    rename(renamed, f"{NAME}.png")
    shown = [
        renamed.name,
        image_layer(pixels, f"{NAME}.png").name,
        map_name(schema.classes[0]),
        prototype_map_layer(np.zeros((4, 4), np.float32), f"Prototype of {NAME}").name,
    ]
    assert Qt.mightBeRichText(f"{NAME}.png")
    assert not any(Qt.mightBeRichText(name) for name in shown)
    assert all("tumour" in name for name in shown)
