"""The disk is full, or the folder turns read-only, under a process that works in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from victims import Harm, Victims
from works import WORKS, Beginning, assert_sound

Begin = Callable[[str], Beginning]

ROOMS = (0, 20_000, 70_000, 300_000)
"""How many bytes are free when a work begins."""


def fill(disk: Path, room: int) -> Path:
    """Leave no more than some bytes on a disk."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    ballast.write_bytes(bytes(max(space.f_bavail * space.f_frsize - room, 0)))
    return ballast


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in WORKS if name != "strokes"]


@pytest.mark.parametrize("tiny_tmpfs", ["64m"], indirect=True)
@pytest.mark.parametrize("name", ["strokes", *SLOW])
def test_a_full_disk_costs_nothing_that_was_acknowledged_and_work_goes_on_when_there_is_room(
    victims: Victims, beginning: Begin, tiny_tmpfs: Path, name: str
) -> None:
    begun = beginning(name)
    refused = 0
    for room in ROOMS:
        place = begun.copied(tiny_tmpfs / "workspace")
        ballast = fill(tiny_tmpfs, room)
        ended = victims.run(begun.work, place)
        if ended.refusal is not None:
            refused += 1
            assert ended.refusal.startswith("StorageError")
            assert "space" in ended.refusal
        ballast.unlink()
        assert_sound(place / "project")
        begun.assert_held(place, ended.acknowledged, ended.refusal)
        assert victims.run(begun.work, place).refusal is None
    assert refused > 0


@pytest.mark.parametrize("name", ["strokes", *SLOW])
def test_a_folder_that_turns_read_only_costs_nothing_that_was_acknowledged(
    victims: Victims, powerless_victims: Victims, beginning: Begin, tmp_path: Path, name: str
) -> None:
    begun = beginning(name)
    place = begun.copied(tmp_path / "read-only")
    ended = powerless_victims.run(begun.work, place, harm=Harm(2, read_only="."))
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if ended.refusal is None:
        # What a database has open it goes on writing to.
        assert ended.acknowledged == begun.whole.acknowledged
        assert name == "labelling"
    else:
        assert ended.refusal.startswith("StorageError")
        assert "no permission" in ended.refusal
    assert_sound(place / "project")
    begun.assert_held(place, ended.acknowledged, ended.refusal)
    assert victims.run(begun.work, place).refusal is None
