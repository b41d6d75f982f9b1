"""What a terminal says of a training that has ended, whichever command began it."""

from __future__ import annotations

import typer

from napari_protoseg.cli.again import again, again_to_resume
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.jobs.train import TrainedRound


def tell_ended_round(
    terminal: Terminal, context: typer.Context, ended: TrainedRound | None, *, next_command: str
) -> None:
    """Say where the checkpoint is, and what to type next; leave as stopped where it was.

    Parameters
    ----------
    terminal, context
        Of the command.
    ended
        None where nothing was kept.
    next_command
        What a finished training is good for.
    """
    if ended is None:
        terminal.leave(f"Nothing was trained yet; begin again with: {again(context)}")
    record = {
        "round": ended.round.id,
        "checkpoint": ended.checkpoint,
        "finished": ended.finished,
    }
    lines = [f"Round {ended.round.id}: {ended.checkpoint}"]
    if ended.finished:
        lines.append(f"Next: {next_command}")
    terminal.result("\n".join(lines), record)
    if not ended.finished:
        terminal.leave(f"The best state is kept; go on with: {again_to_resume(context)}")
