"""Whatever stands in files and names: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from terminal_runs import DONE, INPUT, STORAGE, protoseg, the_error
from tiny_project import CLASSES, tile
from typer.testing import CliRunner

from napari_protoseg.cli.commands import application
from napari_protoseg.cli.terminal import visible
from napari_protoseg.project.lock import LOCK

ODD_NAMES = (
    "two\nlines", "\x1b[2J\x1b]0;title\x07", 'quo"te', "\U0001f52c", "\u202egnp",
    "\u0627\u0644\u0648\u0631\u0645", "<b>bold<b>", "[red]red[red]", "=cmd|'calc'!A0", "-option",
)  # fmt: skip


def zero_png(side: int) -> bytes:
    """Return a PNG of zeros, a thousandth of what they take."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def ends(*arguments: str | Path) -> tuple[int, str]:
    """Run a command that may end in any way but a traceback; return its code and its error."""
    ran = CliRunner().invoke(application, [*map(str, arguments)])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert "\x1b" not in ran.output.replace("\x1b[31m", "").replace("\x1b[0m", "")
    assert "\u202e" not in ran.output
    assert ran.exit_code in (DONE, INPUT, STORAGE), ran.output
    return ran.exit_code, "" if ran.exit_code == DONE else the_error(ran.stderr)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of images under names of every kind."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(ODD_NAMES):
        content = png(tile(number % 4, number, number % 4).image)
        (folder / f"{name} {number}-[{number % 2} {1 - number % 2}].png").write_bytes(content)
    return folder


def test_images_of_any_name_become_a_project(tmp_path: Path, images: Path):
    project = tmp_path / "two\nlines"
    assert ends("new", project, "--images", images, "--classes", "a,b") == (DONE, "")
    assert ends("info", project) == (DONE, "")
    assert ends("check", project) == (DONE, "")


def test_an_image_of_a_steering_name_is_named_on_one_line(tmp_path: Path, images: Path):
    project = tmp_path / "p"
    protoseg("new", project, "--images", images, "--classes", "a,b")
    next(path for path in images.iterdir() if "\x1b" in path.name).write_bytes(b"")
    code, said = ends("bank", project, "--clusters", "1")
    assert code == INPUT
    assert r"\x1b[2J\x1b]0;title\x07" in said
    next(path for path in images.iterdir() if "\n" in path.name).write_bytes(b"")
    protoseg("check", project, code=1)


