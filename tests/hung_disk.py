"""A disk that neither writes nor fails, for as long as a test likes."""

from __future__ import annotations

import threading

from napari_protoseg.project import Project

_LONGEST = 20.0
"""Seconds after which it answers by itself, so that a test that waits for it fails in the end."""


class HungDisk:
    """Whoever writes through one opening of a project waits within SQLite, until it answers.

    Parameters
    ----------
    project
        The opening.
    statement
        At which: ``COMMIT``, or ``BEGIN IMMEDIATE`` where others are to write meanwhile.
    """

    def __init__(self, project: Project, statement: str) -> None:
        self._statement = statement
        self._is_reached = threading.Event()
        self._answers = threading.Event()
        self._was_too_long = False
        project._database._connection.set_trace_callback(self._wait)

    @property
    def hangs(self) -> bool:
        """Whether somebody waits for it still."""
        return self._is_reached.is_set() and not (self._answers.is_set() or self._was_too_long)

    def wait_until_it_hangs(self) -> None:
        """Wait until somebody waits for it."""
        assert self._is_reached.wait(60)

    def answer(self) -> None:
        """Write, from now on, as any other does."""
        self._answers.set()

    def _wait(self, statement: str) -> None:
        if statement.startswith(self._statement):
            self._is_reached.set()
            self._was_too_long |= not self._answers.wait(_LONGEST)
