"""Image-level labels from folders: an image in the folder of a class holds that class alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_protoseg.errors import LabelError
from napari_protoseg.labels.names import shown
from napari_protoseg.labels.records import Label, Presence
from napari_protoseg.schema import ClassSchema

# Folders of these names part or hold images; nobody calls a tissue so.
_NOT_A_TISSUE = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "images", "img", "masks"}
)


def class_folders(images: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the first-level folders of `images`, sorted, if all `paths` lie in such folders.

    Empty where an image lies in `images` itself.
    """
    relative = [path.relative_to(images).parts for path in paths]
    if any(len(parts) < 2 for parts in relative):
        return ()
    return tuple(sorted({parts[0] for parts in relative}))


def folders_are_classes(images: Path, folders: Sequence[str], schema: ClassSchema | None) -> bool:
    """Tell whether `folders` are those of classes: of `schema`, or else by their look.

    Raises
    ------
    LabelError
        Some folders are classes and others are not.
    """
    if not folders:
        return False
    if schema is None:
        return not any(folder.casefold() in _NOT_A_TISSUE for folder in folders)
    others = [folder for folder in folders if schema.find(folder) is None]
    if others and len(others) < len(folders):
        raise LabelError(
            f"some folders have the name of a class, but not {', '.join(map(shown, others))}",
            where=shown(images),
            remedy=f"Name each folder as one of the classes: {', '.join(schema.names)}.",
        )
    return not others


def folder_labels(images: Path, paths: Sequence[Path], schema: ClassSchema) -> dict[Path, Label]:
    """Return the label of each path: the class of its first-level folder present, others absent.

    Raises
    ------
    SchemaError
        A folder has the name of no class.
    """
    labels = {}
    for path in paths:
        present = schema.position(path.relative_to(images).parts[0])
        labels[path] = tuple(
            int(Presence.PRESENT if position == present else Presence.ABSENT)
            for position in range(len(schema.classes))
        )
    return labels
