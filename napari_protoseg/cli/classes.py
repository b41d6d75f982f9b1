"""The commands that let a class of a project go, or come back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from napari_protoseg.cli.opening import opened_to_read, opened_to_write
from napari_protoseg.cli.options import AsJson, ProjectArgument, Quiet
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.jobs.class_impact import class_impact

Name = Annotated[str, typer.Argument(help="Name of the class.", metavar="CLASS")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; else only say what it affects.")]

classes = typer.Typer(
    help="Remove a class, merge it into another, or bring it back.", no_args_is_help=True
)


@classes.command()
def remove(
    project: ProjectArgument,
    name: Name,
    yes: Yes = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Remove a class: its labels go, and its pixels are unlabelled, until it is brought back."""
    _let_go(Terminal(quiet=quiet, as_json=json), project, name, None, yes=yes)


@classes.command()
def merge(
    project: ProjectArgument,
    name: Name,
    into: Annotated[str, typer.Argument(help="Class that it becomes a part of.", metavar="INTO")],
    yes: Yes = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Merge a class into another: its labels and pixels go to that, until it is brought back."""
    _let_go(Terminal(quiet=quiet, as_json=json), project, name, into, yes=yes)


@classes.command()
def undo(project: ProjectArgument, quiet: Quiet = False, json: AsJson = False) -> None:
    """Bring back the class that was removed or merged last."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors(), opened_to_write(terminal, project) as opened:
        gone = opened.restore_class(created=datetime.now(UTC))
        names = ", ".join(opened.schema.names)
    record = {"class": gone.known.name, "classes": names}
    terminal.result(f"{gone.known.name} is back. The classes are: {names}.", record)


def _let_go(
    terminal: Terminal, project: ProjectArgument, name: str, into: str | None, *, yes: bool
) -> None:
    opening = opened_to_write(terminal, project) if yes else opened_to_read(terminal, project)
    with terminal.errors(), opening as opened:
        schema = opened.schema
        class_id = schema.ids[schema.position(name)]
        heir = None if into is None else schema.ids[schema.position(into)]
        impact = terminal.run(class_impact(opened, class_id, heir))
        if impact is not None and yes:
            opened.remove_class(class_id, heir, created=datetime.now(UTC))
    if impact is None:
        terminal.leave("Nothing was changed.")
    done = f"Done; bring it back with: protoseg classes undo {project}"
    lines = [impact.question, *impact.lines(), done if yes else "Nothing was changed; add --yes."]
    record = asdict(impact) | {"known": impact.known.name, "heir": into, "done": yes}
    terminal.result("\n".join(lines), record)
