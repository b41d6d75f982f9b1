from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import napari_protoseg

npe2 = pytest.importorskip("npe2")
pytest.importorskip("build")
pytest.importorskip("hatchling")

REPOSITORY = Path(napari_protoseg.__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "napari.yaml")


def build(source: Path, out: Path, kind: str) -> Path:
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out)]
    child = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads: others may be writing to the work tree."""
    if not (REPOSITORY / "pyproject.toml").is_file():
        pytest.skip("the package is not installed from its repository")
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(REPOSITORY / name, folder)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        REPOSITORY / "napari_protoseg", folder / "napari_protoseg", symlinks=True, ignore=unwanted
    )
    (folder / "sample_data").mkdir()
    (folder / "sample_data" / "tile.png").write_bytes(b"large")
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"), "wheel")


def test_wheel_holds_the_manifest_as_a_file_of_its_own(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = archive.getinfo("napari_protoseg/napari.yaml")
        assert stat.S_ISREG(entry.external_attr >> 16)
        assert archive.read(entry) == (REPOSITORY / "napari.yaml").read_bytes()


def test_manifest_of_the_unpacked_wheel_validates(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    npe2.PluginManifest.from_file(tmp_path / "napari_protoseg" / "napari.yaml").validate_imports()
    (metadata,) = tmp_path.glob("*.dist-info")
    assert (
        "napari-protoseg = napari_protoseg:napari.yaml"
        in (metadata / "entry_points.txt").read_text()
    )


_OPEN_SAMPLES = """
import sys
from pathlib import Path

import napari_protoseg
from napari.layers import Layer
from npe2 import PluginManager, PluginManifest

assert Path(napari_protoseg.__file__).is_relative_to(sys.argv[1]), napari_protoseg.__file__
plugins = PluginManager.instance()
plugins.register(PluginManifest.from_distribution("napari-protoseg"))
for sample in plugins.get_manifest("napari-protoseg").contributions.sample_data:
    layers = [Layer.create(*made) for made in sample.open()]
    print(sample.key, *(f"{type(layer).__name__} {layer.data.any()}" for layer in layers))
came = [module for name, module in sys.modules.items() if name.startswith("napari_protoseg.")]
assert all(Path(module.__file__).is_relative_to(sys.argv[1]) for module in came)
"""


def test_samples_of_the_unpacked_wheel_open_as_layers(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("napari")
    unpacked, elsewhere = tmp_path / "unpacked", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    child = subprocess.run(
        [sys.executable, "-c", _OPEN_SAMPLES, str(unpacked)],
        capture_output=True,
        text=True,
        check=False,
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == [
        "sample_project Image True",
        "sample_tissue Image True Labels True",
    ]


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "napari_protoseg/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"napari_protoseg"}
    assert not [name for name in names if name.endswith(".png")]


def test_a_wheel_made_from_the_source_archive_is_the_same(
    source: Path, wheel: Path, tmp_path: Path
) -> None:
    archive = build(source, tmp_path / "archive", "sdist")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = build(unpacked, tmp_path / "again", "wheel")
    with zipfile.ZipFile(again) as second, zipfile.ZipFile(wheel) as first:
        assert set(second.namelist()) == set(first.namelist())
