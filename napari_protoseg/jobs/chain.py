"""Which results of a project are out of date, and why, in words for a person."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from napari_protoseg.jobs.made_of import (
    MadeOf,
    bank_images,
    corrections,
    learned_images,
    recorded_making,
    relabelled,
)
from napari_protoseg.jobs.models import ModelKey, newest_trained_round
from napari_protoseg.jobs.muted import with_muted_of_project
from napari_protoseg.jobs.outdated import outdated_masks
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import BankRow, ReviewStatus, Stage


@dataclass(frozen=True)
class Standing:
    """How a result stands to what it was made of.

    Parameters
    ----------
    name
        Such as "Bank 1".
    reasons
        Why it is out of date, as clauses; none where it is current.
    remedy
        What to do about it, as a sentence.
    is_known
        Whether it is recorded what it was made of; else there may be more reasons.
    missing
        Names of its classes that the project does not have: it cannot be used then.
    is_plural
        Whether the name is of several things.
    """

    name: str
    reasons: tuple[str, ...]
    remedy: str
    is_known: bool = True
    missing: tuple[str, ...] = ()
    is_plural: bool = False

    @property
    def state(self) -> str:
        """One of ``current``, ``out of date`` and ``not known``."""
        if self.reasons:
            return "out of date"
        return "current" if self.is_known else "not known"

    @property
    def sentence(self) -> str:
        """What a person should know of it; empty where it is current."""
        if self.missing:
            of = ", ".join(self.missing)
            return (
                f"{self.name} cannot be used: it was made with {of}, which the project does not "
                f"have any more. {self.remedy} Or bring the class back on Labels."
            )
        if self.reasons:
            verb = "are" if self.is_plural else "is"
            return f"{self.name} {verb} out of date: {_listed(self.reasons)}. {self.remedy}"
        if not self.is_known:
            return (
                f"It is not known whether {self.name[0].lower()}{self.name[1:]} is out of date: "
                "an earlier version of this program has made it."
            )
        return ""


def standings(project: Project) -> list[Standing]:
    """Return how the newest bank, the newest round of each stage, and the masks stand.

    Nothing but records is read.

    Raises
    ------
    ProjectError, StorageError
    """
    found = (bank_standing(project), round_standing(project), second_standing(project))
    return [of for of in (*found, masks_standing(project)) if of is not None]


def bank_standing(project: Project) -> Standing | None:
    """Return how the newest bank stands, or None without one."""
    bank = project.latest_bank()
    if bank is None:
        return None
    made, remedy = recorded_making(bank), "Build one to take that up."
    name = f"Bank {bank.version}"
    if made is None:
        return _unknown(project, name, bank, remedy)
    now = MadeOf.of(project, bank_images(project))
    return _standing(project, name, made, _label_changes(project, made, now), remedy)


def round_standing(project: Project) -> Standing | None:
    """Return how the newest round that has left a model stands, or None without one."""
    ended = newest_trained_round(project)
    if ended is None:
        return None
    reasons = []
    newest = project.latest_bank()
    if newest is not None and newest.version > ended.bank_version:
        reasons.append(
            f"bank {newest.version} is newer than bank {ended.bank_version}, which it learned from"
        )
    made, name = recorded_making(ended), f"Round {ended.id}"
    remedy = "Train to take that up."
    if made is None:
        return _unknown(project, name, project.bank(ended.bank_version), remedy, reasons)
    now = MadeOf.of(project, learned_images(project))
    reasons += _label_changes(project, made, now)
    return _standing(project, name, made, reasons, remedy)


def second_standing(project: Project) -> Standing | None:
    """Return how the newest segmentation network stands, or None without one."""
    ended = newest_trained_round(project, Stage.SEGMENTATION)
    if ended is None:
        return None
    made, name = recorded_making(ended), f"Round {ended.id}, the segmentation network,"
    remedy = "Train one to take that up."
    if made is None:
        return _unknown(project, name, project.bank(ended.bank_version), remedy)
    now = MadeOf.of(project, learned_images(project))
    reasons = list(_teacher_changes(project, made))
    reasons += _label_changes(project, made, now)
    known = corrections(project)
    changed = sum(made.corrected.get(image_id) != when for image_id, when in known.items())
    changed += len(made.corrected.keys() - known.keys())
    if changed:
        reasons.append(f"{_counted(changed, 'mask')} {_have(changed)} been corrected since")
    return _standing(project, name, made, reasons, remedy)


def missing_classes(project: Project, bank: BankRow) -> tuple[str, ...]:
    """Return the names of the classes of a bank that the project does not have any more."""
    schemas = [project.schema, *project.earlier_schemas()]
    classes = next((s.classes for s in schemas if s.fingerprint == bank.fingerprint), ())
    return tuple(known.name for known in classes if known.id not in project.schema.ids)


def masks_standing(project: Project) -> Standing | None:
    """Return how the stored masks stand to the newest round, or None without either."""
    summaries, ended = project.mask_summaries(), newest_trained_round(project)
    if not summaries or ended is None:
        return None
    recipe = with_muted_of_project(project, recipe_of(project))
    accepted = {i for i, of in project.review_states().items() if of is ReviewStatus.ACCEPTED}
    others = relabelled(project, summaries)
    old = len(outdated_masks(summaries, ModelKey.of(ended), recipe, others) - accepted)
    number = f"{old:,} of {len(summaries):,} {_are(old)}"
    reasons = (f"{number} of an earlier round, bank, recipe or label",) if old else ()
    remedy = "Make masks on Review, or export: they are made anew."
    return Standing("Masks", reasons, remedy, is_plural=True)


def _teacher_changes(project: Project, made: MadeOf) -> Iterator[str]:
    teacher = newest_trained_round(project)
    if teacher is None:
        return
    if teacher.id != made.teacher:
        yield f"round {teacher.id} is newer than round {made.teacher}, which has taught it"
    elif teacher.finished != made.taught:
        yield f"round {teacher.id}, which has taught it, has gone on since"
    recipe = with_muted_of_project(project, recipe_of(project))
    if made.recipe is not None and recipe != made.recipe and teacher.id == made.teacher:
        yield "the recipe of masks, or what is muted, has changed"


def _label_changes(project: Project, made: MadeOf, now: MadeOf) -> list[str]:
    """Say what of the labels and classes is not as it was."""
    names = _names(project)
    added = [c for c in now.classes if c not in made.classes]
    gone = [c for c in made.classes if c not in now.classes]
    both = [c for c in made.classes if c in now.classes]
    new, lost = now.labels.keys() - made.labels.keys(), made.labels.keys() - now.labels.keys()
    changed = sum(
        made.labels[image_id][0] != now.labels[image_id][0]
        or any(made.sign(image_id, c) != now.sign(image_id, c) for c in both)
        for image_id in made.labels.keys() & now.labels.keys()
    )
    changes = {
        f"the labels of {_counted(changed, 'image')} have changed": changed,
        f"{_counted(len(new), 'image')} {_have(len(new))} been labelled or added": len(new),
        f"{_counted(len(lost), 'image')} {_are(len(lost))} not learned from any more": len(lost),
        f"{_named(added, names)} {_have(len(added))} been added to the classes": len(added),
        f"{_named(gone, names)} {_have(len(gone))} been removed from the classes": len(gone),
    }
    return [change for change, number in changes.items() if number]


def _standing(
    project: Project, name: str, made: MadeOf, reasons: Collection[str], remedy: str
) -> Standing:
    names = _names(project)
    missing = tuple(_name(c, names) for c in made.classes if c not in project.schema.ids)
    return Standing(name, tuple(reasons), remedy, missing=missing)


def _unknown(
    project: Project, name: str, bank: BankRow, remedy: str, reasons: Collection[str] = ()
) -> Standing:
    """Return the standing of a result of which it is not recorded what it was made of."""
    missing = missing_classes(project, bank)
    return Standing(name, tuple(reasons), remedy, is_known=False, missing=missing)


def _names(project: Project) -> dict[int, str]:
    """Return the name of each class that ever was in the project, the latest it had."""
    schemas = [*reversed(project.earlier_schemas()), project.schema]
    return {known.id: known.name for schema in schemas for known in schema.classes}


def _named(class_ids: Collection[int], names: dict[int, str]) -> str:
    return " and ".join(_name(class_id, names) for class_id in class_ids)


def _name(class_id: int, names: dict[int, str]) -> str:
    return names.get(class_id, f"class {class_id}")  # a damaged record may hold any number


def _listed(clauses: tuple[str, ...]) -> str:
    if len(clauses) == 1:
        return clauses[0]
    return f"{', '.join(clauses[:-1])}, and {clauses[-1]}"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
