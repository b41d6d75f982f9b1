"""The job that verifies everything in a project, and repairs what can be repaired safely."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_protoseg.bank.codec import read_bank
from napari_protoseg.errors import (
    MissingError,
    ProjectClosedError,
    ProjectError,
    ProjectLockedError,
    ProtosegError,
    StorageError,
    with_command,
)
from napari_protoseg.events import Event, Job, Progress, Request
from napari_protoseg.images.reading import read_mask
from napari_protoseg.jobs.check_report import CheckReport, Finding, Outcome, place
from napari_protoseg.project.edit_codec import JournalError
from napari_protoseg.project.edits import Unnamed
from napari_protoseg.project.folder import Project
from napari_protoseg.project.inspection import Fault
from napari_protoseg.project.leftovers import cached_files, unfinished_files, unnamed_files
from napari_protoseg.project.mask_values import contradictions
from napari_protoseg.project.records import BankRow, ImageRecord, MaskSummary, Round, RoundStatus
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import storage_errors

if TYPE_CHECKING:
    from napari_protoseg.training.checkpoint import Checkpoint

_NAMED = 3
_LOOK = "Look at the mask; restore the project folder from a copy where it is wrong."
_FREE = "See that its folder can be written and nothing has it open, then check again."
_LAST = "last.safetensors"
_CHECKPOINTS = ("best.safetensors", _LAST)


def check_project(
    project: Project, *, repair: bool = False, images: bool = True
) -> Job[CheckReport]:
    """Verify the rows, images, masks, banks and checkpoints of a project.

    What killed programs have left half-written is removed. A project that another process has
    open for writing is looked at alone, and nothing is said of files that are perhaps being
    written; so is one that another process takes over meanwhile. What others change while it is
    looked at is no problem.

    Parameters
    ----------
    project
        To verify.
    repair
        Also remove what lies beside banks, runs and true masks and no row names, rows that mean
        nothing without an image that is gone, and all caches. No mask, label or named file is ever
        removed, nor a folder that holds one.
    images
        Look at the files of images and true masks, too.

    Returns
    -------
    CheckReport
        Up to where it was stopped.

    Raises
    ------
    ProjectLockedError
        Another process writes to the project, or has taken it over before files were removed,
        and it is to be repaired.
    ProjectClosedError
        It was closed meanwhile.
    StorageError
        The folder cannot be read.
    """
    if repair:
        project.require_writable()
    report = CheckReport()
    steps = [_rows(project, report, repair=repair), _files(project, report, repair=repair)]
    if images:
        steps.append(_images(project, report))
    steps += [_masks(project, report), _banks(project, report), _rounds(project, report)]
    for step in steps:
        for event in step:
            if (yield event) is Request.STOP:
                report.is_complete = False
                return report
    return report


def _rows(project: Project, report: CheckReport, *, repair: bool) -> Iterator[Event]:
    yield Progress("Checking the database", 0, 1)
    removed = project.remove_orphan_rows() if repair else {}
    for table, count in removed.items():
        what = f"{count} rows belonged to an image that is not there"
        report.findings.append(Finding(Outcome.REPAIRED, f"table {table}", what, "Removed."))
    report.findings += map(_problem, project.faults())
    yield Progress("Checking the database", 1, 1)


def _files(project: Project, report: CheckReport, *, repair: bool) -> Iterator[Event]:
    if project.is_read_only:
        return
    yield Progress("Checking the folder", 0, 1)
    try:
        report.findings += _folder_findings(project, repair=repair)
    except ProjectLockedError:
        if repair:
            raise
    except StorageError as error:
        report.findings.append(_problem(error))
    yield Progress("Checking the folder", 1, 1)


def _folder_findings(project: Project, *, repair: bool) -> list[Finding]:
    """Look for what no row names, and remove what may go of it.

    Raises
    ------
    ProjectLockedError
        Another process has the project by now: nothing was removed, and what is there may be its.
    StorageError
        A folder cannot be listed, or the database does not answer: nothing was removed.
    """
    named = project.named_files()
    unfinished = unfinished_files(project.folder, named)
    unnamed = unnamed_files(project.folder, named)
    cached = cached_files(project.cache, named) if repair else []
    to_go = [*unfinished, *cached, *(unnamed if repair else ())]
    left = project.discard(to_go, named) if to_go else {}
    if unnamed and not to_go:
        project.require_writable()
    findings = []
    for path, failure in left.items():
        if failure is not None:
            name, where = _name(path, project), _name(Path(failure.where), project)
            of = "over" if where == name else f"of {name}"
            what = f"it is left {of}, and cannot be removed ({failure.what})"
            findings.append(Finding(Outcome.PROBLEM, where, what, _FREE))
    gone = {path for path, failure in left.items() if failure is None}
    for path in unfinished:
        if path in gone:
            what = "it was being written, or removed, when its program was killed"
            findings.append(Finding(Outcome.REPAIRED, _name(path, project), what, "Removed."))
    for path in unnamed:
        what = "it is part of no bank, training or image"
        if path in gone:
            findings.append(Finding(Outcome.REPAIRED, _name(path, project), what, "Removed."))
        elif not repair:
            remedy = "Left as it is; --repair removes it."
            findings.append(Finding(Outcome.KEPT, _name(path, project), what, remedy))
    if not gone.isdisjoint(cached):
        remedy = "They are computed again as needed."
        findings.append(Finding(Outcome.REPAIRED, "cache", "caches were emptied", remedy))
    return findings


def _images(project: Project, report: CheckReport) -> Iterator[Event]:
    images = project.images()
    missing: dict[Path, list[str]] = defaultdict(list)
    for number, image in enumerate(images, start=1):
        report.images += 1
        known, is_missing, found = image, *_image_findings(image)
        # Its files may be others by now, and the former ones gone.
        while is_missing or found:
            latest = project.image(image.known_id)
            if (latest.path, latest.mask_path) == (known.path, known.mask_path):
                break
            known, is_missing, found = latest, *_image_findings(latest)
        if is_missing:
            missing[known.path.parent].append(known.path.name)
        report.findings += found
        yield Progress("Checking images", number, len(images))
    for folder, names in missing.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        what = f"{len(names)} of its images are missing ({', '.join(names[:_NAMED])}{more})"
        remedy = f"If they have moved: protoseg relocate {project.folder} --images FOLDER"
        report.findings.append(Finding(Outcome.PROBLEM, str(folder), what, remedy))


def _image_findings(image: ImageRecord) -> tuple[bool, list[Finding]]:
    """Tell whether the file of an image is missing, and what else is wrong with its files."""
    # Unlike Path.is_file it is no error where a folder is closed.
    is_missing = not os.path.isfile(image.path)  # noqa: PTH113
    found = []
    try:
        if not is_missing and content_hash(image.path) != image.content_hash:
            what, remedy = "has changed since it was taken in", "Restore the original file."
            found.append(Finding(Outcome.PROBLEM, str(image.path), what, remedy))
        if image.mask_path is not None:
            _require_truth(image, image.mask_path)
    except ProtosegError as error:
        found.append(_problem(error))
    return is_missing, found


def _masks(project: Project, report: CheckReport) -> Iterator[Event]:
    masks = project.mask_summaries()
    journals = project.journal_faults()
    images = {image.id: image for image in project.images()}
    for number, (image_id, mask) in enumerate(masks.items(), start=1):
        if image_id in images:
            report.masks += 1
            try:
                stored = project.read_mask(image_id)
            except ProjectClosedError:  # it says nothing of the mask
                raise
            except (ProjectError, MissingError) as error:
                latest = project.mask_summary(image_id) or mask
                drawn = project.unfolded_authors(image_id)
                report.findings.append(_damaged(images[image_id], latest, drawn, error))
                if isinstance(error, JournalError):
                    journals.pop(image_id, None)  # it has just been told of
            except StorageError as error:
                report.findings.append(_not_read(images[image_id], error))
            else:
                # They are asked for after it was read: who is new is entered before they draw.
                found = () if stored is None else contradictions(stored, project.people().values())
                report.findings += [
                    Finding(Outcome.PROBLEM, place(images[image_id]), what, _LOOK) for what in found
                ]
        yield Progress("Checking masks", number, len(masks))
    report.findings += map(_problem, journals.values())


def _banks(project: Project, report: CheckReport) -> Iterator[Event]:
    banks = project.banks()
    for number, row in enumerate(banks, start=1):
        report.banks += 1
        try:
            found = list(_bank_findings(project, row))
        except ProtosegError as error:
            found = [_problem(error)]
        report.findings += found
        yield Progress("Checking banks", number, len(banks))


def _bank_findings(project: Project, row: BankRow) -> Iterator[Finding]:
    where, remedy = f"bank {row.version}", "Build a bank anew."
    bank = read_bank(row.path)
    if bank.schema.fingerprint != row.fingerprint:
        what = "its file is of other classes than its row says"
        yield Finding(Outcome.PROBLEM, where, what, remedy)
    if not project.newest_schema().extends(bank.schema):
        yield _of_other_classes(project, bank.schema, where, "it", remedy)
    strange = [p for p in project.muted_prototypes(row.version) if p >= len(bank.prototypes)]
    if strange:
        what = f"prototypes {strange} are muted, and it has {len(bank.prototypes)}"
        yield Finding(Outcome.PROBLEM, where, what, remedy)


def _rounds(project: Project, report: CheckReport) -> Iterator[Event]:
    rounds = project.rounds()
    for number, row in enumerate(rounds, start=1):
        report.rounds += 1
        try:
            found = list(_round_findings(project, row))
        except ProtosegError as error:
            found = [_problem(error)]
        report.findings += found
        yield Progress("Checking checkpoints", number, len(rounds))


def _round_findings(project: Project, row: Round) -> Iterator[Finding]:
    # Imported here: torch takes seconds, and a project may have been trained on nothing yet.
    from napari_protoseg.training.checkpoint import Checkpoint

    where = f"round {row.id}"
    with storage_errors(row.folder):
        project.folder.stat()  # where it is away, so is all that is in it
        files = [row.folder / name for name in _CHECKPOINTS if (row.folder / name).exists()]
    ended_with_a_model = row.status in (RoundStatus.FINISHED, RoundStatus.STOPPED)
    if not files and ended_with_a_model:
        yield Finding(Outcome.PROBLEM, where, "its checkpoint is missing", "Train again.")
    if row.status is RoundStatus.RUNNING and _has_the_lock(project):
        what = "its program has ended before it did"
        remedy = "It can be resumed." if files else "It has left nothing; train again."
        yield Finding(Outcome.KEPT, where, what, remedy)
    for path in files:
        checkpoint = Checkpoint(path)
        classes = checkpoint.record.classes
        if not project.newest_schema().extends(classes):
            yield _of_other_classes(project, classes, where, path.name, "Train again.")
        if path.name == _LAST and row.status is RoundStatus.FINISHED:
            yield from _training_findings(row, checkpoint)


def _training_findings(row: Round, last: Checkpoint) -> Iterator[Finding]:
    """See that the last checkpoint of a finished round is of the training that its row tells of."""
    from napari_protoseg.jobs.train import RoundMetrics  # as above

    where = f"round {row.id}"
    try:
        recorded = RoundMetrics.model_validate_json(row.metrics_json or "{}")
    except ValidationError:
        yield Finding(Outcome.PROBLEM, where, "its figures cannot be read", "Train again.")
        return
    found = RoundMetrics(epochs=() if last.state is None else last.state.history)
    # As text: figures that are no numbers equal not even themselves.
    if found.model_dump_json() != recorded.model_dump_json():
        what = (
            f"{_LAST} is of another training than the one that has finished: it has measured "
            f"{len(found.epochs)} epochs, and the round {len(recorded.epochs)}"
        )
        remedy = "Restore the folder of the round from a copy, or train again."
        yield Finding(Outcome.PROBLEM, where, what, remedy)


def _has_the_lock(project: Project) -> bool:
    try:
        project.require_writable()
    except ProjectLockedError:
        return False
    return True


def _of_other_classes(
    project: Project, classes: ClassSchema, where: str, name: str, remedy: str
) -> Finding:
    """Tell a result of classes that were removed, which can come back, from a strange one."""
    gone = [of.known for of in project.removed_classes()]
    ids = project.newest_schema().ids
    missing = [known for known in classes.classes if known.id not in ids]
    removed = [known.name for known in missing if any(of.was(known) for of in gone)]
    if len(removed) == len(missing) > 0:
        what = f"{name} cannot be used while {', '.join(removed)} is removed from the classes"
        return Finding(Outcome.KEPT, where, what, f"{remedy} Or bring the class back.")
    what = f"{name} is of classes that the project does not have: {', '.join(classes.names)}"
    return Finding(Outcome.PROBLEM, where, what, remedy)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; `StorageError` where it cannot be read."""
    with storage_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_truth(image: ImageRecord, mask_path: Path) -> None:
    shape = read_mask(mask_path).shape
    if shape != (image.height, image.width):
        raise ProjectError(
            f"the true mask is {shape[1]} x {shape[0]} pixels, its image "
            f"{image.width} x {image.height}",
            where=mask_path,
            remedy="Import the mask again.",
        )


