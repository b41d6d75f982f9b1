"""Taking images and labels in: what was chosen, what was found in it, and whether to keep it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from psygnal import Signal

from napari_protoseg.errors import LabelError, ProjectError
from napari_protoseg.jobs.add import AddedImages, AddImages, add_images, read_addition
from napari_protoseg.jobs.new import MadeProject, NewProject, make_project, read_source
from napari_protoseg.labels.reader import LabelReading
from napari_protoseg.project.creation import DATABASE
from napari_protoseg.workbench.draft import Draft
from napari_protoseg.workbench.session import Session

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx")


class Intake:
    """Looks at chosen images and labels, and takes them in once a person has seen the report.

    Parameters
    ----------
    session
        What all pages share. With an open project images are added to it, else one is made.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self.draft = Draft()
        self.reading: LabelReading | None = None
        self.found_project: Path | None = None
        """A project in the chosen folder, or beside it, that could be opened instead."""
        self._looked_at: NewProject | AddImages | None = None
        session.opened.connect(self.clear)
        session.schema_changed.connect(self._forget)

    def clear(self) -> None:
        """Forget what was chosen and found."""
        self.edit(Draft())

    def choose(self, paths: Sequence[Path]) -> None:
        """Take what was dropped or chosen: a folder of images, a table, or a project.

        Raises
        ------
        LabelError
            One of them is none of these; nothing was taken.
        """
        draft = self.draft
        for path in paths:
            if path.is_dir():
                draft = replace(draft, images=str(path))
            elif path.name == DATABASE:
                draft = replace(draft, images=str(path.parent))
            elif path.suffix.lower() in TABLE_SUFFIXES:
                draft = replace(draft, labels=str(path))
            else:
                raise LabelError(
                    "neither a folder nor a table of labels",
                    where=path,
                    remedy="Give a folder of images, or a table: "
                    f"{', '.join(suffix.removeprefix('.') for suffix in TABLE_SUFFIXES)}.",
                )
        self.edit(draft)

    def edit(self, draft: Draft) -> None:
        """Take what was filled in; what was found before in something else is forgotten."""
        if replace(draft, folder=self.draft.folder) != self.draft:
            self.reading = self._looked_at = None
        self.draft = draft
        self.found_project = self._find_project()
        self.changed.emit()

    def needs(self) -> str | None:
        """Return why nothing can be looked at now; None where it can."""
        if self._session.is_busy:
            return self._session.busy()
        if self.draft.place is None:
            return "Choose a folder of images or a table of labels, or drop it here."
        if self.found_project == self.draft.place:
            return "This folder is a project: open it, or choose the folder of its images."
        return None

    def take_needs(self) -> str | None:
        """Return why what was found cannot be taken in now; None where it can."""
        if (reason := self._session.cannot_write()) is not None:
            return reason
        if self.reading is None:
            return "Look at the images first."
        if self._session.project is None and self.found_project is not None:
            return (
                f"{self.found_project} is a project already: open it, or choose another folder "
                "for the new one."
            )
        return None

    def look(self) -> None:
        """Read images and labels; nothing is recorded yet.

        Raises
        ------
        LabelError
            It cannot be looked at now.
        """
        _require(self.needs())
        project = self._session.project
        if project is None:
            new = self.draft.new_project()
            self._looked_at = new
            self._session.run("Look at images", read_source(new), self._found)
        else:
            addition = self.draft.addition()
            self._looked_at = addition
            job = read_addition(project, addition)
            self._session.run("Look at images", job, self._found)

    def take(self) -> None:
        """Make a project of what was found, or add it to the open one.

        Raises
        ------
        LabelError
            It cannot be taken in now.
        """
        _require(self.take_needs())
        assert self.reading is not None
        session, reading = self._session, self.reading
        match self._looked_at:
            case AddImages() as addition:
                job = add_images(session.require_project(), addition, reading)
                session.run("Add images", job, self._added)
            case NewProject() as looked_at:
                new = looked_at.model_copy(update={"folder": self.draft.target})
                making = make_project(new, reading, now=session.now())
                session.run("Make project", making, self._made)

    def open_found(self) -> None:
        """Open the project that was found.

        Raises
        ------
        ProjectError, StorageError
        """
        if self.found_project is None:
            raise ProjectError(
                "no project was found", where="Labels", remedy="Choose a project folder."
            )
        self._session.open(self.found_project)

    def _found(self, reading: LabelReading) -> None:
        # While it was read, a person may have chosen something else.
        if self._looked_at is not None:
            self.reading = reading
            self.changed.emit()

    def _made(self, made: MadeProject) -> None:
        if self._session.attempt(lambda: self._session.open(made.folder)):
            self._session.say(
                f"The project holds {made.training + made.validation} images, "
                f"{made.validation} of them to validate on."
            )

    def _added(self, added: AddedImages) -> None:
        known = f"; {added.already_there} were there already" if added.already_there else ""
        masks = f"; {added.masks} have a mask to validate on" if added.masks else ""
        self._session.say(f"Images added: {added.added}{known}{masks}.")
        self.clear()
        self._session.images_changed.emit()

    def _forget(self) -> None:
        self.reading = self._looked_at = None
        self.changed.emit()

    def _find_project(self) -> Path | None:
        target = self.draft.target if self._session.project is None else None
        for place in (self.draft.place, target):
            # Unlike Path.is_file it is no error where a name is too long, or a folder closed.
            if place is not None and os.path.isfile(place / DATABASE):  # noqa: PTH113
                return place
        return None


def _require(reason: str | None) -> None:
    if reason is not None:
        raise LabelError(reason.rstrip("."), where="Labels", remedy="Then try again.")
