"""Tissue segmentation from image-level labels, with prototypes taken from the images.

The public names below are loaded at their first use, so that importing this package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_protoseg.errors import ProtosegError
    from napari_protoseg.schema import ClassSchema

__version__ = "0.1.0"

_EXPORTS = {
    "ClassSchema": "napari_protoseg.schema",
    "ProtosegError": "napari_protoseg.errors",
}

__all__ = ["ClassSchema", "ProtosegError", "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *_EXPORTS})
