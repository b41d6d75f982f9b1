"""How results of the open project stand: looked at when asked for, kept until something changes."""

from __future__ import annotations

from collections.abc import Callable

from napari_protoseg.jobs.chain import Standing
from napari_protoseg.project.folder import Project
from napari_protoseg.workbench.session import Session


class KeptStanding:
    """Says whether, and why, results of the open project are out of date.

    Parameters
    ----------
    session
        Whose project it is.
    looks
        Each returns how one of its results stands, or None where there is none such.
    """

    def __init__(self, session: Session, *looks: Callable[[Project], Standing | None]) -> None:
        self._session = session
        self._looks = looks
        self._words: str | None = None

    def outdate(self) -> None:
        """Look anew when it is asked for the next time."""
        self._words = None

    def words(self) -> str:
        """Return what there is to say; empty where all is current, or no project is open."""
        if self._words is None:
            self._words = ""  # also where it cannot be read, which is told once
            self._session.attempt(self._look)
        return self._words

    def _look(self) -> None:
        project = self._session.project
        if project is not None:
            found = [look(project) for look in self._looks]
            self._words = " ".join(of.sentence for of in found if of is not None and of.sentence)
