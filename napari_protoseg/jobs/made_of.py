"""What a result of a project was made of, as it is recorded beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from napari_protoseg.labels.records import Presence, is_labelled
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import BankRow, ImageRecord, MaskSource, Round, Split

_SIGNS = {Presence.PRESENT: "+", Presence.ABSENT: "-", Presence.UNKNOWN: "?"}


class MadeOf(BaseModel):
    """The versions that a result came from, as a project records them beside it.

    Parameters
    ----------
    schema_version
        Of the class schema.
    classes
        Ids of its classes.
    labels
        For each image that was learned from, what it was for (``t`` to train on, ``v`` to
        validate on), then for each class ``+`` present, ``-`` absent or ``?`` unknown.
    teacher, taught
        Of a second stage: the round whose masks it learned from, and when that had ended.
    recipe
        By which those masks were made.
    corrected
        For each image whose mask somebody had corrected by then, when that was last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    classes: tuple[int, ...]
    labels: dict[int, str]
    teacher: int | None = None
    taught: datetime | None = None
    recipe: Recipe | None = None
    corrected: dict[int, datetime] = {}

    @model_validator(mode="after")
    def _signs_of_all_classes(self) -> Self:
        if any(len(text) != 1 + len(self.classes) for text in self.labels.values()):
            raise ValueError("a label has not one sign for each class")
        return self

    @classmethod
    def of(cls, project: Project, images: Iterable[ImageRecord]) -> Self:
        """Return that of a result which is made now, and learns from the labels of `images`."""
        return cls(
            schema_version=project.schema_version(),
            classes=project.schema.ids,
            labels={image.known_id: _text(image) for image in images},
        )

    def taught_by(self, project: Project, teacher: Round, recipe: Recipe) -> Self:
        """Return that of a second stage, which also learns from masks of a round."""
        return self.model_copy(
            update={
                "teacher": teacher.id,
                "taught": teacher.finished,
                "recipe": recipe,
                "corrected": corrections(project),
            }
        )

    def sign(self, image_id: int, class_id: int) -> str:
        """Return what was known of a class in an image."""
        if class_id not in self.classes or image_id not in self.labels:
            return _SIGNS[Presence.UNKNOWN]
        return self.labels[image_id][1 + self.classes.index(class_id)]


def bank_images(project: Project) -> tuple[ImageRecord, ...]:
    """Return the images that a bank is built of."""
    images = project.images(Split.TRAIN)
    # The others make no prototype: an image that a model was only applied to has no label.
    return tuple(image for image in images if Presence.PRESENT in image.label) or images


def learned_images(project: Project) -> list[ImageRecord]:
    """Return the images that a training learns from, or is validated on, by their labels."""
    return [image for image in project.images() if is_labelled(image.label)]


def corrections(project: Project) -> dict[int, datetime]:
    """Return when the mask of each image was corrected last, where it was."""
    summaries = project.mask_summaries().items()
    return {i: of.corrected for i, of in summaries if of.corrected is not None}


def labels_text(class_ids: Sequence[int], label: Sequence[int]) -> str:
    """Return the label of an image as a mask records it that was made with it.

    Parameters
    ----------
    class_ids
        Of the model.
    label
        In the order of these classes.
    """
    pairs = zip(class_ids, label, strict=True)
    return " ".join(f"{class_id}{_SIGNS[Presence(presence)]}" for class_id, presence in pairs)


def relabelled(project: Project, masks: Mapping[int, MaskSource]) -> frozenset[int]:
    """Return the images whose labels are not those that their masks were made with.

    Parameters
    ----------
    project
        Of the images.
    masks
        What their masks came from.
    """
    ids, found = [str(class_id) for class_id in project.schema.ids], set()
    for image in project.images():
        source = masks.get(image.known_id)
        if source is not None and source.labels is not None:
            signs = (_SIGNS[Presence(presence)] for presence in image.label)
            now = dict(zip(ids, signs, strict=True))
            parts = source.labels.split()
            if any(now.get(part[:-1], "?") != part[-1:] for part in parts):
                found.add(image.known_id)
    return frozenset(found)


def recorded_making(result: BankRow | Round) -> MadeOf | None:
    """Return what a result was made of; None where an earlier or later version has not told."""
    try:
        return MadeOf.model_validate_json(result.made_of_json or "")
    except ValidationError:
        return None


def _text(image: ImageRecord) -> str:
    purpose = "t" if image.split is Split.TRAIN else "v"
    return purpose + "".join(_SIGNS[Presence(presence)] for presence in image.label)
