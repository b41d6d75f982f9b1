"""Small image files of every kind that is read, and hostile changes within their structure."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import numpy as np
from mutations import damaged, replaced
from PIL import Image
from PIL.PngImagePlugin import PngInfo

_SIZES = (0, 1, 31, 32, 40, 255, 4000, 2**14, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@cache
def noise(mode: str, width: int = 40, height: int = 36) -> Image.Image:
    """Return an image of `mode` with noise in it: coloured, or small numbers."""
    random = np.random.default_rng(len(mode))
    pixels = random.integers(0, 255, (height, width, 3), np.uint8)
    pixels[..., 2] //= 3
    if mode in ("RGB", "RGBA", "CMYK", "YCbCr", "LAB"):
        return Image.fromarray(pixels).convert(mode)
    values = (pixels[..., 0] % 4).astype(np.uint8)
    if mode in ("P", "PA"):
        image = Image.fromarray(values)
        image.putpalette(
            [200, 10, 20, 30, 200, 30, 20, 30, 200, 250, 250, 250] + [255, 0, 255] * 252
        )
        return image
    if mode == "1":
        return Image.fromarray(values > 1)
    if mode == "I;16":
        return Image.fromarray(values.astype(np.uint16))
    if mode == "I":
        return Image.fromarray(values.astype(np.int32) * 300)
    if mode == "F":
        return Image.fromarray(values.astype(np.float32))
    return Image.fromarray(values).convert(mode)


@cache
def valid_files() -> dict[str, tuple[bytes, ...]]:
    """Return valid files by suffix."""
    text = PngInfo()
    text.add_text("protoseg-schema-fingerprint", "0123456789abcdef")
    text.add_text("comment", "x" * 500, zip=True)
    text.add_itxt("title", "\u0627\u0644\u0648")
    kinds: dict[str, list[tuple[str, dict[str, object]]]] = {
        ".png": [
            *((mode, {"pnginfo": text}) for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")),
            ("RGB", {"dpi": (25_400, 25_400)}),
            ("P", {"transparency": 1}),
            ("P", {"bits": 2}),
            ("RGB", {"save_all": True, "append_images": [noise("RGBA")]}),
        ],
        ".jpg": [
            ("RGB", {"quality": 60}),
            ("RGB", {"progressive": True, "dpi": (25_400, 25_400)}),
            ("L", {}),
            ("CMYK", {}),
        ],
        ".tif": [
            *(
                ("RGB", {"compression": name, "dpi": (25_400, 25_400)})
                for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")
            ),
            *((mode, {}) for mode in ("RGBA", "P", "L", "1", "I;16", "I", "F", "CMYK", "LAB")),
            ("RGB", {"resolution_unit": 3, "x_resolution": 20_000.0, "y_resolution": 20_000.0}),
            ("RGB", {"save_all": True, "append_images": [noise("RGB", 50)]}),
            ("1", {"compression": "group4"}),
            ("RGB", {"big_tiff": True}),
        ],
        ".bmp": [(mode, {}) for mode in ("RGB", "P", "L", "1", "RGBA")],
        ".webp": [
            ("RGB", {"quality": 50}),
            ("RGBA", {"lossless": True}),
            ("RGB", {"save_all": True, "append_images": [noise("RGB").rotate(90)]}),
        ],
    }
    return {
        suffix: tuple(_saved(suffix, mode, options) for mode, options in many)
        for suffix, many in kinds.items()
    }


def _saved(suffix: str, mode: str, options: dict[str, object]) -> bytes:
    content = io.BytesIO()
    kind = {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:])
    noise(mode).save(content, format=kind, **options)
    return content.getvalue()


def hostile(random: Random, suffix: str) -> bytes:
    """Return a file with a suffix, changed in a way that fits its kind, now and then not at all."""
    content = random.choice(valid_files()[suffix])
    change = _CHANGES[suffix]
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 3))):
        try:
            content = (damaged if random.random() < 0.25 else change)(random, content)
        except (struct.error, IndexError, ValueError):  # there is no structure left to change
            content = damaged(random, content)
    return content


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and data of each chunk of a PNG."""
    found, place = [], 8
    while place + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        found.append((kind, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Put a PNG together, its checksums right."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@cache
def png_bomb(width: int, height: int, *, bits: int = 8, colour: int = 2) -> bytes:
    """Return a PNG whose pixels are all zero: a thousandth of what they take."""
    row = 1 + -(-width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    palette = [(b"PLTE", bytes(range(6)))] if colour == 3 else []
    return png([(b"IHDR", header), *palette, (b"IDAT", data), (b"IEND", b"")])


def _changed_png(random: Random, content: bytes) -> bytes:
    chunks = png_chunks(content)
    if not chunks:
        return damaged(random, content)
    place = random.randrange(len(chunks))
    kind, data = chunks[place]
    match random.randrange(9):
        case 0 | 1:
            header = chunks[0][1]
            if random.random() < 0.5:
                at, new = random.choice((0, 4)), struct.pack(">I", random.choice(_SIZES))
            else:
                at, new = (
                    random.randrange(8, 13),
                    bytes([random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))]),
                )
            chunks[0] = (chunks[0][0], replaced(header, at, new)[:13])
        case 2:
            del chunks[place]
        case 3:
            chunks.insert(random.randrange(len(chunks) + 1), (kind, data))
        case 4:
            chunks[place] = (kind, damaged(random, data))
        case 5:
            added = (
                (b"tEXt", b"protoseg-schema-fingerprint\0" + random.randbytes(20)),
                (b"zTXt", b"a\0\0" + zlib.compress(bytes(3 * 10**7))),
                (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x" * 10**7)),
                (b"iCCP", b"a\0\0" + zlib.compress(bytes(3 * 10**7))),
                (b"eXIf", random.randbytes(30)),
                (b"pHYs", struct.pack(">IIB", 0, 0, 1)),
                (b"pHYs", struct.pack(">IIB", 2**32 - 1, 2**32 - 1, random.choice((0, 1, 9)))),
                (b"acTL", struct.pack(">II", random.choice((0, 1, 2, 2**31, 2**32 - 1)), 0)),
                (b"tRNS", random.randbytes(random.choice((0, 1, 2, 6, 256, 300)))),
                (b"PLTE", random.randbytes(random.choice((0, 1, 3, 768, 900)))),
                (b"gAMA", random.randbytes(random.choice((0, 4)))),
                (b"\0\xff<b", b""),
            )
            chunks.insert(random.randint(1, len(chunks)), random.choice(added))
        case 6:
            whole = png(chunks)
            at = whole.find(kind) - 4
            return replaced(whole, max(at, 0), struct.pack(">I", random.choice(_SIZES)))
        case 7:
            return damaged(random, png(chunks))
        case _:
            if random.random() < 0.05:
                side = random.choice((3000, 9000, 16_000))
                return png_bomb(side, side, colour=random.choice((0, 2, 3, 6)))
            random.shuffle(chunks)
    return png(chunks)


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the pixels."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        end = place + 2 + struct.unpack(">H", content[place + 2 : place + 4])[0]
        yield marker, place, end
        if marker == 0xDA:
            return
        place = end


def _changed_jpeg(random: Random, content: bytes) -> bytes:
    segments = list(_jpeg_segments(content))
    if not segments:
        return damaged(random, content)
    _, start, end = random.choice(segments)
    match random.randrange(7):
        case 0 | 1:
            frame = next((s for s in segments if 0xC0 <= s[0] <= 0xC2), segments[0])
            at = frame[1] + random.choice((4, 5, 7, 9, 10, 11))
            if random.random() < 0.6:
                at, new = (
                    frame[1] + random.choice((5, 7)),
                    struct.pack(">H", random.choice(_SIZES[:8])),
                )
                return replaced(content, at, new)
            return replaced(content, at, bytes([random.choice((0, 1, 4, 12, 0x44, 255))]))
        case 2:
            return content[:start] + content[end:]
        case 3:
            return content[:end] + content[start:end] * random.choice((1, 3, 200)) + content[end:]
        case 4:
            return content[:start] + damaged(random, content[start:end]) + content[end:]
        case 5:
            added = random.choice(
                (
                    b"\xff\xe1" + struct.pack(">H", 40) + b"Exif\0\0" + random.randbytes(32),
                    b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\1\1\2" + b"\xff" * 6 + b"\0\0",
                    b"\xff\xed" + struct.pack(">H", 40) + b"Photoshop 3.0\0" + random.randbytes(24),
                    b"\xff\xe2" + struct.pack(">H", 60) + b"MPF\0" + random.randbytes(54),
                    b"\xff\xe2" + struct.pack(">H", 30) + b"ICC_PROFILE\0" + random.randbytes(16),
                    b"\xff\xfe" + struct.pack(">H", 2),
                )
            )
            return content[:2] + added + content[2:]
        case _:
            return replaced(content, start + 2, struct.pack(">H", random.choice((0, 1, 2, 65535))))


def _changed_tiff(random: Random, content: bytes) -> bytes:
    if not content.startswith(b"II*\0"):
        return damaged(random, content)
    directory = struct.unpack("<I", content[4:8])[0]
    if directory + 2 > len(content):
        return damaged(random, content)
    count = struct.unpack("<H", content[directory : directory + 2])[0]
    entry = directory + 2 + 12 * random.randrange(max(count, 1))
    after = directory + 2 + 12 * count
    match random.randrange(9):
        case 0 | 1 | 2 | 3:
            field = random.choice((2, 4, 4, 8, 8, 8))
            new = (
                struct.pack("<H", random.randrange(0, 20))
                if field == 2
                else struct.pack("<I", random.choice((*_SIZES, 2, 3, 8, len(content) - 2)))
            )
            return replaced(content, entry + field, new)
        case 4:
            tags = (254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 284, 296, 317, 320, 322,
                    323, 324, 325, 338, 339, 347, 530, 700, 34675, 34665, 65000)  # fmt: skip
            return replaced(content, entry, struct.pack("<H", random.choice(tags)))
        case 5:
            return replaced(
                content, after, struct.pack("<I", random.choice((0, directory, 8, 2**31)))
            )
        case 6:
            new = struct.pack(
                "<H", random.choice((0, 1, 2, 7, 100, 32773, 34712, 50000, 5, 6, 32946))
            )
            for number in range(count):
                at = directory + 2 + 12 * number
                if content[at : at + 2] == struct.pack("<H", 259):
                    return replaced(content, at + 8, new)
            return content
        case 7:
            many = random.choice((3, 2000, 40_000))
            page = content[directory:after]
            at = len(content)
            pages = b"".join(
                page + struct.pack("<I", at + (n + 1) * (len(page) + 4) if n + 1 < many else 0)
                for n in range(many)
            )
            return replaced(content, after, struct.pack("<I", at)) + pages
        case _:
            return content[:directory] + damaged(random, content[directory:])


def _changed_bmp(random: Random, content: bytes) -> bytes:
    place = random.choice((2, 10, 14, 18, 22, 26, 28, 30, 34, 38, 42, 46, 50))
    sizes = (*_SIZES, 12, 40, 64, 108, 124, 3, 6, 2**32 - 36)
    return replaced(content, place, struct.pack("<I", random.choice(sizes)))


def _changed_webp(random: Random, content: bytes) -> bytes:
    match random.randrange(5):
        case 0:
            return replaced(content, 4, struct.pack("<I", random.choice(_SIZES)))
        case 1:
            return replaced(content, 16, struct.pack("<I", random.choice(_SIZES)))
        case 2:
            return replaced(content, random.randrange(12, 40), random.randbytes(3))
        case 3:
            flags = bytes([random.randrange(256), 0, 0, 0])
            canvas = struct.pack("<I", random.choice(_SIZES[3:8]))[:3] * 2
            extended = b"VP8X" + struct.pack("<I", 10) + flags + canvas
            return content[:12] + extended + content[12:]
        case _:
            kind = random.choice((b"VP8 ", b"VP8L", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XXXX"))
            return replaced(content, 12, kind)


_CHANGES: dict[str, Callable[[Random, bytes], bytes]] = {
    ".png": _changed_png,
    ".jpg": _changed_jpeg,
    ".tif": _changed_tiff,
    ".bmp": _changed_bmp,
    ".webp": _changed_webp,
}
