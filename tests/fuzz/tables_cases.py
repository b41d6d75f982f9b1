"""Hostile tables of labels, as text and as workbooks."""

from __future__ import annotations

import io
import re
import zipfile
from functools import cache
from pathlib import Path
from random import Random

from driven_jobs import finish
from fuzzed_reader import FuzzedReader
from image_files import noise
from mutations import NUMBERS, TEXTS, damaged, placed
from openpyxl import Workbook

from napari_protoseg.labels.reader import read_labels
from napari_protoseg.labels.source import find_labels
from napari_protoseg.labels.splits import read_splits
from napari_protoseg.labels.tables import read_table
from napari_protoseg.schema import ClassSchema

_SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
_EARLIER = (ClassSchema.from_names(["tumour"]),)
# Necrosis was merged into the tumour, which had another name before; fat was removed.
_MERGED = ClassSchema(
    classes=(
        _SCHEMA.classes[0].model_copy(update={"former": ("cancer", "necrosis")}),
        _SCHEMA.classes[1],
    ),
    retired=(3, 4),
    merged=((3, 1),),
)
_SCHEMAS = (None, _SCHEMA, _MERGED)
_FILES = ("a.png", "b.png", "deep/c.png", "[1 0].png", "e\u0301.png", "\u202ed.png")
_TITLES = (
    ("file", "tumour", "stroma"),
    ("file", "labels"),
    ("image", "case", "mpp", "split", "tumour", "stroma"),
    ("file", "split"),
    ("name", "patient", "class"),
    ("file", "cancer", "stroma"),
    ("file", "tumour", "necrosis", "stroma"),
)
_STRANGE_TITLES = (
    "file", "File", "image", "tumour", "TUMOUR", "labels", "split", "case", "slide", "mpp", "",
    "necrosis", "cancer", "fat",
)  # fmt: skip
_SUITING = {
    "labels": ("cancer;necrosis", "fat", "tumour", "stroma;tumour", "tumour|stroma", "", "?"),
    "class": ("tumour", "stroma", ""),
    "split": ("train", "validation", "val", ""),
    "case": ("p1", "p2", ""),
    "patient": ("p1", "p2"),
    "mpp": ("0.5", "0.25", ""),
    "tumour": ("1", "0", "yes", "no", "", "-1", "1.0"),
    "stroma": ("1", "0", "absent", "present", "?"),
    "cancer": ("1", "0", ""),
    "necrosis": ("1", "0", "?"),
}


def _rows(random: Random) -> list[list[str]]:
    titles = list(random.choice(_TITLES))
    files = random.sample(_FILES, random.randint(1, len(_FILES)))
    rows = [[f, *(random.choice(_SUITING[title]) for title in titles[1:])] for f in files]
    rows.insert(0, titles)
    for _ in range(random.choice((0, 1, 1, 2))):
        row = rows[random.randrange(len(rows)) if random.random() < 0.8 else 0]
        place = random.randrange(len(row)) if row else 0
        match random.randrange(10):
            case 0:
                rows[0][random.randrange(len(rows[0])) if rows[0] else 0 :] = [
                    random.choice(_STRANGE_TITLES)
                ]
            case 1:
                row.append(random.choice(_STRANGE_TITLES))
            case 2:
                row[place : place + 1] = []
            case 3:
                rows.append(list(row))
            case 4:
                row[place : place + 1] = [str(random.choice(NUMBERS))]
            case 5:
                row[place : place + 1] = [random.choice((*_FILES, "", "/", "./."))]
            case 6:
                row.clear()
            case 7 if random.random() < 0.1:
                many = random.choice((300, 17_000, 100_000))
                rows[0].extend(f"c{number}" for number in range(many))
                for other in rows[1:]:
                    other.extend("1" * many)
            case 8 if random.random() < 0.02:
                rows.extend([f"{number}.png", "1", "0"] for number in range(100_000))
            case 9 if random.random() < 0.05:
                # Neither many rows nor many columns, but many cells.
                rows[0].extend(f"c{number}" for number in range(16_000))
                rows.extend([f"{number}.png", *"1" * 16_002] for number in range(140))
            case _:
                row[place : place + 1] = [random.choice(TEXTS)]
    if random.random() < 0.05 and rows[-1]:
        rows[-1][0] = random.choice(("", "/", "./.", "\\"))
    return rows


def _text(random: Random, rows: list[list[str]]) -> bytes:
    delimiter = random.choice((",", ",", ";", "\t", ",;"[random.randrange(2)], "|"))
    quoted = random.random() < 0.7
    lines = [
        delimiter.join(
            '"' + cell.replace('"', '""') + '"'
            if quoted and re.search(r"[\"\n\r,;\t]", cell)
            else cell
            for cell in row
        )
        for row in rows
    ]
    if random.random() < 0.03:
        lines[0] += random.choice((";file", ",name", "\timage"))
    text = random.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(lines)
    encoding = random.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-16-le"))
    content = text.encode(encoding, "replace")
    return damaged(random, content) if random.random() < 0.1 else content


@cache
def _workbooks() -> tuple[bytes, ...]:
    made = []
    for titles in (*_TITLES, ("picture", "tumour", "stroma"), ("file", "tumour", "cancer")):
        book = Workbook()
        book.active.append(titles)
        for file in _FILES[:3]:
            book.active.append([file, *(_SUITING[title][0] for title in titles[1:])])
        for addition in (None, None, None, "=1+1", "another sheet"):
            if addition == "another sheet":
                book.create_sheet("more").append([addition])
            elif addition is not None:
                book.active["B3"] = addition
            content = io.BytesIO()
            book.save(content)
            made.append(content.getvalue())
    return tuple(made)


