"""Power is lost at any sync of a work: every edit that was acknowledged before is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from disk_calls import Call
from power_cut import Disk
from victims import Victims
from works import WORKS, Beginning, assert_sound

Say = Callable[[str, object], None]
Begin = Callable[[str], Beginning]


def assert_nothing_is_lost_with_the_power(
    victims: Victims, begun: Beginning, folder: Path, say: Say, *, every: int, seeds: int
) -> None:
    place, left = begun.copied(folder / "whole"), folder / "left"
    whole = victims.run(begun.work, place, with_bytes=True)
    disk = Disk(begun.folder, place)
    acknowledged = cuts = syncs = 0
    for call in whole.calls:
        if call.kind == "note":
            acknowledged += 1
            continue
        if call.kind == "sync":
            syncs += 1
            for seed in (None, *range(seeds)) if syncs % every == 0 else ():
                shutil.rmtree(left, ignore_errors=True)
                disk.lose_power(left, None if seed is None else np.random.default_rng(seed))
                assert_sound(left / "project")
                begun.assert_held(left, acknowledged, (call, seed))
                cuts += 1
        disk.apply(call)
    assert disk.tree() == on_disk(place), "not every call to the disk was seen"
    assert cuts > 0
    say(
        f"power loss, {begun.name}",
        f"{cuts} cuts at {syncs // every} of {syncs} syncs, {acknowledged} acknowledged edits; "
        "0 lost",
    )


def on_disk(place: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(place).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in place.rglob("*")
        if not path.name.endswith("-shm")
    }


@pytest.mark.parametrize(("name", "every"), [("strokes", 8), ("training", 8), ("true masks", 8)])
def test_what_was_acknowledged_outlives_a_loss_of_power(
    victims: Victims, beginning: Begin, tmp_path: Path, say: Say, name: str, every: int
) -> None:
    begun = beginning(name)
    assert_nothing_is_lost_with_the_power(victims, begun, tmp_path, say, every=every, seeds=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", WORKS)
def test_what_was_acknowledged_outlives_a_loss_of_power_at_any_sync(
    victims: Victims, beginning: Begin, tmp_path: Path, say: Say, name: str
) -> None:
    begun = beginning(name)
    assert_nothing_is_lost_with_the_power(victims, begun, tmp_path, say, every=1, seeds=2)


def test_what_was_not_synced_is_lost_with_the_power(tmp_path: Path) -> None:
    before, place = tmp_path / "before", tmp_path / "place"
    before.mkdir()
    (before / "old").write_bytes(b"old")
    disk = Disk(before, place)

    def apply(kind: str, name: str, other: str = "", offset: int = 0, data: bytes = b"") -> None:
        to = str(place / other) if other else ""
        disk.apply(Call(0, kind, str(place / name), to, offset, len(data), data))

    def left() -> dict[str, bytes | None]:
        shutil.rmtree(tmp_path / "left", ignore_errors=True)
        disk.lose_power(tmp_path / "left")
        return on_disk(tmp_path / "left")

    apply("make", "new")
    apply("write", "new", offset=2, data=b"bytes")
    apply("sync", "new")
    assert left() == {"old": b"old"}, "its name is not synced"
    apply("rename", "new", "old")
    assert left() == {"old": b"old"}
    apply("sync", "")
    assert left() == {"old": b"\0\0bytes"} == disk.tree()
    apply("cut", "old", offset=3)
    assert (left(), disk.tree()) == ({"old": b"\0\0bytes"}, {"old": b"\0\0b"})
    apply("sync", "old")
    assert left() == {"old": b"\0\0b"}
