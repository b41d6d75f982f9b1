"""Changing the class schema of a project: names, colours and keys of its classes; new classes."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from napari_protoseg.errors import SchemaError
from napari_protoseg.schema import IGNORE, PALETTE, ClassSchema, TissueClass


def with_name(schema: ClassSchema, class_id: int, name: str) -> ClassSchema:
    """Give a class another name; by the ones that it had, banks and models still know it.

    Raises
    ------
    SchemaError
        The name is empty or taken.
    """
    known = next(c for c in schema.classes if c.id == class_id)
    names = dict.fromkeys((*known.former, known.name))
    former = tuple(earlier for earlier in names if earlier != name.strip())
    return _changed(schema, class_id, name=name, former=former)


def with_color(schema: ClassSchema, class_id: int, color: str) -> ClassSchema:
    """Give a class another colour, ``#RRGGBB``.

    Raises
    ------
    SchemaError
        It is no colour.
    """
    return _changed(schema, class_id, color=color)


def with_shortcut(schema: ClassSchema, class_id: int, shortcut: str | None) -> ClassSchema:
    """Give a class another key, or none.

    Raises
    ------
    SchemaError
        Another class has the key, or it is more than one character.
    """
    return _changed(schema, class_id, shortcut=shortcut)


def with_class(schema: ClassSchema, name: str) -> ClassSchema:
    """Add a class with an id, a colour and a digit that no class has.

    Raises
    ------
    SchemaError
        The name is empty or taken, or there are no more ids.
    """
    class_id = max((*schema.ids, *schema.retired)) + 1
    if class_id >= IGNORE:
        raise SchemaError(
            "every class id up to 254 was given",
            where=name,
            remedy="Use the classes that are there.",
        )
    colors = {known.color for known in schema.classes}
    keys = {known.shortcut for known in schema.classes}
    color = next((c for c in PALETTE if c not in colors), PALETTE[class_id % len(PALETTE)])
    key = next((digit for digit in "123456789" if digit not in keys), None)

    def extended() -> ClassSchema:
        new = TissueClass(id=class_id, name=name, color=color, shortcut=key)
        return _with_classes(schema, (*schema.classes, new))

    return _checked(extended, name)


def _changed(
    schema: ClassSchema, class_id: int, **changes: str | tuple[str, ...] | None
) -> ClassSchema:
    name = next(known.name for known in schema.classes if known.id == class_id)

    def changed() -> ClassSchema:
        classes = tuple(
            TissueClass.model_validate(known.model_dump() | changes)
            if known.id == class_id
            else known
            for known in schema.classes
        )
        return _with_classes(schema, classes)

    return _checked(changed, name)


def _with_classes(schema: ClassSchema, classes: tuple[TissueClass, ...]) -> ClassSchema:
    return ClassSchema(classes=classes, retired=schema.retired, merged=schema.merged)


def _checked(make: Callable[[], ClassSchema], where: str) -> ClassSchema:
    try:
        return make()
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise SchemaError(
            reason,
            where=where.strip() or "class",
            remedy="Give each class a name and a key of its own.",
        ) from error
