"""Changes to bytes, JSON and safetensors that leave most of their structure as it was."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 3, 7, 8, 127, 128, 254, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1,
    2**63 - 1, 2**63, 2**64, -(2**63), 10**40, 0.5, -0.0, 1e308, -1e308, 1e-308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip

TEXTS = (
    "", " ", "\n", "\t", "\0", "a\0b", "a\nb", "a\r\nb", '"', "'", '"a"', "a,b;c\td", "\\", "..",
    "../../canary", "/etc/passwd", "/", ".", "~", "C:\\con", "\u202egnp.exe", "\u0627\u0644\u0648",
    "\U0001f52c", "e\u0301", "\ufeff", "\u2028", "<b>bold</b>", "<img src=file:///etc/passwd>",
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "=1+1", "+1", "-1", "@SUM(A1)", "%s%n{0}",
    "${HOME}", "__import__('os').system('id')", "NaN", "inf", "-inf", "1e999", "null", "None",
    "tumour", "TUMOUR", "Tumour ", "stroma", "\u017ftroma", "1", "0", "256", "a" * 300,
    "b" * 200_000,
)  # fmt: skip

FILE_NAMES = (
    "plain", "with space", "two\nlines", "tab\there", 'quo"te', "apo'strophe", "semi;colon,comma",
    "\U0001f52c", "\u202egnp", "\u0627\u0644\u0648\u0631\u0645", "e\u0301", "<b>bold<b>",
    "=cmd|'calc'!A0", "-option", "%s{0}", "a" * 200, "CON", "..dots..", "[1 0]", "[", "#?&",
)  # fmt: skip


def replaced(content: bytes, place: int, new: bytes) -> bytes:
    """Return `content` with `new` in place of as many bytes."""
    return content[:place] + new + content[place + len(new) :]


def damaged(random: Random, content: bytes) -> bytes:
    """Return `content` with some of its bytes changed, lost, or there twice."""
    if not content:
        return content
    place = random.randrange(len(content))
    length = random.choice((1, 2, 4, 8, 100, 1000))
    match random.randrange(7):
        case 0:
            return replaced(content, place, bytes([content[place] ^ (1 << random.randrange(8))]))
        case 1:
            return content[:place]
        case 2:
            return content[:place] + content[place + length :]
        case 3:
            return content[:place] + content[place : place + length] + content[place:]
        case 4:
            return replaced(content, place, random.randbytes(length))[: len(content)]
        case 5:
            return replaced(content, place, random.choice((b"\0", b"\xff")) * length)[
                : len(content)
            ]
        case _:
            changed = bytearray(content)
            for _ in range(random.randint(1, 20)):
                changed[random.randrange(len(changed))] = random.randrange(256)
            return bytes(changed)


def placed(random: Random, folder: Path, suffix: str, content: bytes) -> Path:
    """Write `content` under a name that may be hostile, or something that is no file there."""
    name = random.choice(FILE_NAMES) if random.random() < 0.3 else "plain"
    path = folder / (name + suffix)
    odd = random.random()
    if odd > 0.03:
        path.write_bytes(content)
    elif odd > 0.025:
        path.mkdir()
    elif odd > 0.02:
        path.write_bytes(b"")
    elif odd > 0.015:
        path.symlink_to(path.name)
    elif odd > 0.01:
        path.symlink_to(folder)
    elif odd > 0.005:
        (folder / "real").write_bytes(content)
        path.symlink_to(folder / "real")
    else:
        os.mkfifo(path)
    return path


def changed_value(random: Random, value: Any) -> Any:
    """Return another value for a field, of its own kind or of another."""
    match random.randrange(8):
        case 0:
            return random.choice(NUMBERS)
        case 1:
            return random.choice(TEXTS)
        case 2:
            return random.choice((None, True, False, [], {}, [[]], [None], {"": None}))
        case 3:
            return [value]
        case 4:
            return {"id": value}
        case 5 if isinstance(value, str):
            return value + random.choice(TEXTS)
        case 6 if isinstance(value, int | float):
            return value + random.choice((-1, 1, 0.5, 255, 256))
        case _:
            return str(value) if not isinstance(value, str) else 0


def changed_json(random: Random, document: Any) -> Any:
    """Return a copy of a document with one place changed, lost, added, or there twice."""
    if isinstance(document, dict) and document and random.random() < 0.8:
        copy = dict(document)
        key = random.choice(list(copy))
        match random.randrange(6):
            case 0:
                del copy[key]
            case 1:
                copy[random.choice(("extra", "id", "__class__", random.choice(TEXTS)))] = copy[key]
            case _:
                copy[key] = changed_json(random, copy[key])
        return copy
    if isinstance(document, list) and document and random.random() < 0.8:
        items = list(document)
        place = random.randrange(len(items))
        match random.randrange(6):
            case 0:
                del items[place]
            case 1:
                items.insert(place, items[place])
            case 2:
                items = items * random.choice((2, 300))
            case _:
                items[place] = changed_json(random, items[place])
        return items
    return changed_value(random, document)


def json_text(random: Random, document: Any) -> bytes:
    """Return a changed document as text, whose very form may be broken, too."""
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        document = changed_json(random, document)
    text = json.dumps(document)
    match random.randrange(24):
        case 0:
            depth = random.choice((10, 150, 250, 3000, 100_000))
            text = random.choice(("[", '{"a":', "[[],")) * depth + text
        case 1:
            depth = random.choice((150, 250, 3000))
            text = text.replace("null", "[" * depth + "]" * depth, 1)
        case 2:
            text = text.replace('"', "'")
        case 3:
            text = text.replace("}", ', "id": 1, "id": 2}', 1)
        case 4:
            text = "\ufeff" + text
        case 5:
            text = text.replace('": "', '": "\\ud800', 1)
        case 6:
            text += random.choice((text, "\0", "//", " " * 100_000))
        case 7:
            return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig")))
        case 8:
            return damaged(random, text.encode())
        case 9:
            text = text.replace(": 1", f": {'9' * random.choice((20, 400, 5000))}", 1)
        case _:
            pass
    return text.encode()


def parts_of_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file as JSON, and its data."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def safetensors(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """Put a safetensors file together; `length` is what it says of its header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def changed_safetensors(
    random: Random, content: bytes, change_metadata: Callable[[Random, dict[str, str]], None]
) -> bytes:
    """Return a safetensors file with a change to its header, its records or its data."""
    header, data = parts_of_safetensors(content)
    names = [name for name in header if name != "__metadata__"]
    length = None
    match random.randrange(10):
        case 0:
            return damaged(random, content)
        case 1:
            length = random.choice((0, 1, 8, 10**6, 10**8, 10**9, 2**40, 2**63, 2**64 - 1))
        case 2:
            data = random.choice((b"", data[:-1], data + b"\0", data * 2, b"\xff" * len(data)))
        case 3 | 4:
            name = random.choice(names)
            _change_tensor(random, header, name, data)
        case 5:
            name = random.choice(names)
            new = random.choice((*TEXTS, name + "x", "__metadata__"))
            header[new] = header.pop(name)
        case 6:
            header = changed_json(random, header)
        case _:
            change_metadata(random, header.setdefault("__metadata__", {}))
    text = json.dumps(header).encode()
    if random.random() < 0.02:
        text = text[:-1] + b"," + text[1:]  # every key twice
    return safetensors(text, data, length)


