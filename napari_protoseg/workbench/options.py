"""What an option form shows of a frozen configuration: each field in words, with its bounds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Model = TypeVar("Model", bound=BaseModel)

# How pydantic calls the bounds of a number, and whether a value may lie on them.
_BOUNDS = (
    ("ge", "minimum", False),
    ("gt", "minimum", True),
    ("le", "maximum", False),
    ("lt", "maximum", True),
)
_SIDES = {"minimum": "below", "maximum": "above"}


class OptionKind(Enum):
    """How a person gives the value of a field."""

    CHECK = "check"
    CHOICE = "choice"
    WHOLE = "whole number"
    SHARE = "number between two bounds"
    FILE = "file"
    TEXT = "text"
    """A number that spans orders of magnitude or may be missing, several numbers, or a name."""


@dataclass(frozen=True)
class Option:
    """One field of a configuration, as a form shows it.

    Parameters
    ----------
    name
        Of the field; ``outer.inner`` for a field of a configuration within the configuration.
    label
        The title of the field, or its name in words.
    tip
        What it decides, in a sentence.
    kind
        How its value is given.
    minimum, maximum
        Of numbers; None where there is no bound. They belong to the allowed values, unless
        `is_open_below` or `is_open_above`.
    choices
        Of `OptionKind.CHOICE`: each allowed value.
    may_be_missing
        Whether None is allowed.
    holds_several
        Whether a text with commas stands for several values.
    """

    name: str
    label: str
    tip: str
    kind: OptionKind
    minimum: float | None = None
    maximum: float | None = None
    is_open_below: bool = False
    is_open_above: bool = False
    choices: tuple[Any, ...] = ()
    may_be_missing: bool = False
    holds_several: bool = False

    def of(self, model: BaseModel) -> Any:
        """Return the value of this field in a configuration."""
        value: Any = model
        for part in self.name.split("."):
            value = getattr(value, part)
        return value

    def text_of(self, value: Any) -> str:
        """Write a value as a person would type it: `parsed` takes it back."""
        if value is None:
            return ""
        if isinstance(value, tuple):
            return ", ".join(self.text_of(part) for part in value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    def parsed(self, text: str) -> Any:
        """Return what a typed text stands for, for the configuration to check."""
        text = text.strip()
        if not text and self.may_be_missing:
            return None
        if self.holds_several and "," in text:
            return [part.strip() for part in text.split(",") if part.strip()]
        return text


def options_of(
    model: type[BaseModel],
    names: Sequence[str],
    choices: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Option, ...]:
    """Describe some fields of a configuration.

    Parameters
    ----------
    model
        Class of the configuration, with a NumPy-style docstring.
    names
        Of its fields, in the order in which they are shown.
    choices
        Values to offer for fields that would take any text.
    """
    offered = choices or {}
    return tuple(_option(model, name, offered.get(name, ())) for name in names)


def changed(model: Model, values: Mapping[str, Any]) -> Model:
    """Return a configuration in which some fields have other values, checked as a whole.

    Parameters
    ----------
    model
        Stays as it is.
    values
        By name of field, as `Option.name`.

    Raises
    ------
    ValidationError
        The values are not allowed, alone or together.
    """
    fields = model.model_dump()
    for name, value in values.items():
        *outer, last = name.split(".")
        place = fields
        for part in outer:
            place = place[part]
        place[last] = value
    return type(model).model_validate(fields)


def sentence_of(error: ValidationError, options: Sequence[Option] = ()) -> str:
    """Say in one sentence what is wrong with the values of a configuration."""
    first = error.errors(include_url=False)[0]
    words = first["msg"].removeprefix("Value error, ").rstrip(".")
    place = ".".join(str(part) for part in first["loc"])
    # What is wrong within a field that holds one of several types is placed below the field.
    of = [o for o in options if place == o.name or place.startswith(f"{o.name}.")]
    if of:
        return f"{of[0].label}: {words[0].lower()}{words[1:]}."
    return f"{words[0].upper()}{words[1:]}."


def parameter_tips(documented: type) -> dict[str, str]:
    """Return what the NumPy-style docstring of a class says of each of its parameters."""
    lines = (inspect.getdoc(documented) or "").splitlines()
    tips: dict[str, list[str]] = {}
    names: list[str] = []
    rules = [place for place, line in enumerate(lines) if line and set(line) == {"-"}]
    titles = {place - 1 for place in rules}
    start = next((place + 1 for place in rules if lines[place - 1] == "Parameters"), len(lines))
    for place, line in enumerate(lines[start:], start):
        if place in titles:
            break
        if line and not line[0].isspace():
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            tips |= {name: [] for name in names}
        elif line:
            for name in names:
                tips[name].append(line.strip())
    return {name: " ".join(words).replace("`", "") for name, words in tips.items()}


def _option(model: type[BaseModel], name: str, offered: Sequence[str]) -> Option:
    *outer, last = name.split(".")
    for part in outer:
        inner = model.model_fields[part].annotation
        assert inspect.isclass(inner) and issubclass(inner, BaseModel), name
        model = inner
    field = model.model_fields[last]
    types = _types(field.annotation)
    bounds = _bounds(field)
    several = any(get_origin(known) is tuple for known in types)
    single = {known for known in types if known is not NoneType}
    kind, choices = OptionKind.TEXT, tuple[Any, ...](offered)
    if choices:
        kind = OptionKind.CHOICE
    elif types == {bool}:
        kind = OptionKind.CHECK
    elif types == {int}:
        kind = OptionKind.WHOLE
    elif types == {float} and {"minimum", "maximum"} <= bounds.keys():
        kind = OptionKind.SHARE
    elif single == {Path}:
        kind = OptionKind.FILE
    elif len(types) == 1 and isinstance(known := next(iter(types)), type(Enum)):
        kind, choices = OptionKind.CHOICE, tuple(known)
    words = last.replace("_", " ")
    return Option(
        name=name,
        label=field.title or words[0].upper() + words[1:],
        tip=field.description or parameter_tips(model).get(last, ""),
        kind=kind,
        choices=choices,
        may_be_missing=NoneType in types,
        holds_several=several,
        **bounds,
    )


def _types(annotation: Any) -> set[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return set(get_args(annotation))
    return {annotation}


def _bounds(field: FieldInfo) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for known in field.metadata:
        for attribute, name, is_open in _BOUNDS:
            value = getattr(known, attribute, None)
            if value is not None:
                bounds |= {name: value, f"is_open_{_SIDES[name]}": is_open}
    return bounds
