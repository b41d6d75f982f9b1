"""Hostile caches of features: whatever stands there is as good as absent."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from fuzzed_reader import FuzzedReader
from harm import Harm
from mutations import NUMBERS, changed_json, damaged, json_text

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.identity import EncoderIdentity

_WIDTH = 8
_HASHES = ("a" * 64, "b" * 64, "c" * 64)
_ENCODER = EncoderIdentity(
    name="test_resnet",
    weights_sha256="0" * 64,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    width=_WIDTH,
    stride=16,
    licence="none",
)
_SHAPES = {FeatureKind.EMBEDDING: (_WIDTH,), FeatureKind.DENSE: (_WIDTH, 3, 2)}


@cache
def _valid() -> dict[str, bytes]:
    """Return the files of a cache with a block of each kind, by their paths in it."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        made = FeatureCache(Path(place), 10**9)
        for kind, shape in _SHAPES.items():
            made.results(_ENCODER, kind).write(
                _HASHES, random.normal(size=(len(_HASHES), *shape)).astype(kind.dtype)
            )
        return {
            path.relative_to(place).as_posix(): path.read_bytes()
            for path in Path(place).rglob("*")
            if path.is_file()
        }


def _make(random: Random, folder: Path) -> Path:
    path = folder / "features"
    for name, content in _valid().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    for _ in range(random.choice((0, 1, 1, 2))):
        _change(random, path)
    return path


def _change(random: Random, path: Path) -> None:
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    if not files:
        return
    file = random.choice(files)
    block = path / Path(*file.relative_to(path).parts[:2])
    is_whole = block.is_dir() and not block.is_symlink()  # no earlier change has replaced it
    match random.randrange(10):
        case 0:
            file.unlink()
        case 1:
            file.write_bytes(damaged(random, file.read_bytes()))
        case 2 if is_whole:
            _of_format_2(random, block)
        case 3:
            file.unlink()
            file.mkdir()
        case 4 if is_whole:
            shutil.rmtree(block)
            block.symlink_to(random.choice((path, block, "/etc", "nowhere")))
        case 5 if is_whole:
            shutil.rmtree(block)
            block.write_bytes(b"a file")
        case _:
            with suppress(OSError, ValueError, TypeError, LookupError):  # an earlier change
                _change_record(random, block / "zarr.json")


def _change_record(random: Random, file: Path) -> None:
    record = json.loads(file.read_bytes())
    huge = random.choice((*NUMBERS, 2**20, 2**40))
    match random.randrange(7):
        case 0:
            record["shape"][random.randrange(len(record["shape"]))] = huge
        case 1:
            shape = record["chunk_grid"]["configuration"]["chunk_shape"]
            shape[random.randrange(len(shape))] = huge
        case 2:
            record["data_type"] = random.choice(("float64", "uint8", "string", "r8", "float16"))
        case 3:
            record["attributes"]["content_hashes"] = random.choice(
                ([], ["a"] * 3, [1, 2, 3], [[], {}, None], list(_HASHES) * 2, "abc", None)
            )
        case 4:
            record["shape"] = random.choice(([], [3], [3, 1], [3, 8, 1], [0, 8], [3, 8, 3, 2, 1]))
        case 5:
            file.write_bytes(json_text(random, record))
            return
        case _:
            record = changed_json(random, record)
    file.write_text(json.dumps(record))


def _of_format_2(random: Random, block: Path) -> None:
    """Put an array of Zarr's format 2 in the place of a block, whose codec unpickles."""
    shutil.rmtree(block)
    block.mkdir()
    record = {
        "zarr_format": 2,
        "shape": [3, _WIDTH],
        "chunks": [3, _WIDTH],
        "dtype": random.choice(("<f4", "|O")),
        "compressor": random.choice((None, {"id": "pickle", "protocol": 5})),
        "fill_value": 0,
        "order": "C",
        "filters": random.choice((None, [{"id": "vlen-utf8"}], [{"id": "pickle"}])),
    }
    (block / ".zarray").write_text(json.dumps(record))
    (block / ".zattrs").write_text(json.dumps({"content_hashes": _HASHES}))
    (block / "0.0").write_bytes(pickle.dumps(Harm()))


def _read(path: Path, random: Random) -> None:
    made = FeatureCache(path, random.choice((10**9, 10**9, 500, 0)))
    for kind, shape in _SHAPES.items():
        results = made.results(_ENCODER, kind)
        found = dict(results.read_many(_HASHES)) if random.random() < 0.5 else {}
        found |= {name: results.read(name) for name in _HASHES if name in results}
        for result in found.values():
            assert result is None or (
                result.shape[0] == shape[0]
                and result.ndim == len(shape)
                and result.dtype == kind.dtype
                and np.isfinite(result).all()
            )
        results.write(("d" * 64,), np.ones((1, *shape), kind.dtype))


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=4_000,
    code={
        "napari_protoseg/encoders/cache.py": (
            "CachedResults.__init__", "CachedResults.read", "CachedResults.read_many",
            "CachedResults.write", "CachedResults._index", "CachedResults._listed",
            "CachedResults._load", "FeatureCache.evict", "_remove",
        ),
    },
)  # fmt: skip