def _change_tensor(random: Random, header: dict[str, Any], name: str, data: bytes) -> None:
    tensor: Mapping[str, Any] = header[name]
    first, last = tensor["data_offsets"]
    offsets: Sequence[Any]
    match random.randrange(4):
        case 0:
            dtype = random.choice(
                ("F64", "F16", "BF16", "I64", "I32", "I8", "U8", "U16", "BOOL", "F8_E4M3",
                 "F8_E5M2", "C64", "F4", "X", "", None)
            )  # fmt: skip
            header[name] = {**tensor, "dtype": dtype}
            if isinstance(dtype, str) and random.random() < 0.7:
                header[name]["shape"] = _shape_for(dtype, last - first)
        case 1:
            shape = list(tensor["shape"])
            shape = random.choice(
                (shape[::-1], [*shape, 1], [1, *shape], [], [0], [2**62, 2**62], [-1], [1e3],
                 [2**32, 2**32, 0], [last - first], [1] * 5000)
            )  # fmt: skip
            header[name] = {**tensor, "shape": shape}
        case 2:
            offsets = random.choice(
                ([0, 0], [last, first], [first, 2**63], [first + 1, last + 1], [0, len(data)],
                 [-1, last], [first, last, last], [], None, [2**64 - 8, 2**64])
            )  # fmt: skip
            header[name] = {**tensor, "data_offsets": offsets}
        case _:
            header[name] = changed_json(random, dict(tensor))


def _shape_for(dtype: str, size: int) -> list[int]:
    width = {"F64": 8, "I64": 8, "C64": 8, "I32": 4, "F16": 2, "BF16": 2, "U16": 2}.get(dtype, 1)
    return [size // width]
