"""What a person is told to do holds in the window too: commands stand apart, for the terminal."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import napari_protoseg

PACKAGE = Path(napari_protoseg.__file__).parent
SHOWN_IN_BOTH = ("jobs", "training", "bank", "exports", "labels", "encoders", "network", "project")
COMMAND = re.compile(r"protoseg [a-z]+\b|(^|\s)--[a-z]")


def texts_of(node: ast.AST) -> str:
    """Return what stands in the strings below a node."""
    return "".join(
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def test_no_remedy_names_a_command() -> None:
    found = []
    for folder in SHOWN_IN_BOTH:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "remedy":
                    text = texts_of(node.value)
                    if COMMAND.search(text) and "pip install" not in text:
                        found.append(f"{path.name}:{node.value.lineno}: {text}")
    assert found == []
