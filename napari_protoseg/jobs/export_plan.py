"""What an export is about to write, make and replace: read from records, without pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_protoseg.errors import ExportError, ProtosegError
from napari_protoseg.jobs.export_destination import Destination, look_at_destination
from napari_protoseg.jobs.made_of import relabelled
from napari_protoseg.jobs.models import ModelKey, newest_trained_round
from napari_protoseg.jobs.outdated import outdated_masks
from napari_protoseg.labels.records import Presence
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, ReviewStatus, Split


class ExportFormat(StrEnum):
    """How masks are written."""

    PNG = "png"
    """Indexed PNGs whose values are class ids."""
    TRAINING = "training"
    """A training folder in the layout of BCSS-WSSS, with the true masks of images to validate
    on, where there are some."""


class Exportable(StrEnum):
    """What a project gives away: masks in one of their formats, or the network."""

    PNG = ExportFormat.PNG.value
    TRAINING = ExportFormat.TRAINING.value
    ONNX = "onnx"
    """The segmentation network, as one file."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What an export does.

    Parameters
    ----------
    project
        Folder of the project.
    form
        What is written.
    destination
        Where, and what lies there.
    round_id
        Round whose model makes masks; None where nothing was trained yet.
    images
        Number of images of the project.
    exported
        Ids of the images whose masks are written.
    stale
        Of these, those whose mask the model makes first.
    missing
        How many of `stale` have no mask yet.
    predicted
        How many masks are of this model and recipe in the end: the others were painted,
        imported, accepted in review, or made by a model of another project or by the frozen
        evidence of a bank that is newer than this model.
    corrected, accepted
        How many masks a person has corrected, or accepted in review.
    true
        Ids of the images whose true mask is written instead: in a training folder, those to
        validate on that have one.
    unknown
        How many images are left out since a class is neither present nor absent in them.
    without_mask
        How many are left out since they have no mask, and there is no model to make one.
    """

    project: Path
    form: ExportFormat
    destination: Destination
    round_id: int | None
    images: int
    exported: tuple[int, ...]
    stale: tuple[int, ...]
    missing: int
    predicted: int
    corrected: int
    accepted: int
    true: frozenset[int]
    unknown: int
    without_mask: int

    @property
    def current(self) -> int:
        """How many masks are written as they are."""
        return len(self.exported) - len(self.stale)

    @property
    def makes_masks(self) -> bool:
        """Whether masks are stored in the project before it is read."""
        return bool(self.stale)

    def obstacle(self, *, overwrite: bool = False) -> ProtosegError | None:
        """Return why the export cannot be done, to raise or to show; None where it can."""
        if not self.exported:
            return self._nothing()
        if self.destination.error is not None:
            return self.destination.error
        if self.destination.files and not overwrite:
            return ExportError(
                f"holds an earlier export of {_counted(self.destination.files, 'file')}",
                where=self.destination.out,
                remedy="Overwrite it, or choose another folder.",
                on_terminal="--overwrite, or --out FOLDER",
            )
        return None

    def lines(self) -> list[str]:
        """Return the plan in sentences for a person."""
        return [*self._written(), *self.left_out(), *self._replaced()]

    def left_out(self) -> list[str]:
        """Return in sentences which images are left out, and why."""
        found = []
        if self.unknown:
            found.append(
                f"{_counted(self.unknown, 'image')} with classes that are neither present nor "
                "absent: left out, since this layout has no sign for unknown."
            )
        if self.without_mask:
            found.append(
                f"{_counted(self.without_mask, 'image')} without a mask: left out, since there is "
                "no trained model to make one."
            )
        return found

    def _written(self) -> Iterator[str]:
        if not self.exported:
            yield "There is nothing to write."
            return
        yield (
            f"{_counted(len(self.exported), 'mask')} of {_counted(self.images, 'image')} to write; "
            f"stored and up to date: {self.current:,}."
        )
        if self.true:
            yield f"Of images to validate on, the true masks are written: {len(self.true):,}."
        remade = len(self.stale) - self.missing
        if self.missing:
            yield f"The model of round {self.round_id} makes what is missing: {self.missing:,}."
        if remade:
            yield (
                f"The model of round {self.round_id} makes anew what an earlier model, or another "
                f"recipe, has made: {remade:,}."
            )
        if self.corrected:
            yield f"Corrected by a person, or imported; such pixels stay: {self.corrected:,}."
        if self.accepted:
            yield f"Accepted in review, and written as stored: {self.accepted:,}."

    def _replaced(self) -> Iterator[str]:
        where = self.destination.out
        if self.destination.files:
            yield (
                f"In {where}, an earlier export of {_counted(self.destination.files, 'file')} is "
                "replaced."
            )
        elif self.destination.error is None:
            yield f"They go to {where}, which holds nothing yet."

    def _nothing(self) -> ExportError:
        on_terminal = None
        if self.images == 0:
            what, remedy = "there are no images to export", "Add some on Labels."
        elif self.without_mask:
            what = "no image has a mask, and there is no trained model to make one"
            remedy, on_terminal = "Train one.", f"protoseg train {self.project}"
        else:
            what = "no image has every class either present or absent, as this layout needs"
            remedy = "Complete the labels, or choose another format."
        return ExportError(what, where=self.project, remedy=remedy, on_terminal=on_terminal)


def plan_export(project: Project, form: ExportFormat, out: Path, recipe: Recipe) -> ExportPlan:
    """Return what `export_project` does with the same arguments; neither pixels nor model are read.

    Raises
    ------
    StorageError
    """
    images = project.images()
    summaries = project.mask_summaries()
    reviews = project.review_states()
    accepted = {i for i, status in reviews.items() if status is ReviewStatus.ACCEPTED}
    trained = newest_trained_round(project)
    outdated: frozenset[int] = frozenset()
    if trained is not None:
        key = ModelKey.of(trained)
        outdated = outdated_masks(summaries, key, recipe, relabelled(project, summaries))
    suited = [image for image in images if form is not ExportFormat.TRAINING or _is_known(image)]
    true = frozenset(image.known_id for image in suited if _shows_truth(image, form))
    exported = [
        image.known_id
        for image in suited
        if trained is not None or image.id in summaries or image.id in true
    ]
    stored = [i for i in exported if i not in true]
    missing = {i for i in stored if i not in summaries}
    stale = [i for i in stored if i in missing or (i in outdated and i not in accepted)]
    made = {i for i, summary in summaries.items() if summary.round_id is not None} - outdated
    return ExportPlan(
        project=project.folder,
        form=form,
        destination=look_at_destination(project, out, images),
        round_id=None if trained is None else trained.id,
        images=len(images),
        exported=tuple(exported),
        stale=tuple(stale),
        missing=len(missing),
        predicted=len(stale) + sum(i in made for i in stored),
        corrected=sum(i in summaries and summaries[i].corrected is not None for i in stored),
        accepted=sum(i in accepted for i in stored),
        true=true,
        unknown=len(images) - len(suited),
        without_mask=len(suited) - len(exported),
    )


def _shows_truth(image: ImageRecord, form: ExportFormat) -> bool:
    is_validated_on = image.split is Split.VALIDATION and image.mask_path is not None
    return form is ExportFormat.TRAINING and is_validated_on


def _is_known(image: ImageRecord) -> bool:
    return Presence.UNKNOWN not in image.label


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
