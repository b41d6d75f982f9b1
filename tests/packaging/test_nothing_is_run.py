"""Nothing that is read is unpickled, evaluated or imported, and no table that is written is run."""

from __future__ import annotations

import ast
import csv
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_protoseg
from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.project.arrays import ArrayFolder

PACKAGE = Path(napari_protoseg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
UNPICKLES = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load",
    "pandas.read_pickle", "cPickle.loads", "marshal.loads", "marshal.load", "shelve.open",
}  # fmt: skip
RUNS = {"eval", "exec", "compile", "__import__", "os.system", "yaml.load", "runpy.run_path"}
IMPORTS = {"import_module", "importlib.import_module"}
WRITES_TABLES = {"csv.writer", "csv.DictWriter"}


def called() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield module, name and node of each call of the package."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node


def value_of(call: ast.Call, name: str) -> object:
    """Return the constant that a call gives for a keyword; None without."""
    return next(
        (ast.literal_eval(given.value) for given in call.keywords if given.arg == name), None
    )


def test_nothing_is_unpickled_or_run():
    assert [(module, name) for module, name, _ in called() if name in UNPICKLES | RUNS] == []


def test_only_the_names_of_the_package_itself_are_imported_late():
    assert {module for module, name, _ in called() if name in IMPORTS} == {"__init__.py"}


def test_weights_of_torch_are_read_as_weights_only():
    loads = [(module, call) for module, name, call in called() if name == "torch.load"]
    assert loads
    for module, call in loads:
        assert value_of(call, "weights_only") is True, module


def test_no_array_of_numpy_is_read_from_a_file():
    names = {"np.load", "np.fromfile", "np.loadtxt", "np.genfromtxt"}
    assert [(module, name) for module, name, _ in called() if name in names] == []


def test_arrays_of_zarr_are_opened_as_format_3_alone():
    """Those of format 2 may name any codec of numcodecs, of which one unpickles."""
    opens = {"zarr.open", "zarr.open_array", "zarr.open_group", "zarr.load"}
    found = [(module, call) for module, name, call in called() if name in opens]
    assert found
    for module, call in found:
        assert value_of(call, "zarr_format") == 3, module


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (self.place,)


def of_format_2(place: Path, shape: list[int], dtype: str, trap: Path, **more: object) -> None:
    """Write an array whose codec unpickles."""
    place.mkdir(parents=True)
    record = {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "order": "C",
        "compressor": {"id": "pickle", "protocol": 5}, "filters": None, "fill_value": 0,
    }  # fmt: skip
    (place / ".zarray").write_text(json.dumps(record))
    (place / ".zattrs").write_text(json.dumps(more))
    (place / ".".join("0" * len(shape))).write_bytes(pickle.dumps(Trap(trap)))


@pytest.mark.parametrize("dtype", ["|u1", "|O"])
def test_masks_in_another_format_of_zarr_are_not_read(tmp_path: Path, dtype: str):
    for group in ("masks", "confidence", "origins"):
        place = tmp_path / "arrays.zarr" / group / "4x5"
        of_format_2(place, [1, 4, 5], dtype, tmp_path / "sprung")
    assert ArrayFolder(tmp_path / "arrays.zarr").read(4, 5, 0) is None
    assert not (tmp_path / "sprung").exists()


def test_features_in_another_format_of_zarr_are_not_read(tmp_path: Path):
    encoder = EncoderIdentity(
        name="test", weights_sha256="0" * 64, mean=(0.5,) * 3, std=(0.2,) * 3, width=8, stride=16,
        licence="none",
    )  # fmt: skip
    block = tmp_path / "features" / f"embedding-{encoder.fingerprint}" / ("0" * 16)
    of_format_2(block, [1, 8], "<f4", tmp_path / "sprung", content_hashes=["a"])
    results = FeatureCache(tmp_path / "features", 10**9).results(encoder, FeatureKind.EMBEDDING)
    assert "a" not in results
    assert not block.exists()
    assert not (tmp_path / "sprung").exists()


def test_the_one_table_that_is_written_holds_no_formula():
    """A program of spreadsheets runs cells that begin so; this one is of names made here alone."""
    assert {m for m, name, _ in called() if name in WRITES_TABLES} == {"synthesis/sample.py"}
    table = Path(__file__).parents[2] / "sample_data" / "labels.csv"
    with table.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) > 100
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
