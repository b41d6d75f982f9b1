"""The class schema: tissue classes with ids that never change."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_protoseg.errors import SchemaError
from napari_protoseg.storage import read_whole

UNLABELLED = 0
"""Value of a mask pixel that has no class."""

IGNORE = 255
"""Value of a pixel that takes no part in training or evaluation; in exports only."""

_MOST_BYTES = 2**22

# Okabe and Ito's palette (2008), told apart with every common colour blindness,
# then darker shades of it for longer schemas.
PALETTE = (
    "#D55E00", "#0072B2", "#F0E442", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999",
    "#7F3800", "#00446B", "#8F8829", "#005E45", "#7A4964", "#346C8C", "#8A5F00", "#5C5C5C",
)  # fmt: skip


class TissueClass(BaseModel):
    """One class of tissue.

    Parameters
    ----------
    id
        1..254; the value of its pixels in every mask of a project. Never reused.
    name
        Unique within its schema, compared without regard to case.
    color
        ``#RRGGBB``.
    shortcut
        One character that toggles the class, or None; unique within its schema, compared without
        regard to case.
    former
        Earlier names of the class: what was made under one of them was made for this class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    name: str
    color: str
    shortcut: str | None = None
    former: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _id_in_range(cls, value: int) -> int:
        if not UNLABELLED < value < IGNORE:
            raise ValueError(f"class id {value} is outside 1..254")
        return value

    @field_validator("name")
    @classmethod
    def _name_says_something(cls, value: str) -> str:
        if not value.strip() or not value.isprintable():
            raise ValueError(f"class name {value!r} is empty or holds control characters")
        return value.strip()

    @field_validator("color")
    @classmethod
    def _color_is_hex(cls, value: str) -> str:
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
            raise ValueError(f"color {value!r} is not #RRGGBB")
        return value.upper()

    @field_validator("shortcut")
    @classmethod
    def _shortcut_is_one_key(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isprintable()):
            raise ValueError(f"key {value!r} is not one character")
        return value

    def was(self, earlier: TissueClass) -> bool:
        """Tell whether `earlier` is this class, as it is called now or was once."""
        return self.id == earlier.id and earlier.name in (self.name, *self.former)