def _not_read(image: ImageRecord, error: StorageError) -> Finding:
    """Say that nothing is known of a mask, which may be sound."""
    what = f"its mask cannot be read now, and was not checked ({error.where}: {error.what})"
    remedy = f"{error.remedy} Then check again."
    return Finding(Outcome.PROBLEM, place(image), what, remedy)


def _damaged(
    image: ImageRecord, mask: MaskSummary, drawn: Sequence[str | Unnamed], error: ProtosegError
) -> Finding:
    """Say whose work is lost with a mask that is damaged or gone, and what is still there.

    `drawn` says whose edits are in the journal and not in the mask on disk.
    """
    where = place(image)
    people = ", ".join(sorted(set(drawn)))
    steps = f"{len(drawn)} step{'' if len(drawn) == 1 else 's'} by {people}"
    remedy = _remedy(error)
    if isinstance(error, JournalError):
        what = f"{error.what}; its mask cannot be shown without {steps} that came after it"
        return Finding(Outcome.PROBLEM, where, what, remedy)
    if mask.corrected_by is not None:
        when = "" if mask.corrected is None else f" of {mask.corrected:%Y-%m-%d %H:%M}"
        lost = f"corrections by {mask.corrected_by}{when} are lost with it"
    else:
        model = "a model" if mask.round_id is None else f"round {mask.round_id}"
        lost = f"what {model} has made is lost with it"
    if drawn:
        lost += f"; kept in its journal, and seen again once it is back: {steps}"
    return Finding(Outcome.PROBLEM, where, f"{error.what}; {lost}", remedy)


def _problem(found: ProtosegError | Fault) -> Finding:
    return Finding(Outcome.PROBLEM, found.where, found.what, _remedy(found))


def _remedy(found: ProtosegError | Fault) -> str:
    return with_command(found.remedy, found.on_terminal)


def _name(path: Path, project: Project) -> str:
    return path.relative_to(project.folder).as_posix()
