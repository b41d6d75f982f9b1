from __future__ import annotations

import subprocess
import sys

import pytest

import napari_protoseg

HEAVY = {"torch", "timm", "pandas", "napari", "qtpy", "PyQt5", "PyQt6", "zarr", "skimage", "scipy"}


def loaded_by(code: str) -> set[str]:
    listing = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    child = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return set(child.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import napari_protoseg") & (HEAVY | {"numpy", "pydantic"})


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "events",
        "images.reading",
        "plugin.sample_data",
        "schema",
        "storage",
        "synthesis.sample",
    ],
)
def test_modules_that_need_no_network_import_neither_torch_nor_qt(module: str) -> None:
    loaded = loaded_by(f"import napari_protoseg.{module}")
    assert not loaded & {"torch", "timm", "napari", "qtpy", "PyQt5", "PyQt6"}


@pytest.mark.parametrize("name", [n for n in napari_protoseg.__all__ if n != "__version__"])
def test_public_name_loads_from_the_module_that_defines_it(name: str) -> None:
    value = getattr(napari_protoseg, name)
    assert value.__name__ == name
    assert value.__module__.startswith("napari_protoseg.")


def test_every_public_name_is_listed() -> None:
    assert set(napari_protoseg.__all__) <= set(dir(napari_protoseg))
    assert set(napari_protoseg.__all__) == {"__version__", *napari_protoseg._EXPORTS}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Prototype'"):
        napari_protoseg.Prototype  # noqa: B018