class ClassSchema(BaseModel):
    """The classes of a project, in the order in which labels and tables name them.

    Parameters
    ----------
    classes
        At least one.
    retired
        Ids of removed classes, which no new class may take.
    merged
        Pairs of a retired id and the one that stands in its place, in the order in which classes
        were merged. A retired id without one stands for nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[TissueClass, ...]
    retired: tuple[int, ...] = ()
    merged: tuple[tuple[int, int], ...] = ()

    @field_validator("retired")
    @classmethod
    def _retired_were_ids(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        strange = [class_id for class_id in value if not UNLABELLED < class_id < IGNORE]
        if strange:
            raise ValueError(f"retired id {strange[0]} is outside 1..254")
        return value

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        if not self.classes:
            raise ValueError("a schema needs at least one class")
        ids = [c.id for c in self.classes] + list(self.retired)
        keys = [c.shortcut.casefold() for c in self.classes if c.shortcut is not None]
        for what, values in (
            ("class id", ids),
            ("class name", [c.name.casefold() for c in self.classes]),
            ("key", keys),
        ):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands twice")
        return self

    @model_validator(mode="after")
    def _merged_into_what_is_there(self) -> Self:
        gone = [class_id for class_id, _ in self.merged]
        if len(set(gone)) < len(gone) or not set(gone) <= set(self.retired):
            raise ValueError("a merged class is not retired, or merged twice")
        if not set(self.heirs.values()) <= {UNLABELLED, *self.ids}:
            raise ValueError("a class was merged into one that is not there")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Say nothing of merged classes where there are none, as before there could be any."""
        record: dict[str, object] = handler(self)
        if not self.merged:
            del record["merged"]
        return record

    @classmethod
    def from_names(cls, names: Iterable[str]) -> ClassSchema:
        """Make a schema of `names` with ids 1, 2, ... and colour-blind-safe colours.

        Raises
        ------
        SchemaError
            A name is empty or stands twice, or there are none.
        """
        try:
            return cls(
                classes=tuple(
                    TissueClass(
                        id=number,
                        name=name,
                        color=PALETTE[(number - 1) % len(PALETTE)],
                        shortcut=str(number) if number <= 9 else None,
                    )
                    for number, name in enumerate(names, start=1)
                )
            )
        except ValidationError as error:
            raise _schema_error(error, "class names") from error

    @classmethod
    def read(cls, path: Path) -> ClassSchema:
        """Read a schema from a JSON file, as `to_json` writes it.

        Raises
        ------
        StorageError, SchemaError
        """
        content = read_whole(path, most=_MOST_BYTES)
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            raise _schema_error(error, path) from error

    def to_json(self) -> str:
        """Return the schema as indented JSON text."""
        return self.model_dump_json(indent=2) + "\n"

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in schema order."""
        return tuple(c.name for c in self.classes)

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids in schema order."""
        return tuple(c.id for c in self.classes)

    @property
    def heirs(self) -> dict[int, int]:
        """What stands in the place of each retired id: that of a class, or `UNLABELLED`."""
        direct, retired, heirs = dict(self.merged), set(self.retired), {}
        for class_id in self.retired:
            heir = class_id
            for _ in self.retired:  # the class that it was merged into may have gone later
                if heir in retired:
                    heir = direct.get(heir, UNLABELLED)
            heirs[class_id] = heir
        return heirs

    @property
    def fingerprint(self) -> str:
        """Hash over ids and names, whatever their order, colours and shortcuts (16 hex digits)."""
        pairs = sorted((c.id, c.name) for c in self.classes)
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]

    def find(self, name: str) -> int | None:
        """Return the zero-based position of the class that `name` means, in any case.

        A former name means its class, unless another one is called so now or was too. None where
        it means no class.
        """
        wanted = name.strip().casefold()
        current = [known.casefold() for known in self.names]
        if wanted in current:
            return current.index(wanted)
        former = [
            position
            for position, known in enumerate(self.classes)
            if wanted in (earlier.casefold() for earlier in known.former)
        ]
        return former[0] if len(former) == 1 else None

    def position(self, name: str) -> int:
        """Return the zero-based position of the class that `name` means, as `find` does.

        Raises
        ------
        SchemaError
            It means none.
        """
        position = self.find(name)
        if position is None:
            raise SchemaError(
                "no such class",
                where=name,
                remedy=f"The classes are: {', '.join(self.names)}.",
            )
        return position

    def extends(self, other: ClassSchema) -> bool:
        """Tell whether every class of `other` is here with its id, by its name or a former one."""
        return not self._missing(other)

    def those_of(self, other: ClassSchema) -> ClassSchema:
        """Return the classes of `other`, in its order, with their names and colours of here.

        Raises
        ------
        SchemaError
            `other` has a class that this schema does not.
        """
        classes = tuple(self.classes[position] for position in self.positions_of(other))
        ids = {known.id for known in classes}
        heirs = self.heirs
        merged = tuple((class_id, heirs[class_id]) for class_id, _ in self.merged)
        return ClassSchema(
            classes=classes,
            retired=tuple(class_id for class_id in self.retired if class_id not in ids),
            merged=tuple(pair for pair in merged if pair[1] in ids),
        )

    def positions_of(self, other: ClassSchema) -> Sequence[int]:
        """Return, for each class of `other`, its position here.

        Raises
        ------
        SchemaError
            `other` has a class that this schema does not.
        """
        missing = self._missing(other)
        if missing:
            listed = ", ".join(f"{c.name} (id {c.id})" for c in missing)
            raise SchemaError(
                f"made for classes that this project does not have: {listed}",
                where="class schema",
                remedy=f"Use a project with these classes; here they are: {', '.join(self.names)}.",
            )
        return [self.ids.index(c.id) for c in other.classes]

    def _missing(self, other: ClassSchema) -> list[TissueClass]:
        return [c for c in other.classes if not any(known.was(c) for known in self.classes)]


def _schema_error(error: ValidationError, where: str | Path) -> SchemaError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return SchemaError(
        f"{place}: {reason}" if place else reason,
        where=where,
        remedy="Give each class a unique id (1..254), a unique name, and a #RRGGBB colour.",
    )
