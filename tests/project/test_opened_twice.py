"""A project is opened once more in one process: others that come and go leave its log alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.project.header import Connection, read_header
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)

DRAW = """
import os, signal, subprocess, sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.errors import ProjectError
from napari_protoseg.project import Project
from napari_protoseg.review.journal import Journal

folder, way = Path(sys.argv[1]), sys.argv[2]
other = "import sys; from pathlib import Path; from napari_protoseg.project import Project;"

def let_another(how, **options):
    open_it = f"project = Project.open(Path(sys.argv[1]), take_over={how == 'take over'});"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{other} {open_it} print(flush=True); sys.stdin.read();"
         "project.close()", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    child.stdout.readline()
    return child

def draw(side):
    journal = Journal(project, 1)
    edited, _ = journal.open()
    drawn = edited.mask.copy()
    drawn[:side, :side] = 1
    journal.append([edited.stroke(drawn, author="Ada", now=datetime.now(UTC))])
    print(side, flush=True)

project = Project.open(folder)
if way == "opened again":
    former, project = project, Project.open(folder)
    former.close()
elif way == "opened beside":
    Project.open(folder).close()
elif way == "refused":
    for _ in range(3):
        Project.open(folder / ".." / folder.name).close()
elif way == "taken back":
    child = let_another("take over")
    Project.open(folder).close()
    child.communicate()
    former, project = project, Project.open(folder, take_over=True)
    former.close()
draw(2)
let_another("read").communicate()
for side in (3, 4, 5):
    draw(side)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL, and locks that are given up")
@pytest.mark.parametrize("way", ["opened again", "opened beside", "refused", "taken back"])
def test_no_acknowledged_stroke_is_lost_after_another_has_read_the_project(
    tmp_path: Path, way: str
):
    folder = tmp_path / "project"
    with Project.create(folder, ClassSchema.from_names(["a", "b"]), created=NOW) as project:
        project.add_images(
            [
                ImageRecord(
                    path=tmp_path / "x.png",
                    content_hash="a" * 64,
                    width=32,
                    height=48,
                    label=(1, 0),
                )
            ]
        )
    child = subprocess.run(
        [sys.executable, "-c", DRAW, str(folder), way],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert child.stdout.split() == ["2", "3", "4", "5"]
    with Project.open(folder) as project:
        assert len(project.open_journal(1).steps) == 4


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
def test_what_was_kept_open_is_closed_with_the_last_connection(tmp_path: Path):
    path = tmp_path / "x.db"

    def held() -> int:
        links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
        return sum(link.resolve() == path for link in links)

    Connection(path).close()
    assert read_header(path, 16) == b""
    assert held() == 0
    first, second = Connection(path), Connection(path)
    first.execute("CREATE TABLE x (y)")
    threads = [threading.Thread(target=read_header, args=(path, 16)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_header(path, 16) == b"SQLite format 3\0"
    first.close()
    first.close()
    assert held() >= 5
    second.close()
    assert held() == 0
