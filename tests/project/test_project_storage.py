"""Places that cannot be written: typed errors, and nothing half-made."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.errors import StorageError
from napari_protoseg.project import ImageRecord, MaskSource, PredictedMask, Project
from napari_protoseg.schema import ClassSchema

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SCHEMA = ClassSchema.from_names(["tumour", "stroma"])
SOURCE = MaskSource(round_id=None, label_condition="given", recipe_json="{}", created=NOW)
NOBODY = 65534

# The interpreter may lie where nobody else can read: rights are dropped after the imports.
UNPRIVILEGED = f"""
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from napari_protoseg.errors import ProtosegError
from napari_protoseg.project import ImageRecord, Project
from napari_protoseg.schema import ClassSchema

schema = ClassSchema.from_names(["tumour", "stroma"])
now = datetime(2026, 3, 1, tzinfo=UTC)
folder = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
    {{action}}
except ProtosegError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Give a folder that every user may enter, and only this one may write."""
    if os.name == "nt":
        pytest.skip("needs POSIX permissions")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def said_by_an_unprivileged_user(action: str, folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED.format(action=action), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return ran.stdout


def make_read_only(folder: Path) -> None:
    """Take the right to write away, for root's child by ownership, for others by mode."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def make_unreadable(folder: Path) -> None:
    folder.chmod(0o700 if os.getuid() == 0 else 0)


@pytest.mark.parametrize("lock", [make_read_only, make_unreadable])
def test_a_project_without_permission_is_refused_untouched(
    reachable: Path, lock: Callable[[Path], None]
) -> None:
    folder = reachable / "project"
    Project.create(folder, SCHEMA, created=NOW).close()
    before = (folder / "project.db").read_bytes()
    lock(folder)
    said = said_by_an_unprivileged_user("Project.open(folder)", folder)
    folder.chmod(0o755)
    assert said.startswith(f"StorageError {folder / 'project.db'}: no permission")
    assert [entry.name for entry in folder.iterdir()] == ["project.db"]
    assert (folder / "project.db").read_bytes() == before


def test_a_project_in_a_forbidden_place_is_not_half_made(reachable: Path) -> None:
    reachable.chmod(0o555)
    said = said_by_an_unprivileged_user(
        "Project.create(folder, schema, created=now)", reachable / "deeper" / "project"
    )
    assert said.startswith(f"StorageError {reachable}")
    assert "no permission" in said
    assert list(reachable.iterdir()) == []
    reachable.chmod(0o755)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Take all space but `leave` bytes."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(bytes(space.f_bavail * space.f_frsize - leave))
    return ballast


@pytest.mark.parametrize("leave", [0, 8192, 40960, 65536, 73728, 81920])
def test_a_full_disk_leaves_no_half_made_project(small_disk: Path, leave: int) -> None:
    ballast = fill(small_disk, leave=leave)
    with pytest.raises(StorageError, match="space"):
        Project.create(small_disk / "a" / "project", SCHEMA, created=NOW)
    assert list(small_disk.iterdir()) == [ballast]


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(small_disk: Path) -> None:
    def image(number: int) -> ImageRecord:
        return ImageRecord(
            path=small_disk / f"{number}.png",
            content_hash=f"{number:064d}",
            width=224,
            height=224,
            label=(1, 0),
        )

    random = np.random.default_rng(0)
    shape = (224, 224)
    with Project.create(small_disk / "project", SCHEMA, created=NOW) as project:
        project.add_images(image(number) for number in range(10))
        first, second = project.images()[:2]
        assert first.id is not None
        assert second.id is not None
        mask = PredictedMask(
            first.id, random.integers(0, 3, shape, dtype=np.uint8), np.ones(shape, np.float16)
        )
        project.write_mask(mask, SOURCE)
        ballast = fill(small_disk)
        with pytest.raises(StorageError, match="space"):
            project.add_images(image(number) for number in range(10, 5000))
        with pytest.raises(StorageError, match="space"):
            project.write_mask(PredictedMask(second.id, mask.mask, mask.confidence), SOURCE)
        ballast.unlink()
        assert len(project.images()) == 10
        stored = project.read_mask(first.id)
        assert stored is not None
        np.testing.assert_array_equal(stored.mask, mask.mask)
        assert project.read_mask(second.id) is None
        project.write_mask(PredictedMask(second.id, mask.mask, mask.confidence), SOURCE)
    with Project.open(small_disk / "project") as project:
        assert project.read_mask(second.id) is not None
