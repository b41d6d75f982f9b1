"""The commands that look after a project as a whole."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_protoseg.cli.opening import opened_to_read, opened_to_write
from napari_protoseg.cli.options import AsJson, ProjectArgument, Quiet
from napari_protoseg.cli.terminal import Exit, Terminal
from napari_protoseg.jobs.check import check_project


def check(
    project: ProjectArgument,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Also remove files and rows that belong to nothing, and all caches."
        ),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take the project from a program that does not answer."),
    ] = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Verify everything in a project; exit with 1 where a problem remains."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors():
        opening = (
            opened_to_write(terminal, project, take_over=take_over)
            if repair or take_over
            else opened_to_read(terminal, project)
        )
        with opening as opened:
            report = terminal.run(check_project(opened, repair=repair))
    terminal.result("\n".join(report.lines()), report.record())
    if not report.is_complete:
        terminal.leave("Not all was looked at; check again.")
    if report.problems:
        raise typer.Exit(Exit.PROBLEMS)
