"""The job that brings masks into a project: as truth to validate on, or to correct further."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ImageError, ProjectError, ProtosegError
from napari_protoseg.evaluation.protocol import MaskCodes, class_positions
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.exports.indexed_png import encoded_mask
from napari_protoseg.images.reading import read_mask
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.schema import UNLABELLED, ClassSchema
from napari_protoseg.storage import storage_errors


class MaskPurpose(StrEnum):
    """What masks are imported for."""

    TRUTH = "truth"
    """To measure on: their images are validated on, and no longer trained on."""
    CORRECTION = "correction"
    """To go on from: their labelled pixels are kept by every prediction."""


_AT_ONCE = 16 * 224 * 224
"""Pixels of masks from which on they are stored, in one transaction: as many as a shard of small
ones holds."""


@dataclass(frozen=True)
class ImportedMasks:
    """What was imported.

    Parameters
    ----------
    imported
        Number of masks.
    left_out
        Number of masks that a stop has left out.
    without_mask
        Number of images of the project that have none in the folder.
    without_image
        Files that belong to no image of the project.
    """

    imported: int
    left_out: int
    without_mask: int
    without_image: tuple[str, ...]


def import_masks(
    project: Project,
    folder: Path,
    codes: MaskCodes,
    purpose: MaskPurpose,
    *,
    person: str,
    now: datetime,
) -> Job[ImportedMasks | None]:
    """Import PNG masks that are named as the images of the project: none where one is unfit.

    Masks for truth are copied to ``truth/`` in the project, in its own codes: all of them, or none.
    Others are stored a few at a time, so that who draws meanwhile does not wait; a stop, a kill or
    a full disk leaves those that were stored, and the same import again brings the rest.

    Parameters
    ----------
    project
        Whose images they belong to.
    folder
        Holds the masks; its folders are not searched.
    codes
        What the values of their pixels mean.
    purpose
        What they are imported for.
    person
        Who imports them.
    now
        When.

    Returns
    -------
    ImportedMasks or None
        None after a stop while they are read: nothing was imported.

    Raises
    ------
    ProjectError
        There is no mask of an image of the project, two images have the name of a mask, or two
        masks that of one image.
    ImageError, EvaluationError
        A mask cannot be read, has another size than its image, or values without a class.
    StorageError
    """
    project.require_writable()
    with storage_errors(folder):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    images = project.images()
    pairs = _pairs(files, images)
    if not pairs:
        raise ProjectError(
            "holds no mask named as an image of the project",
            where=folder,
            remedy="Name each mask as its image, with the suffix .png.",
        )
    masks: list[tuple[int, NDArray[np.uint8]]] = []
    for number, (image, path) in enumerate(pairs, start=1):
        masks.append((image.known_id, _read(path, image, project.schema, codes)))
        if (yield Progress("Reading masks", number, len(pairs))) is Request.STOP:
            return None
    imported = len(masks)
    if purpose is MaskPurpose.TRUTH:
        schema = project.schema
        # Encoded one at a time, as they are written.
        project.import_truth((i, encoded_mask(mask, schema, where=folder)) for i, mask in masks)
    else:
        imported = yield from _keep_corrections(project, masks, person=person, now=now)
    matched = {path for _, path in pairs}
    return ImportedMasks(
        imported=imported,
        left_out=len(masks) - imported,
        without_mask=len(images) - len(masks),
        without_image=tuple(path.name for path in files if path not in matched),
    )


def _pairs(files: Sequence[Path], images: Iterable[ImageRecord]) -> list[tuple[ImageRecord, Path]]:
    """Return each image that a file is named as, with that file; others are left out."""
    named = defaultdict(list)
    for image in images:
        named[image.path.stem].append(image)
    found: dict[int, tuple[ImageRecord, Path]] = {}
    for path in files:
        match named.get(path.stem, []):
            case [image] if image.known_id in found:
                other = found[image.known_id][1].name
                raise ProjectError(
                    f"is named as the image {image.path}, and so is {other}",
                    where=path,
                    remedy="Leave one of the two in the folder; nothing was imported.",
                )
            case [image]:
                found[image.known_id] = (image, path)
            case [first, second, *_]:
                raise ProjectError(
                    f"is the name of several images, {first.path} and {second.path}",
                    where=path,
                    remedy="Give the images names of their own, and the masks the same.",
                )
    return list(found.values())


def _read(
    path: Path, image: ImageRecord, schema: ClassSchema, codes: MaskCodes
) -> NDArray[np.uint8]:
    """Return a mask in the codes of a project."""
    values = read_mask(path)
    if values.shape != (image.height, image.width):
        raise ImageError(
            f"is {values.shape[1]} x {values.shape[0]} pixels, its image "
            f"{image.width} x {image.height}",
            where=path,
            remedy="Give a mask of the size of its image.",
        )
    positions = class_positions(values, schema, codes, where=path)
    return np.array([*schema.ids, UNLABELLED], dtype=np.uint8)[positions]


def _keep_corrections(
    project: Project, masks: list[tuple[int, NDArray[np.uint8]]], *, person: str, now: datetime
) -> Job[int]:
    """Store masks a few at a time; return how many, which a stop makes fewer."""
    stored = 0
    for number in range(1, len(masks) + 1):
        waiting = masks[stored:number]
        if number < len(masks) and sum(mask.size for _, mask in waiting) < _AT_ONCE:
            continue
        try:
            project.store_imports(dict(waiting), person=person, now=now)
        except ProtosegError:
            if stored:
                text = f"Masks that are imported: {stored} of {len(masks)}. Import them again "
                yield Notice(text + "to bring the rest.", Severity.WARNING)
            raise
        stored = number
        if (yield Progress("Storing masks", number, len(masks))) is Request.STOP:
            break
    return stored
