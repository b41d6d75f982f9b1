"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

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


def class_names(classes: str | None) -> tuple[str, ...] | None:
    """Part a comma-separated list of class names."""
    return None if classes is None else tuple(name.strip() for name in classes.split(","))


def cluster_numbers(text: str) -> int | tuple[int, ...]:
    """Read one number of prototypes, 1 or more, or one for each class, comma separated."""
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(
            f"{text!r} is not a number from 1 on, or such numbers joined by commas."
        )
    return numbers[0] if len(numbers) == 1 else numbers


def said(error: ValidationError) -> str:
    """Return what is wrong with a configuration, without the words of the library that found it."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")
