"""A training folder in the layout of BCSS-WSSS, for networks of other programs.

::

    training/<name>[1101].png         images to train on, their labels in the names
    training_masks/<same name>        their pseudo-masks
    valid/img/, valid/mask/           images of the validation split, and their true masks or, of
                                      those that have none, pseudo-masks
    classes.json                      what the mask values mean

Mask values are zero-based positions in the order of the schema, as are the digits in the
brackets; the number of classes stands for unlabelled.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.errors import ExportError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.exports.earlier import CLASSES
from napari_protoseg.exports.folder import (
    Exported,
    NamedMask,
    publish,
    staging,
    take_name,
    write_classes,
)
from napari_protoseg.exports.indexed_png import color_of, value_palette, write_values
from napari_protoseg.images.reading import read_image
from napari_protoseg.project.records import Split
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.storage import replacing, storage_errors

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UNLABELLED_COLOR = (255, 255, 255)  # as in BCSS-WSSS, where it is mostly glass

_FOLDERS: Mapping[Split, tuple[Path, Path]] = MappingProxyType(
    {
        Split.TRAIN: (Path("training"), Path("training_masks")),
        Split.VALIDATION: (Path("valid", "img"), Path("valid", "mask")),
    }
)


@dataclass(frozen=True)
class MaskedImage(NamedMask):
    """An image to export with its mask; `name` and `mask` as in `NamedMask`.

    Parameters
    ----------
    image_path
        Of the image, in any format that `read_image` takes.
    label
        1 (present) or 0 (absent) for each class, in schema order.
    split
        Whether it is to train or to validate on.
    """

    image_path: Path
    label: tuple[int, ...]
    split: Split


def export_training_folder(
    images: Iterable[MaskedImage],
    total: int,
    out: Path,
    schema: ClassSchema,
    *,
    overwrite: bool = False,
) -> Job[Exported | None]:
    """Write images and masks in the layout that this module describes.

    A PNG is copied byte for byte, any other image is stored as PNG without loss. A label in
    brackets at the end of an image's name gives way to the new one; other brackets become
    parentheses, since readers of this layout take the first pair for the label.

    Parameters
    ----------
    images
        Taken one at a time.
    total
        Their number, for the progress.
    out
        A new or empty folder; it appears complete or not at all.
    overwrite
        Put it in the place of an earlier export in `out`, which goes once the new one is whole.

    Returns
    -------
    What was written, or None when asked to stop, which leaves nothing behind.

    Raises
    ------
    ExportError
        `out` holds something (to overwrite: what no export writes), two images would get one
        name, a label is unknown or of another length, or a mask holds a value without a class or
        is of another size.
    ImageError, StorageError
    """
    taken: set[str] = set()
    unlabelled = len(schema.classes)
    positions = list(range(unlabelled))
    colors = value_palette(
        {
            unlabelled: _UNLABELLED_COLOR,
            **{k: color_of(c.color) for k, c in enumerate(schema.classes)},
        }
    )
    with staging(out, overwrite=overwrite) as folder:
        for pair in _FOLDERS.values():
            for below in pair:
                (folder / below).mkdir(parents=True)
        for done, item in enumerate(images):
            if (yield Progress("Writing the training folder", done, total)) is Request.STOP:
                return None
            name = _bracketed(item, schema)
            take_name(name, taken)
            image_folder, mask_folder = _FOLDERS[item.split]
            values = _zero_based(item, schema)
            _write_image(item, folder / image_folder / f"{name}.png")
            write_values(folder / mask_folder / f"{name}.png", values, colors, schema)
        write_classes(folder / CLASSES, schema, positions, unlabelled)
        publish(folder, out, overwrite=overwrite)
    yield Progress("Writing the training folder", len(taken), len(taken))
    return Exported(out, len(taken))


def _bracketed(item: MaskedImage, schema: ClassSchema) -> str:
    """Return the name of `item` with its label as BCSS-WSSS writes it, ``...[1101]``."""
    if len(item.label) != len(schema.classes):
        raise ExportError(
            f"a label of {len(item.label)} classes, not {len(schema.classes)}",
            where=item.image_path,
            remedy="Give one value for each class, in the order of the schema.",
        )
    for name, presence in zip(schema.names, item.label, strict=True):
        if presence not in {0, 1}:
            raise ExportError(
                f"whether {name} is present is unknown, which this layout cannot express",
                where=item.image_path,
                remedy="Complete its label, or leave the image out.",
            )
    return bracketed_name(item.name, item.label)


def bracketed_name(name: str, label: Sequence[int]) -> str:
    """Return the name that an image gets in the training folder.

    Parameters
    ----------
    name
        Of the image, without suffix.
    label
        1 or 0 for each class, in schema order.
    """
    stem = re.sub(r"[-_ ]?\[[01, ]*\]$", "", name).translate(str.maketrans("[]", "()"))
    return f"{stem}[{''.join(map(str, label))}]"


def _zero_based(item: MaskedImage, schema: ClassSchema) -> NDArray[np.uint8]:
    unknown = np.setdiff1d(item.mask, (UNLABELLED, *schema.ids))
    if unknown.size:
        raise ExportError(
            f"mask value {unknown[0]} is no class of the schema",
            where=item.image_path,
            remedy="Predict this image again with the classes of the project.",
        )
    table = np.full(256, len(schema.classes), np.uint8)
    table[list(schema.ids)] = np.arange(len(schema.classes))
    return table[item.mask]


def _write_image(item: MaskedImage, path: Path) -> None:
    pixels = read_image(item.image_path)
    if pixels.shape[:2] != item.mask.shape:
        raise ExportError(
            f"a mask of {item.mask.shape[1]} x {item.mask.shape[0]} pixels "
            f"for an image of {pixels.shape[1]} x {pixels.shape[0]}",
            where=item.image_path,
            remedy="Predict this image again.",
        )
    with storage_errors(item.image_path), item.image_path.open("rb") as stream:
        is_png = stream.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
    with replacing(path) as temporary:
        if is_png:
            shutil.copyfile(item.image_path, temporary)
        else:
            Image.fromarray(pixels).save(temporary, format="PNG")
