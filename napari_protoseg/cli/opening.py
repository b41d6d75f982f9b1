"""Opening a project on a terminal: to write to it, or to read it beside whoever writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.project.folder import Project


@contextmanager
def opened_to_read(terminal: Terminal, folder: Path) -> Iterator[Project]:
    """Open a project, saying so where another process has it open for writing; close it after."""
    with Project.open(folder) as project:
        notice = project.lock_notice()
        if notice is not None:
            terminal.tell(notice)
        yield project


@contextmanager
def opened_to_write(
    terminal: Terminal, folder: Path, *, take_over: bool = False
) -> Iterator[Project]:
    """Open a project for writing, saying where its lock was another's; close it after.

    Raises
    ------
    ProjectLockedError
        Another process has it open for writing, and it is not to be taken over.
    """
    with Project.open(folder, take_over=take_over) as project:
        project.require_writable()
        notice = project.lock_notice()
        if notice is not None:
            terminal.tell(notice)
        yield project