def bad_images() -> Iterator[tuple[str, bytes]]:
    """Yield contents that are no image to work on, and names for them."""
    sound = png(tile(0, 0, 0).image)
    huge = bytearray(sound)
    huge[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
    yield "bomb", zero_png(6000)
    yield "header", bytes(huge)
    yield "zero bytes", b""
    yield "text", b"no image"


@pytest.mark.parametrize("content", dict(bad_images()).values(), ids=dict(bad_images()).keys())
def test_hostile_images_are_left_out_and_named(tmp_path: Path, images: Path, content: bytes):
    (images / "bad-[1 0].png").write_bytes(content)
    said = protoseg("new", tmp_path / "p", "--images", images, "--classes", "a,b").out
    assert "Images left out (1)" in said
    assert "bad-[1 0].png" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_folders_links_and_pipes_called_like_images_end_in_a_sentence(tmp_path: Path, images: Path):
    (images / "folder-[1 0].png").mkdir()
    (images / "loop-[1 0].png").symlink_to("loop-[1 0].png")
    (images / "away-[1 0].png").symlink_to("/etc/passwd")
    (images / "around").symlink_to(images)
    os.mkfifo(images / "pipe-[1 0].png")
    ends("new", tmp_path / "p", "--images", images, "--classes", "a,b")


TABLES = {
    "outside": "file,a,b\n../../outside.png,1,0\n/etc/passwd,1,0\n",
    "columns": "file" + ",c" * 100_000 + "\nx.png" + ",1" * 100_000,
    "not a number": "file,a,b\n{0},nan,inf\n",
    "ids": "file,a,b\n{0},255,256\n",
    "twins": "file,a,A\n{0},1,0\n",
    "formula": "file,=1+1,@b\n{0},1,0\n",
    "empty": "",
    "quotes": 'file,a,b\n"{0},1,0\n',
}


@pytest.mark.parametrize("kind", TABLES)
def test_hostile_tables_end_in_a_sentence(tmp_path: Path, images: Path, kind: str):
    table = tmp_path / "labels.csv"
    table.write_text(TABLES[kind].replace("{0}", "-option 9-[1 0].png"), encoding="utf-8")
    code, said = ends("new", tmp_path / "p", "--images", images, "--labels", table)
    assert code != DONE or kind == "formula"
    assert code == DONE or "labels.csv" in said or "-option" in said


def test_a_table_that_is_a_folder_or_a_pipe_is_refused(tmp_path: Path, images: Path):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("folder.csv", "pipe.csv"):
        args = ("new", tmp_path / "p", "--images", images, "--labels", tmp_path / name)
        assert name in the_error(protoseg(*args, code=STORAGE).err)


MASKS = {
    "class 0": np.zeros((64, 64), np.uint8),
    "class 255": np.full((64, 64), 255, np.uint8),
    "class 256": np.full((64, 64), 256, np.uint16),
    "fractions": np.full((64, 64), np.nan, np.float32),
    "size": np.ones((3, 5), np.uint8),
}


@pytest.mark.parametrize("kind", MASKS)
def test_hostile_predictions_end_in_a_sentence(tmp_path: Path, made: Path, kind: str):
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for path in (made / "validation" / "masks").iterdir():
        form = "TIFF" if MASKS[kind].dtype == np.float32 else "PNG"
        Image.fromarray(MASKS[kind]).save(predictions / path.name, format=form)
    args = ("--masks", made / "validation" / "positions", "--classes", CLASSES)
    code, said = ends("evaluate", "--predictions", predictions, *args)
    assert (code == DONE) == (kind == "class 0")
    assert code == DONE or "predictions" in said


@pytest.mark.parametrize("text", ["", "[" * 10**5, "1", '{"recipe": {"margin": NaN}}'])
def test_a_hostile_record_of_predictions_is_named(made: Path, text: str):
    predictions = made / "validation" / "masks"
    (predictions / "prediction.json").write_text(text)
    args = ("--masks", made / "validation" / "positions", "--classes", CLASSES)
    code, said = ends("evaluate", "--predictions", predictions, *args)
    assert code == INPUT
    assert "prediction.json" in said


@pytest.mark.parametrize("text", ["", "[" * 10**5, '{"margin": NaN}', '{"margin": 1e999}', "{}}"])
def test_a_hostile_recipe_is_named(tmp_path: Path, trained: Path, text: str):
    recipe = tmp_path / "two\nlines.json"
    recipe.write_text(text)
    args = ("--recipe", recipe, "--out", tmp_path / "out")
    code, said = ends("predict", trained / "project", *args)
    assert code == INPUT
    assert r"two\nlines.json" in said


@pytest.mark.parametrize("text", ["", "[" * 10**5, json.dumps({"process": -1, "host": "\x1b[2J"})])
def test_a_project_under_a_hostile_lock_is_read_only(made: Path, text: str):
    (made / "project" / LOCK).write_text(text)
    assert ends("check", made / "project") == (DONE, "")
    code, said = ends("bank", made / "project", "--clusters", "1")
    assert code == INPUT
    assert "read-only" in said


def test_what_steers_a_terminal_is_spelled_out_and_nothing_else():
    told = "\u0627\u0644\u0648 e\u0301 \U0001f52c <b> [x]"
    assert visible(told) == told
    assert visible("a\nb\x1b[0m\u202ec\ud800\u2028") == "a\nb\\x1b[0m\\u202ec\\ud800\\u2028"
    assert visible("a\nb", newline=True) == "a\\nb"
