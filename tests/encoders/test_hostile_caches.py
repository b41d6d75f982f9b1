"""Whatever stands in a cache that is not its own is as good as absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.identity import EncoderIdentity

ENCODER = EncoderIdentity(
    name="test", weights_sha256="0" * 64, mean=(0.5,) * 3, std=(0.2,) * 3, width=8, stride=16,
    licence="none",
)  # fmt: skip
KIND = FeatureKind.EMBEDDING
HASHES = ("a" * 64, "b" * 64)


def cache(folder: Path, budget: int = 10**9) -> FeatureCache:
    return FeatureCache(folder, budget)


@pytest.fixture
def block(tmp_path: Path) -> Path:
    cache(tmp_path).results(ENCODER, KIND).write(HASHES, np.ones((2, 8), np.float32))
    (block,) = tmp_path.glob("*/*")
    return block


def of_shape(shape: list[int]) -> Callable[[dict], object]:
    def edit(record: dict) -> None:
        record["shape"] = shape
        record["chunk_grid"]["configuration"]["chunk_shape"] = shape

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        of_shape([2, 2**40]),
        of_shape([2, 9]),
        of_shape([]),
        lambda record: record["attributes"].update(content_hashes=["a"] * 3),
        lambda record: record.update(node_type=None),
        lambda record: record.update(data_type="float64"),
    ],
    ids=["endless", "width", "none", "hashes", "node", "type"],
)
def test_a_record_of_another_block_is_removed(block: Path, edit: Callable[[dict], object]) -> None:
    record = json.loads((block / "zarr.json").read_bytes())
    edit(record)
    (block / "zarr.json").write_text(json.dumps(record))
    assert HASHES[0] not in cache(block.parents[1]).results(ENCODER, KIND)
    assert not block.exists()


@pytest.mark.parametrize("text", ["1.5", "[]", "null", '{"a":' * 5000])
def test_a_record_that_is_none_is_removed(block: Path, text: str) -> None:
    (block / "zarr.json").write_text(text)
    assert HASHES[0] not in cache(block.parents[1]).results(ENCODER, KIND)
    assert not block.exists()


@pytest.mark.parametrize("target", ["nowhere", "itself", "folder"])
def test_a_link_is_removed_and_never_followed(block: Path, tmp_path: Path, target: str) -> None:
    moved = block.rename(tmp_path / "moved")
    places = {"nowhere": tmp_path / "nowhere", "itself": block, "folder": moved}
    block.symlink_to(places[target])
    results = cache(tmp_path).results(ENCODER, KIND)
    assert HASHES[0] not in results
    assert not block.is_symlink()
    assert (moved / "zarr.json").is_file()


@pytest.mark.parametrize("target", ["nowhere", "."])
def test_a_link_keeps_no_results_from_being_written(block: Path, target: str) -> None:
    results = cache(block.parents[1], budget=500).results(ENCODER, KIND)
    (block.parent / "link").symlink_to(target)
    results.write(("c" * 64,), np.ones((1, 8), np.float32))
    assert not block.exists(), "the oldest of them goes"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
@pytest.mark.parametrize("name", ["zarr.json", "c/0/0"])
def test_a_named_pipe_is_removed_and_never_waited_for(block: Path, name: str) -> None:
    (block / name).unlink()
    os.mkfifo(block / name)
    script = (
        "import sys; from pathlib import Path;"
        "from test_hostile_caches import ENCODER, HASHES, KIND, cache;"
        "print(cache(Path(sys.argv[1])).results(ENCODER, KIND).read(HASHES[0]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(block.parents[1])],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,  # whoever waits would wait for ever
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert child.stdout == "None\n"
    assert not block.exists()
