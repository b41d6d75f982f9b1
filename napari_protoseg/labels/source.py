"""Deciding where the image-level labels of a folder of images stand, and reading them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.brackets import bracket_labels, has_bracket, matching_bracket
from napari_protoseg.labels.folders import class_folders, folder_labels, folders_are_classes
from napari_protoseg.labels.matching import match_rows
from napari_protoseg.labels.names import shown
from napari_protoseg.labels.records import Label, Presence
from napari_protoseg.labels.report import LabelSource
from napari_protoseg.labels.tables import LabelTable, TableRow, read_table, schema_of
from napari_protoseg.schema import ClassSchema


@dataclass(frozen=True)
class FoundLabels:
    """Labels by image, before any image is read.

    Parameters
    ----------
    source
        Where they stood.
    schema
        Their classes, in their order.
    labels
        An image that is not in here has none.
    rows
        The row of a table that belongs to an image.
    has_cases
        Whether a table has a column for the case.
    without_image
        Files that a table names and that are not there.
    later_classes
        Names of classes that the labels in the names do not tell of, since these are older.
    """

    source: LabelSource
    schema: ClassSchema
    labels: Mapping[Path, Label] = field(default_factory=dict)
    rows: Mapping[Path, TableRow] = field(default_factory=dict)
    has_cases: bool = False
    without_image: tuple[str, ...] = ()
    later_classes: tuple[str, ...] = ()


def find_labels(
    images: Path,
    paths: Sequence[Path],
    table: Path | None,
    schema: ClassSchema | None,
    earlier: Sequence[ClassSchema] = (),
) -> FoundLabels:
    """Read labels from `table`; else from names; else from folders; else there are none.

    Parameters
    ----------
    images, paths
        The folder, and the images below it.
    table, schema
        Either may be missing.
    earlier
        States of `schema` that had other classes, the newest first: labels in names may be of
        one of these, where no two had as many.

    Raises
    ------
    LabelError, SchemaError, StorageError
        Labels are malformed, contradict each other, or belong to classes that are not given.
    """
    if table is not None:
        return _from_table(images, paths, read_table(table, schema))
    if any(map(has_bracket, paths)):
        return _from_brackets(images, paths, schema, earlier)
    folders = class_folders(images, paths)
    if folders_are_classes(images, folders, schema):
        schema = schema or schema_of(folders, images)
        return FoundLabels(LabelSource.FOLDERS, schema, folder_labels(images, paths, schema))
    if schema is None:
        raise LabelError(
            "no labels in file names or class folders, no label table, and no classes",
            where=shown(images),
            remedy="Name a table of labels, or the classes, to label the images later.",
        )
    return FoundLabels(LabelSource.NONE, schema)


def _from_brackets(
    images: Path,
    paths: Sequence[Path],
    schema: ClassSchema | None,
    earlier: Sequence[ClassSchema],
) -> FoundLabels:
    labels = bracket_labels(paths)
    path, label = next(iter(labels.items()))
    if schema is None:
        raise LabelError(
            f"the labels in the file names have {len(label)} digits, but not the classes' names",
            where=shown(images),
            remedy=f"Name the {len(label)} classes, in the order of the digits.",
        )
    of_digits = next((s for s in (schema, *earlier) if len(s.classes) == len(label)), None)
    if of_digits is None:
        raise LabelError(
            f"the label in its name has {len(label)} digits, and there are "
            f"{len(schema.classes)} classes: {', '.join(schema.names)}",
            where=shown(path),
            remedy="Give one class for each digit, in their order.",
        )
    others = [s for s in earlier if len(s.ids) == len(label) and s.ids != of_digits.ids]
    if others:
        raise LabelError(
            f"the label in its name has {len(label)} digits, and the project has had as many "
            f"classes twice: {', '.join(of_digits.names)}, and {', '.join(others[0].names)}",
            where=shown(path),
            remedy="Say in a table of labels which ones are meant.",
        )
    later = tuple(known.name for known in schema.classes if known.id not in of_digits.ids)
    labels = {path: _extended(label, of_digits, schema) for path, label in labels.items()}
    return FoundLabels(LabelSource.BRACKETS, schema, labels, later_classes=later)


def _extended(label: Label, of_digits: ClassSchema, schema: ClassSchema) -> Label:
    """Return a label in the order of `schema`, unknown for the classes that it says nothing of.

    Where classes were merged since, the one that stayed is present where any of them is.
    """
    heirs, known = schema.heirs, dict(zip(of_digits.ids, label, strict=True))
    for class_id, presence in zip(of_digits.ids, label, strict=True):
        if presence == Presence.PRESENT:
            known[heirs.get(class_id, class_id)] = presence
    return tuple(known.get(class_id, int(Presence.UNKNOWN)) for class_id in schema.ids)


def _from_table(images: Path, paths: Sequence[Path], table: LabelTable) -> FoundLabels:
    matched = match_rows(table.path, table.rows, images, paths)
    if table.orders_classes:
        for path, row in matched.by_image.items():
            _refuse_contradiction(path, row, table)
    return FoundLabels(
        source=LabelSource.TABLE,
        schema=table.schema,
        labels={path: row.label for path, row in matched.by_image.items()},
        rows=matched.by_image,
        has_cases=table.has_cases,
        without_image=matched.without_image,
    )


def _refuse_contradiction(path: Path, row: TableRow, table: LabelTable) -> None:
    """Raise where a name's bracket has a digit for each class and one says another thing."""
    in_name = matching_bracket(path, len(row.label))
    if in_name is not None and any(
        digit != presence
        for digit, presence in zip(in_name, row.label, strict=True)
        if presence != Presence.UNKNOWN
    ):
        raise LabelError(
            f"its name says {list(in_name)}, and row {row.number} of {shown(table.path)} says "
            f"{list(row.label)} for {', '.join(table.schema.names)}",
            where=shown(path),
            remedy="Correct one of them, or name the classes in the order of the digits.",
        )
