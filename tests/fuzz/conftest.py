"""Saying at the end how many cases were run, and what branches they reached."""

from __future__ import annotations

import pytest

_SAID = pytest.StashKey[list[str]]()


@pytest.fixture
def say(request: pytest.FixtureRequest):
    """Note a figure that stands at the end of the run."""
    said = request.config.stash.setdefault(_SAID, [])
    return lambda name, value: said.append(f"{name}: {value}")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SAID, []):
        terminalreporter.write_line(line)
