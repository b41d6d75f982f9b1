"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_protoseg.jobs.export_plan import ExportFormat

ProjectArgument = Annotated[Path, typer.Argument(help="Project folder.", metavar="PROJECT")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result alone, and warnings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DeviceName = Annotated[
    str | None,
    typer.Option("--device", help="cuda, cuda:1, mps or cpu; the best there is by default."),
]
Classes = Annotated[
    str | None,
    typer.Option(help="Class names, comma separated, in the order of labels in file names."),
]
Labels = Annotated[Path | None, typer.Option(help="Table of image-level labels: CSV, TSV or XLSX.")]
Out = Annotated[Path, typer.Option(help="A new or empty folder.")]
EncoderWeights = Annotated[
    Path | None, typer.Option(help="Weights file of the encoder (safetensors or state dict).")
]


class Exportable(StrEnum):
    """What can be written of a project."""

    PNG = ExportFormat.PNG.value
    TRAINING = ExportFormat.TRAINING.value
    ONNX = "onnx"
    """The segmentation network."""


def class_names(classes: str | None) -> tuple[str, ...] | None:
    """Part a comma-separated list of class names."""
    return None if classes is None else tuple(name.strip() for name in classes.split(","))
