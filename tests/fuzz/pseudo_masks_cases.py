"""Hostile pseudo-masks, which a training of the second stage keeps in its folder."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from fuzzed_reader import FuzzedReader
from mutations import damaged, json_text

from napari_protoseg.training.pseudo_masks import PseudoMask, PseudoMasks, PseudoMaskWriter

_SHAPE = (6, 7)
_CLASSES = 3


@cache
def _valid() -> tuple[bytes, bytes]:
    """Return the limits, and the mask of an image."""
    random = np.random.default_rng(0)
    mask = PseudoMask(
        random.choice(np.array([0, 1, 2, 255], np.uint8), _SHAPE),
        random.integers(1, 256, _SHAPE, np.uint8),
    )
    with tempfile.TemporaryDirectory() as place:
        writer = PseudoMaskWriter(Path(place), _CLASSES)
        writer.add(1, mask)
        writer.finish(0.2)
        return Path(place, "limits.json").read_bytes(), Path(place, "000001.npz").read_bytes()


def _array(random: Random) -> bytes:
    """Return an array as numpy saves it, of another kind than is expected."""
    kinds = ("u1", "i1", "<u2", ">i4", "f4", "c8", "?", "S3", "U2", "M8[s]")
    content = io.BytesIO()
    shape = random.choice((_SHAPE, _SHAPE[::-1], (), (0,), (42,), (6, 7, 1), (6, 0), (1, 42)))
    array = np.zeros(shape, random.choice(kinds))
    if random.random() < 0.2:
        array = np.asfortranarray(np.full(shape, 7, "u1"))
    if random.random() < 0.1:
        array = np.array([None, {"a": 1}], dtype=object)
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def _changed_array(random: Random, content: bytes) -> bytes:
    """Change what a saved array says of itself, in as many bytes."""
    head, _, pixels = content.partition(b"\n")
    match random.randrange(8):
        case 0:
            return damaged(random, content)
        case 1:
            shapes = ("(6, 8)", "(2**9, 7)", "(-6, -7)", "(6, 7.0)", "(True, 7)", "(9999999999, 9)",
                      "(100000, 100000)", "6")  # fmt: skip
            head = head.replace(b"(6, 7)", random.choice(shapes).encode())
        case 2:
            kind = random.choice((b"'|O'", b"'<f8'", b"'|V1'", b"[('a', '|u1')]", b"'x'", b"None"))
            head = head.replace(b"'|u1'", kind)
        case 3:
            head = head.replace(b"False", random.choice((b"True", b"None", b"1", b"exit()")))
        case 4:
            head = head[:6] + bytes((random.randrange(5), random.randrange(3))) + head[8:]
        case 5:
            head = head.replace(b"{", b"{" * random.choice((2, 300, 9000)))
        case 6:
            many = random.choice((0, 1, 254, 255))
            pixels = bytes([many]) * len(pixels)
        case _:
            pixels = random.choice((b"", pixels[:-1], pixels + b"\0", bytes(10**7)))
    if random.random() < 0.8:  # the length of the header is right again
        text = head[10:].rstrip()
        return head[:8] + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + pixels
    return head + b"\n" + pixels


def _changed_mask(random: Random, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    name = random.choice(tuple(parts))
    kind = zipfile.ZIP_DEFLATED
    match random.randrange(8):
        case 0:
            return damaged(random, content)
        case 1:
            del parts[name]
        case 2:
            parts[name] = _array(random)
        case 3:
            parts["../../canary"] = parts["/canary"] = b"overwritten"
        case 4:
            kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 5 if random.random() < 0.1:
            # As many pixels as it says, and a thousandth of them in the file.
            side = random.choice((9000, 30_000))
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                head, {"descr": "|u1", "fortran_order": False, "shape": (side, side)}
            )
            parts[name] = head.getvalue() + bytes(min(side * side, 10**8))
        case _:
            parts[name] = _changed_array(random, parts[name])
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", kind) as packed:
        for part, bytes_of_it in parts.items():
            packed.writestr(part, bytes_of_it)
    content = changed.getvalue()
    if random.random() < 0.1:  # an encrypted one, or of an unknown kind
        place = content.rfind(b"PK\1\2") + random.choice((8, 10))
        content = content[:place] + bytes([random.randrange(256)]) + content[place + 1 :]
    return content


def _make(random: Random, folder: Path) -> Path:
    limits, mask = _valid()
    path = folder / random.choice(("plain", "two\nlines", "\u202egnp", "<b>x<b>"))
    path.mkdir()
    if random.random() < 0.3:
        limits = json_text(random, json.loads(limits))
    else:
        mask = _changed_mask(random, mask)
    for name, content in (("limits.json", limits), ("000001.npz", mask)):
        odd = random.random()
        if odd > 0.02:
            (path / name).write_bytes(content)
        elif odd > 0.01:
            (path / name).mkdir()
        elif odd > 0.005:
            (path / name).symlink_to(name)
    return path


def _read(path: Path, random: Random) -> None:
    masks = PseudoMasks(path)
    assert not masks.holds(2)
    masks.holds(1)
    mask = masks.of(1)
    assert mask.positions.shape == mask.weights.shape
    assert mask.positions.dtype == mask.weights.dtype == np.uint8
    assert not mask.weights[mask.positions == 255].any()


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=6_000,
    code={
        "napari_protoseg/training/pseudo_masks.py": (
            "PseudoMasks.__init__", "PseudoMasks.holds", "PseudoMasks.of", "_arrays", "_array",
        ),
    },
)  # fmt: skip
