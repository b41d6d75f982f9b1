"""The command of the second stage: ``protoseg segment``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_protoseg.cli.ended_round import tell_ended_round
from napari_protoseg.cli.opening import opened_to_read, opened_to_write
from napari_protoseg.cli.options import AsJson, DeviceName, ProjectArgument, Quiet
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.jobs.export_network import export_network
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.jobs.segment import (
    SegmentRequest,
    Start,
    resume_segmentation,
    segment_project,
)
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.training.devices import choose_device
from napari_protoseg.training.pixels import PixelLoss


def segment(
    context: typer.Context,
    project: ProjectArgument,
    decoder: Annotated[Decoder | None, typer.Option(help="What labels the pixels.")] = None,
    loss: Annotated[
        PixelLoss | None, typer.Option(help="Of pixels that no person has set.")
    ] = None,
    ignored: Annotated[
        float | None,
        typer.Option(min=0, max=0.99, help="Share of pixels ignored: the least sure ones."),
    ] = None,
    start: Annotated[
        Start | None, typer.Option(help="Which weights the backbone starts from.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped training.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Weights file of the backbone, with --start imagenet.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Train a network on the masks of the trained one, to segment without labels."""
    terminal = Terminal(quiet=quiet, as_json=json)
    given: dict[str, dict[str, Any]] = {
        "config": {"epochs": epochs, "batch_size": batch_size, "seed": seed},
        "pixels": {"decoder": decoder, "loss": loss, "ignored": ignored},
        "request": {"start": start, "backbone_weights": backbone_weights},
    }
    chosen = {
        part: {name: value for name, value in values.items() if value is not None}
        for part, values in given.items()
    }
    if resume and any(chosen.values()):
        raise typer.BadParameter("--resume takes up all options of the stopped training.")
    with terminal.errors(), opened_to_write(terminal, project) as opened:
        where = choose_device(device)
        if resume:
            job = resume_segmentation(opened, device=where, now=_now)
        else:
            request = SegmentRequest()
            parts = {
                "config": request.config.model_copy(update=chosen["config"]),
                "pixels": request.pixels.model_copy(update=chosen["pixels"]),
            }
            request = request.model_copy(update=parts | chosen["request"])
            job = segment_project(opened, request, recipe_of(opened), device=where, now=_now)
        ended = terminal.run(job)
    next_command = f"protoseg predict {project} --model segmentation --out masks"
    tell_ended_round(terminal, context, ended, next_command=next_command)


def write_network(terminal: Terminal, project: Path, out: Path, *, overwrite: bool) -> None:
    """Write the segmentation network of a project, and say where."""
    with terminal.errors(), opened_to_read(terminal, project) as opened:
        written = terminal.run(export_network(opened, out, overwrite=overwrite))
    if written is None:
        terminal.leave("Nothing was written; export again.")
    terminal.result(
        f"Network of round {written.round.id}: {written.path}",
        {"file": written.path, "round": written.round.id},
    )


def _now() -> datetime:
    return datetime.now(UTC)
