"""Hostile weights of networks: safetensors, and files of torch.save."""

from __future__ import annotations

import io
import pickle
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import torch
from fuzzed_reader import FuzzedReader
from harm import Harm
from mutations import NUMBERS, TEXTS, changed_safetensors, damaged, placed
from safetensors.torch import save

from napari_protoseg.encoders.tensor_names import as_timm_names
from napari_protoseg.encoders.weights import load_weights_into, read_weights

_TENSORS = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "conv.bias": torch.ones(2),
    "bn.num_batches_tracked": torch.tensor(3),
}


def _module() -> torch.nn.Module:
    module = torch.nn.Module()
    module.conv = torch.nn.Conv2d(3, 2, 2)
    return module


@cache
def _saved(kind: int) -> bytes:
    content = io.BytesIO()
    held = ({**_TENSORS}, {"state_dict": _TENSORS, "epoch": 3}, {"model": _TENSORS})[kind % 3]
    torch.save(held, content, _use_new_zipfile_serialization=kind < 3)
    return content.getvalue()


def _pickled(random: Random) -> bytes:
    """Return a pickle that calls, allocates or nests, on its own or as torch.save writes it."""
    number = random.choice((10**10, 2**40, 2**62, -1, 0))
    pickles: list[bytes] = [
        pickle.dumps(Harm(), protocol=2),
        b"\x80\x02cos\nsystem\nX\x08\0\0\0touch ab\x85R.",
        b"\x80\x02c__builtin__\neval\nX\x03\0\0\x001+1\x85R.",
        b"\x80\x02cbuiltins\nbytearray\nL%dL\n\x85R." % number,
        b"\x80\x02c__builtin__\nbytearray\nL%dL\n\x85R." % number,
        b"\x80\x02ctorch\nSize\nL%dL\n\x85\x85R." % number,
        b"\x80\x02" + b"(" * random.choice((10, 10**6)) + b"t.",
        b"\x80\x02" + b"]" + b"2" * random.choice((10, 10**6)) + b".",
        b"\x80\x02}X\x01\0\0\0aL" + b"9" * random.choice((20, 10**5)) + b"L\ns.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n).",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02}r\xff\xff\xff\xffj\xff\xff\xff\xff.",
        pickle.dumps({"a": random.choice((*TEXTS, *NUMBERS))}, protocol=2),
        pickle.dumps([[[]]], protocol=random.choice((0, 2, 4, 5))),
    ]
    chosen = random.choice(pickles)
    if random.random() < 0.5:
        return chosen
    return _packed({"archive/data.pkl": chosen, "archive/version": b"3\n"}, zipfile.ZIP_STORED)


def _packed(parts: dict[str, bytes], kind: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as packed:
        for name, part in parts.items():
            packed.writestr(name, part)
    return content.getvalue()


def _archive(random: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_saved(random.randrange(3)))) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    name = random.choice(tuple(parts))
    table = next(key for key in parts if key.endswith("data.pkl"))
    kind = zipfile.ZIP_STORED
    match random.randrange(8):
        case 0:
            del parts[name]
        case 1:
            parts[name] = damaged(random, parts[name])
        case 2:
            parts[table] = damaged(random, parts[table])
        case 3:
            old = random.choice((b"FloatStorage", b"LongStorage"))
            new = random.choice((b"HalfStorage", b"ByteStorage", b"X", b"ComplexDoubleStorage"))
            parts[table] = parts[table].replace(old, new)
        case 4:
            # The numbers of elements and the sizes are single bytes after K.
            place = parts[table].find(b"K", random.randrange(len(parts[table]))) + 1
            new = bytes([random.choice((0, 1, 7, 200, 255))])
            parts[table] = parts[table][:place] + new + parts[table][place + 1 :]
        case 5:
            kind = zipfile.ZIP_DEFLATED
            if random.random() < 0.1:
                parts["archive/data/0"] = bytes(random.choice((10**5, 2 * 10**8)))
        case 6:
            parts["../../canary"] = parts["/canary"] = b"overwritten"
        case _:
            parts[name] = b""
    return _packed(parts, kind)


def _make(random: Random, folder: Path) -> Path:
    suffix = random.choice((".pth", ".pt", ".bin", ".safetensors"))
    choice = random.random()
    if suffix == ".safetensors" or choice < 0.05:
        content = save(
            {f"module.{name}" if choice < 0.2 else name: t for name, t in _TENSORS.items()},
            metadata={"format": "pt"},
        )
        if choice < 0.9:
            content = changed_safetensors(random, content, _changed)
    elif choice < 0.4:
        content = _archive(random)
    elif choice < 0.7:
        content = _pickled(random)
    else:
        content = _saved(random.randrange(6))
        if choice < 0.95:
            content = damaged(random, content)
    return placed(random, folder, suffix, content)


def _changed(random: Random, metadata: dict[str, str]) -> None:
    metadata[random.choice(TEXTS)] = random.choice(TEXTS)


def _read(path: Path, random: Random) -> None:
    weights = read_weights(path)
    assert all(isinstance(tensor, torch.Tensor) for tensor in weights.state_dict.values())
    if random.random() < 0.5:
        load_weights_into(_module(), weights, without=("bn",))
    else:
        as_timm_names(weights, _module())


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=8_000,
    code={
        "napari_protoseg/encoders/weights.py": (
            "read_weights", "load_weights_into", "_state_dict", "_reason",
        ),
    },
)  # fmt: skip
