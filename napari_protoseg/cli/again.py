"""The command that was typed, to type it again after a stop."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from enum import Enum
from typing import Any

import typer

_WHEREVER = frozenset({"project", "device", "quiet", "json"})
"""What a training is taken up with beside `--resume`: all else it keeps itself."""


def again(context: typer.Context) -> str:
    """Return the command line of `context` with what was given there, and nothing else."""
    return _command(context, set(context.params))


def again_to_resume(context: typer.Context) -> str:
    """Return the command that goes on with the training that `context` has begun."""
    given = _command(context, _WHEREVER)
    return f"{given} --resume"


def _command(context: typer.Context, names: Collection[str]) -> str:
    words = ["protoseg", context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in names and source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[name])
    return shlex.join(words)


def _words(parameter: Any, value: Any) -> list[str]:
    """Return how a value was given: typer's own types of parameters are not public."""
    text = str(value.value if isinstance(value, Enum) else value)
    if parameter.param_type_name == "argument":
        return [text]
    option = next(name for name in parameter.opts if name.startswith("--"))
    return [option] if parameter.is_flag else [option, text]
