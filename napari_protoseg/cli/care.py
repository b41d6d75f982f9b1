"""The commands that look after a project as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from napari_protoseg.cli.opening import opened_to_read, opened_to_write
from napari_protoseg.cli.options import AsJson, ProjectArgument, Quiet
from napari_protoseg.cli.terminal import Exit, Terminal
from napari_protoseg.jobs.backup import back_up
from napari_protoseg.jobs.check import check_project
from napari_protoseg.jobs.lost_masks import give_up_mask
from napari_protoseg.jobs.relocate import relocate_images
from napari_protoseg.project.folder import Project


def backup(
    project: ProjectArgument,
    destination: Annotated[
        Path, typer.Argument(help="A folder that does not exist.", metavar="DEST")
    ],
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Copy a project as it stands, also while it is open elsewhere; without images and caches."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors(), Project.open(project) as opened:
        made = terminal.run(back_up(opened, destination))
    lines = [*made.report.lines(), f"{made.files} files in {made.folder}"]
    record = {"folder": made.folder, "files": made.files, "check": made.report.record()}
    terminal.result("\n".join(lines), record)
    if made.report.problems:
        raise typer.Exit(Exit.PROBLEMS)


def relocate(
    project: ProjectArgument,
    images: Annotated[Path, typer.Option(help="Folder to look for the images in.")],
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Find missing images again by their content, after their folder has moved."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors(), opened_to_write(terminal, project) as opened:
        ended = terminal.run(relocate_images(opened, images))
    lines = [f"Not found: {path}" for path in ended.missing]
    lines.append(f"Found again: {ended.found}. Still missing: {len(ended.missing)}.")
    terminal.result("\n".join(lines), {"found": ended.found, "missing": ended.missing})
    if ended.missing:
        raise typer.Exit(Exit.PROBLEMS)


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
    give_up: Annotated[
        int | None,
        typer.Option(
            "--give-up",
            help="First let an image go on, for good, without what is lost of its mask or its "
            "journal; what can be read of them stays.",
            metavar="NUMBER",
            min=1,
            max=2**63 - 1,
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Verify everything in a project; exit with 1 where a problem remains."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors():
        opening = (
            opened_to_write(terminal, project, take_over=take_over)
            if repair or take_over or give_up is not None
            else opened_to_read(terminal, project)
        )
        with opening as opened:
            given_up = []
            if give_up is not None:
                given_up.append(give_up_mask(opened, give_up, now=datetime.now(UTC)))
            report = terminal.run(check_project(opened, repair=repair))
            report.findings[:0] = given_up
    terminal.result("\n".join(report.lines()), report.record())
    if not report.is_complete:
        terminal.leave("Not all was looked at; check again.")
    if report.problems:
        raise typer.Exit(Exit.PROBLEMS)