def _workbook(random: Random) -> bytes:
    content = random.choice(_workbooks())
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    for _ in range(random.choice((0, 1, 1, 1, 2))):
        _change_part(random, parts)
    changed = io.BytesIO()
    with zipfile.ZipFile(
        changed, "w", random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
    ) as (packed):
        for name, part in parts.items():
            packed.writestr(name, part)
    content = changed.getvalue()
    return damaged(random, content) if random.random() < 0.15 else content


def _change_part(random: Random, parts: dict[str, bytes]) -> None:
    sheet = "xl/worksheets/sheet1.xml"
    name = random.choice((sheet, sheet, *parts))
    text = parts.get(name, b"")
    match random.randrange(13):
        case 0:
            parts.pop(name, None)
        case 1:
            parts[name] = damaged(random, text)
        case 2:
            far = random.choice((b"XFD1048576", b"A1048576", b"XFD1", b"A0", b"ZZZZ1", b"1A", b""))
            parts[sheet] = parts.get(sheet, b"").replace(b'r="B2"', b'r="' + far + b'"', 1)
        case 3:
            kind = random.choice((b"n", b"s", b"b", b"e", b"str", b"d", b"inlineStr", b"x"))
            parts[sheet] = re.sub(
                rb't="[a-z]+"', b't="' + kind + b'"', parts.get(sheet, b""), count=1
            )
        case 4:
            value = random.choice((b"99999999999", b"-1", b"1e999", b"NaN", b"", b"=1+1", b"1e308"))
            parts[sheet] = re.sub(
                rb"<v>[^<]*</v>", b"<v>" + value + b"</v>", parts.get(sheet, b""), count=1
            )
        case 5:
            formula = b'<f>WEBSERVICE("http://localhost")</f><v>'
            parts[sheet] = parts.get(sheet, b"").replace(b"<v>", formula, 1)
        case 6:
            entity = random.choice(
                (
                    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
                    b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
                    b"<!DOCTYPE a [<!ENTITY x0 'ha'>"
                    + b"".join(
                        b"<!ENTITY x%d '%s'>" % (n, b"&x%d;" % (n - 1) * 10) for n in range(1, 12)
                    )
                    + b"]>",
                )
            )
            head = text.find(b"?>") + 2 if b"?>" in text[:100] else 0
            parts[name] = (
                text[:head]
                + entity
                + text[head:].replace(b">file<", b">&x;<").replace(b">tumour<", b">&x11;<")
            )
        case 7 if random.random() < 0.4:
            parts[name] = text.replace(b"</", b" " * random.choice((10**6, 6 * 10**7)) + b"</", 1)
        case 8 if random.random() < 0.4:
            cells = random.choice((b"<c/>", b'<c r="A9"><v>1</v></c>', b"<row/>")) * 300_000
            parts[sheet] = parts.get(sheet, b"").replace(b"</sheetData>", cells + b"</sheetData>")
        case 9:
            depth = random.choice((100, 3000, 50_000))
            parts[name] = text.replace(b"<row", b"<a>" * depth + b"<row", 1)
        case 10:
            parts["../../canary"] = parts["/canary"] = b"overwritten"
        case 11:
            value = b'="' + random.choice(TEXTS[:44]).encode() + b'"'
            parts[name] = re.sub(
                rb'="[^"]*"', lambda found: value, text, count=random.randint(1, 4)
            )
        case _:
            parts[name] = random.choice((b"", text[: len(text) // 2], text * 2))


def _make(random: Random, folder: Path) -> Path:
    if random.random() < 0.2:
        return placed(random, folder, ".xlsx", _workbook(random))
    suffix = random.choice((".csv", ".csv", ".csv", ".tsv", ".txt", ".CSV", ".ods", ""))
    return placed(random, folder, suffix, _text(random, _rows(random)))


def _read(path: Path, random: Random) -> None:
    images = path.parent / path.name / "images"
    paths = [images / file for file in _FILES]
    schema = random.choice(_SCHEMAS)
    match random.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            table = read_table(path, schema)
            assert all(len(row.label) == len(table.schema.classes) for row in table.rows)
            assert {value for row in table.rows for value in row.label} <= {-1, 0, 1}
        case 5 | 6:
            read_splits(path, images, paths)
        case 7:
            _read_with_images(path, random, schema)
        case _:
            find_labels(images, paths, path, schema, _EARLIER)


def _read_with_images(path: Path, random: Random, schema: ClassSchema | None) -> None:
    images = path.with_name("images of " + path.name[-100:])
    for number, file in enumerate(_FILES[:3]):
        (images / file).parent.mkdir(parents=True, exist_ok=True)
        noise("RGB", 40 + number).save(images / file)
    options = {
        "case_pattern": random.choice((None, r"^(.)", "(", "nothing", r"(?P<case>\w)")),
        "micrometres_per_pixel": random.choice((None, 0.5, "0.5", r"(\d+)", "nan", "-1", 1e308)),
        "classes": random.choice((None, None, ("tumour", "stroma"), ("a", "A"))),
    }
    try:
        finish(read_labels(images, labels=path, schema=schema, workers=1, **options))
    except Exception as error:
        # An option is wrong, or an image: these name themselves.
        places = ("case pattern", "micrometres per pixel", "class", str(images))
        if str(getattr(error, "where", "")).startswith(places):
            return
        raise


READER = FuzzedReader(
    make=_make,
    read=_read,
    cases=14_000,
    code={
        "napari_protoseg/labels/sheets.py": (),
        "napari_protoseg/labels/tables.py": (),
        "napari_protoseg/labels/splits.py": (),
        "napari_protoseg/labels/matching.py": (),
    },
)
