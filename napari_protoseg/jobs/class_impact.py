"""The job that says what it affects to remove a class, or to merge it into another."""

from __future__ import annotations

from dataclasses import dataclass

from napari_protoseg.bank.codec import read_bank
from napari_protoseg.errors import ProtosegError, SchemaError
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.jobs.made_of import recorded_making
from napari_protoseg.labels.records import Presence
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ReviewStatus, Stage
from napari_protoseg.schema import TissueClass

_NAMES = {Stage.PROTOTYPES: "round", Stage.SEGMENTATION: "segmentation round"}


@dataclass(frozen=True)
class ClassImpact:
    """What it affects that a class goes.

    Parameters
    ----------
    known
        The class.
    heir
        The class that it is to be merged into; None where it is to be removed.
    present, absent
        How many images are labelled so with it.
    masks, pixels
        How many of its pixels there are, in how many masks.
    set_masks, set_pixels
        Those among them that a person has set, or an import.
    accepted
        How many of these masks were accepted in review.
    bank, prototypes
        Version of the newest bank, and how many prototypes of the class it has; None and 0 where
        there is none, or it has none.
    rounds
        Those that were trained with the class, by name.
    """

    known: TissueClass
    heir: TissueClass | None
    present: int
    absent: int
    masks: int
    pixels: int
    set_masks: int
    set_pixels: int
    accepted: int
    bank: int | None
    prototypes: int
    rounds: tuple[str, ...]

    @property
    def question(self) -> str:
        """What a person is asked."""
        if self.heir is None:
            return f"Remove {self.known.name}?"
        return f"Merge {self.known.name} into {self.heir.name}?"

    def lines(self) -> list[str]:
        """Say what is affected, a sentence or two each."""
        into = self.heir
        labels = (
            f"Labels: it is present in {_counted(self.present, 'image')} and absent in "
            f"{self.absent:,}."
        )
        if into is None:
            labels += " Nothing is known of it any more."
        else:
            labels += (
                f" {into.name} is then present where either was, absent where both were, and "
                "unknown elsewhere."
            )
        pixels = f"Masks: {_counted(self.pixels, 'pixel')} in {_counted(self.masks, 'mask')}"
        if not self.pixels:
            pixels = "Masks: no pixel is of it."
        elif into is not None:
            pixels += f" become {into.name}; whose they are does not change."
        else:
            pixels += " become unlabelled, until a model fills them."
            if self.set_pixels:
                pixels += (
                    f" {self.set_pixels:,} of them, in {_counted(self.set_masks, 'mask')}, were "
                    "set by a person or imported: they stay theirs, and no model fills them."
                )
        lines = [labels, pixels]
        if self.accepted:
            lines.append(
                f"{self.accepted:,} of these masks {_are(self.accepted)} accepted, and stay so."
            )
        made = [*self.rounds]
        if self.bank is not None:
            made.insert(0, f"bank {self.bank} (with {_counted(self.prototypes, 'prototype')})")
        if made:
            lines.append(
                f"Made with it: {', '.join(made)}. They are kept, and cannot be used until the "
                "class is back. Build a bank and train anew."
            )
        if self.known.shortcut is not None:
            lines.append(f"Its key, {self.known.shortcut}, is free then.")
        lines.append(
            "Undo brings it back with its labels and pixels, also after the project was closed; "
            "what you label or draw meanwhile stays. Of several classes the last comes back first."
        )
        return lines


def class_impact(project: Project, class_id: int, heir: int | None) -> Job[ClassImpact | None]:
    """Look at all that has to do with a class; nothing is changed.

    Parameters
    ----------
    project
        Of the class.
    class_id
        The class that is to go.
    heir
        The one to merge it into, or None.

    Returns
    -------
    ClassImpact or None
        None after a stop.

    Raises
    ------
    SchemaError
        There is no such class.
    StorageError
    """
    classes = {known.id: known for known in project.schema.classes}
    if class_id not in classes or (heir is not None and heir not in classes):
        raise SchemaError(
            "there is no such class",
            where="class schema",
            remedy=f"The classes are: {', '.join(project.schema.names)}.",
        )
    position = project.schema.ids.index(class_id)
    presences = [image.label[position] for image in project.images()]
    reviews, masks = project.review_states(), project.mask_summaries()
    found: list[tuple[int, int, int]] = []
    for number, image_id in enumerate(masks, start=1):
        try:
            stored = project.read_mask(image_id)
        except ProtosegError as error:
            yield Notice(f"Not counted: {error}", Severity.WARNING)
            continue
        if stored is not None:
            is_it = stored.mask == class_id
            by_hand = int((is_it & stored.is_protected).sum())
            found.append((image_id, int(is_it.sum()), by_hand))
        if (yield Progress("Looking at masks", number, len(masks))) is Request.STOP:
            return None
    holding = [(image_id, pixels, by_hand) for image_id, pixels, by_hand in found if pixels]
    newest, prototypes = project.latest_bank(), 0
    if newest is not None:
        try:
            prototypes = [p.class_id for p in read_bank(newest.path).prototypes].count(class_id)
        except ProtosegError as error:
            yield Notice(f"Not counted: {error}", Severity.WARNING)
    return ClassImpact(
        known=classes[class_id],
        heir=None if heir is None else classes[heir],
        present=presences.count(Presence.PRESENT),
        absent=presences.count(Presence.ABSENT),
        masks=len(holding),
        pixels=sum(pixels for _, pixels, _ in holding),
        set_masks=sum(by_hand > 0 for _, _, by_hand in holding),
        set_pixels=sum(by_hand for _, _, by_hand in holding),
        accepted=sum(reviews.get(i) is ReviewStatus.ACCEPTED for i, _, _ in holding),
        bank=newest.version if newest is not None and prototypes else None,
        prototypes=prototypes,
        rounds=tuple(_rounds_with(project, class_id)),
    )


def _rounds_with(project: Project, class_id: int) -> list[str]:
    """Return the names of the rounds that were trained with a class."""
    schemas = [project.schema, *project.earlier_schemas()]
    banks = {
        row.version: any(class_id in s.ids for s in schemas if s.fingerprint == row.fingerprint)
        for row in project.banks()
    }
    names = []
    for trained in project.rounds():
        made = recorded_making(trained)
        known = banks[trained.bank_version] if made is None else class_id in made.classes
        if known:
            names.append(f"{_NAMES[trained.stage]} {trained.id}")
    return names


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
