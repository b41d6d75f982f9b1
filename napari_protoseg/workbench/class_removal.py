"""Removing and merging the classes of a project, and bringing them back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari_protoseg.errors import SchemaError
from napari_protoseg.jobs.class_impact import ClassImpact, class_impact
from napari_protoseg.project.class_changes import RemovedClass
from napari_protoseg.project.folder import Project
from napari_protoseg.workbench.session import Session


class ClassRemovals:
    """Says what it affects that a class goes; lets it go, and come back.

    The open image is closed meanwhile: no stroke that can be undone there leads back to a class
    that is gone.

    Parameters
    ----------
    session
        What all pages share.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.last: RemovedClass | None = None
        """The class that went last, and is the first to come back; None where none is gone."""

    def read(self, project: Project) -> None:
        """Look which classes are gone.

        Raises
        ------
        ProjectError, StorageError
        """
        self.last = next(reversed(project.removed_classes()), None)

    def forget(self) -> None:
        """Know of no class."""
        self.last = None

    def need(self) -> str | None:
        """Return why classes cannot be changed now; None where they can."""
        if self._session.project is None:
            return "Open or make a project first."
        return self._session.cannot_write()

    def require(self) -> None:
        """Raise `SchemaError` where `need` says why classes cannot be changed now."""
        reason = self.need()
        if reason is not None:  # a job under way has read the classes already
            raise SchemaError(reason.rstrip("."), where="classes", remedy="Then try again.")

    def weigh(self, class_id: int, heir: int | None, then: Callable[[ClassImpact], None]) -> None:
        """Look what it affects that a class is removed, or merged into another.

        Parameters
        ----------
        class_id
            The class.
        heir
            The other one, or None.
        then
            Called with what was found, unless a person has stopped it.

        Raises
        ------
        SchemaError
            Classes cannot be changed now.
        ProjectError, StorageError
            What is drawn in the open image cannot be saved.
        """
        self.require()
        job = class_impact(self._session.require_project(), class_id, heir)
        self._session.run("Look at class", job, partial(self._weighed, then))

    def remove(self, class_id: int, heir: int | None) -> None:
        """Remove a class, or merge it into another.

        Raises
        ------
        SchemaError
            Classes cannot be changed now, or it is the only one.
        ProjectError, StorageError
            What is drawn in the open image cannot be saved, or nothing can be written.
        """
        project = self._session.require_project()
        name = project.schema.classes[project.schema.ids.index(class_id)].name
        self._change(lambda: project.remove_class(class_id, heir, created=self._session.now()))
        if heir is None:
            self._session.say(f"{name} is removed; Undo brings it back.")
        else:
            into = project.schema.classes[project.schema.ids.index(heir)].name
            self._session.say(f"{name} is merged into {into}; Undo parts them again.")

    def restore(self) -> None:
        """Bring back the class that went last; errors as `remove`."""
        project = self._session.require_project()
        self._change(lambda: project.restore_class(created=self._session.now()))

    def _weighed(self, then: Callable[[ClassImpact], None], impact: ClassImpact | None) -> None:
        if impact is None:
            self._session.say("Stopped. Nothing was changed.")
        else:
            then(impact)

    def _change(self, change: Callable[[], object]) -> None:
        self.require()
        session, shown = self._session, self._session.current
        session.show(None)
        try:
            change()
            session.schema_changed.emit()
            session.images_changed.emit()
            session.masks_changed.emit()
        finally:
            if shown is not None:
                session.show(session.require_project().image(shown.known_id))
