"""What a project holds: images with their labels, banks, rounds and masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import ProjectError
from napari_protoseg.schema import UNLABELLED

MOST_PIXELS = 2**28
"""Of a mask: larger images are not read, so that a record of one was made to exhaust."""


class RecordError(Exception):
    """A record is damaged; whoever reads the database says which database that is."""


class Split(Enum):
    """What an image is for."""

    TRAIN = "train"
    VALIDATION = "validation"


class RoundStatus(Enum):
    """How far a round of training has come; a killed one stays `RUNNING`."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"


class Stage(Enum):
    """Which of the two models of a project: each has its own rounds of training."""

    PROTOTYPES = "prototypes"
    """Learned from image-level labels and a bank of prototypes."""
    SEGMENTATION = "segmentation"
    """Learned from the masks of the other."""


class Origin(IntEnum):
    """Who has set a pixel of a mask."""

    NONE = 0
    MODEL = 1
    PERSON = 2
    IMPORTED = 3
    PROPAGATED = 4
    """A machine, which has spread what a person has set; a later prediction may change it."""


PROTECTED = (Origin.PERSON, Origin.IMPORTED)
"""Whose pixels no prediction changes."""

FIRST_PERSON = 16
"""Setters from here on are persons by name: this plus the number of the person."""

MOST_PEOPLE = 254 - FIRST_PERSON
"""The highest number of a person; 255 stands in no mask."""

_ORIGINS = np.array(
    [Origin.PERSON if code >= FIRST_PERSON else code for code in range(256)], dtype=np.uint8
)
_PROTECTED = np.isin(_ORIGINS, PROTECTED)
_UNPROTECTED = np.flatnonzero(~_PROTECTED).astype(np.uint8).tobytes()


def origins_of(setters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the `Origin` of each setter: persons by name are all `PERSON`."""
    return np.asarray(_ORIGINS[setters])


def are_protected(setters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which pixels no prediction may change, by their setters."""
    return np.asarray(_PROTECTED[setters])


def has_protected(setters: NDArray[np.uint8]) -> bool:
    """Tell whether there is a pixel that no prediction may change; faster than `are_protected`."""
    return bool(setters.tobytes().translate(None, _UNPROTECTED))


def setters_of_model(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the setters of pixels that are a model's alone: nobody where it says nothing."""
    return np.asarray(mask != UNLABELLED, dtype=np.uint8)  # `NONE` is 0, `MODEL` is 1


class ReviewStatus(Enum):
    """What a person has said of a mask; that nothing was said yet is no status."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    FLAGGED = "flagged"


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image of a project.

    Parameters
    ----------
    path
        Absolute when read from a project.
    content_hash
        SHA-256 of the file, hexadecimal.
    width, height
        Pixels.
    label
        For each class in schema order: 1 present, 0 absent, -1 unknown.
    micrometres_per_pixel
        None where it is unknown.
    case
        Patient or slide; None where the image is a case of its own.
    mask_path
        Exact mask that came with the image.
    id
        None until the image is in a project.
    """

    path: Path
    content_hash: str
    width: int
    height: int
    label: tuple[int, ...]
    micrometres_per_pixel: float | None = None
    case: str | None = None
    split: Split = Split.TRAIN
    mask_path: Path | None = None
    id: int | None = None

    @property
    def known_id(self) -> int:
        """The id that a project has given to the image.

        Raises
        ------
        ProjectError
            It has none: the image is of no project yet.
        """
        if self.id is None:
            raise ProjectError(
                "is not of this project", where=self.path, remedy="Add it to the project first."
            )
        return self.id


@dataclass(frozen=True)
class BankRow:
    """One version of the prototype bank: where it is, what it was made for, and of what."""

    version: int
    path: Path
    summary_json: str
    fingerprint: str
    created: datetime
    made_of_json: str | None = None


@dataclass(frozen=True)
class Round:
    """One training, with the folder of its checkpoints.

    `bank_version` is of the bank that it learned from, or that the model had whose masks it did.
    `made_of_json` is of what else it was made of, or None where that was not recorded.
    """

    id: int
    folder: Path
    bank_version: int
    config_json: str
    status: RoundStatus
    metrics_json: str | None
    created: datetime
    finished: datetime | None
    stage: Stage = Stage.PROTOTYPES
    made_of_json: str | None = None


@dataclass(frozen=True)
class PredictedMask:
    """A mask that a model made of one image.

    Parameters
    ----------
    image_id
        Image of the project.
    mask
        ``(height, width)``: 0 unlabelled, k class id k.
    confidence
        ``(height, width)``, 0..1.
    """

    image_id: int
    mask: NDArray[np.uint8]
    confidence: NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """What a mask came from.

    Parameters
    ----------
    round_id
        Training that it came from; None where none was needed, or it was of another project.
    bank_version
        Bank whose frozen evidence has made it, before any training on that bank; else None.
    label_condition
        Which image-level labels it was made with.
    recipe_json
        Everything between prototype maps and mask; ``null`` where no model has made it.
    created
        When a model, or else a person, has made it.
    labels
        Where it was made with given labels: ids of the model's classes, each with ``+`` present,
        ``-`` absent or ``?`` unknown, as in ``1+ 2- 3?``; None where that was not recorded.
    """

    round_id: int | None
    bank_version: int | None = None
    label_condition: str
    recipe_json: str
    created: datetime
    labels: str | None = None

    @property
    def is_of_model(self) -> bool:
        """Whether a model has made it, of this project or another."""
        return self.recipe_json != "null"


def no_source(created: datetime) -> MaskSource:
    """Return the source of a mask that no model has made."""
    return MaskSource(round_id=None, label_condition="none", recipe_json="null", created=created)


@dataclass(frozen=True, kw_only=True)
class MaskSummary(MaskSource):
    """What is known of the current mask of an image without reading its pixels.

    Parameters
    ----------
    corrected_by, corrected
        Who has set pixels, by hand or by an import, and when last; None where nobody has.
    """

    corrected_by: str | None
    corrected: datetime | None


@dataclass(frozen=True)
class StoredMask(PredictedMask):
    """The current mask of an image, and what it came from.

    Parameters
    ----------
    setters
        ``(height, width)``: who has set each pixel; an `Origin`, or from `FIRST_PERSON` on a
        person by number.
    source
        Where it came from.
    """

    setters: NDArray[np.uint8]
    source: MaskSource

    @property
    def origins(self) -> NDArray[np.uint8]:
        """Who has set each pixel, ``(height, width)`` of `Origin` values."""
        return origins_of(self.setters)

    @property
    def is_protected(self) -> NDArray[np.bool_]:
        """Where no prediction may change the mask, ``(height, width)``."""
        return are_protected(self.setters)

    @property
    def is_of_nobody(self) -> bool:
        """Whether neither a model has made it nor anybody set a pixel of it."""
        return not (self.source.is_of_model or self.setters.any())


@dataclass(frozen=True, eq=False)
class FreshConfidence:
    """That of a prediction which enters a mask as a step: the journal does not hold it.

    Parameters
    ----------
    values
        ``(height, width)``, 0..1.
    source
        The prediction.
    """

    values: NDArray[np.float16]
    source: MaskSource | None

    def on(self, mask: StoredMask) -> StoredMask:
        """Return a mask with the confidence of what nobody but the model has set, if it is its."""
        if mask.source != self.source:
            return mask
        confidence = np.where(mask.is_protected, mask.confidence, self.values)
        return replace(mask, confidence=confidence)
