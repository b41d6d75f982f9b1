"""Real processes are killed at their n-th write, or within it: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from victims import Ended, Victims
from works import WORKS, Beginning, assert_sound

Say = Callable[[str, object], None]
Begin = Callable[[str], Beginning]
SOME = dict.fromkeys(WORKS, 3) | {"labelling": 4, "strokes": 4, "true masks": 6}
ALL = {
    "labelling": 40,
    "bank edits": 32,
    "training": 32,
    "prediction": 32,
    "strokes": 48,
    "export": 32,
    "true masks": 32,
}
KEPT = (50, 1, 99)
"""Percent of the bytes of a write that reach the disk."""


@dataclass
class Tally:
    """What was killed, and what of it was lost."""

    kills: int = 0
    within: int = 0
    acknowledged: int = 0
    again: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.within} of them within a write, after {self.acknowledged}"
            f" acknowledged edits in all; 0 lost; {self.again} were taken up again to the end"
        )


def spread(whole: Ended, kills: int) -> Iterator[tuple[int, int]]:
    """Yield where to kill, and how many percent of the bytes of a write to pass on before.

    Half of them are within a write, spread over all writes; half before a call, over all calls.
    """
    calls = [call for call in whole.calls if call.kind != "note"]
    writes = [call for call in calls if call.kind == "write" and call.length > 1]
    half = -(-kills // 2)
    for number, write in enumerate(np.linspace(1, len(writes), half).astype(int)):
        yield int(write), KEPT[number % len(KEPT)]
    for call in np.linspace(1, calls[-1].number, kills - half).astype(int):
        yield int(call), 0


def killed(victims: Victims, begun: Beginning, place: Path, fatal: int, kept: int) -> Ended:
    """Kill a work at a call or write, or where it has ended before: at an earlier one.

    Random names change how many pages SQLite writes.
    """
    for number in range(fatal, 0, -3):
        ended = victims.run(begun.work, begun.copied(place), fatal=number, kept=kept)
        if ended.killed:
            return ended
    raise AssertionError(f"{begun.name} was not killed at {fatal} or before")


def assert_nothing_is_lost(
    victims: Victims, begun: Beginning, place: Path, kills: int, say: Say
) -> None:
    tally = Tally()
    for number, (fatal, kept) in enumerate(spread(begun.whole, kills)):
        ended = killed(victims, begun, place, fatal, kept)
        tally.kills += 1
        tally.within += ended.calls[-1].is_within_a_write
        tally.acknowledged += ended.acknowledged
        assert_sound(place / "project")
        begun.assert_held(place, ended.acknowledged, ended.calls[-1])
        if number % 8 == 3:
            again = victims.run(begun.work, place)
            assert (again.killed, again.refusal) == (False, None)
            tally.again += 1
    assert tally.kills == kills
    assert 2 * tally.within >= kills
    say(f"faults, {begun.name}", tally)


@pytest.mark.parametrize("name", WORKS)
def test_what_was_acknowledged_before_a_kill_is_there(
    victims: Victims, beginning: Begin, tmp_path: Path, say: Say, name: str
) -> None:
    assert_nothing_is_lost(victims, beginning(name), tmp_path / "killed", SOME[name], say)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", WORKS)
def test_what_was_acknowledged_before_many_kills_is_there(
    victims: Victims, beginning: Begin, tmp_path: Path, say: Say, name: str
) -> None:
    assert_nothing_is_lost(victims, beginning(name), tmp_path / "killed", ALL[name], say)
