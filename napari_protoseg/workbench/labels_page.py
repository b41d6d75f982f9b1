"""State of the page of labels: the images with their labels, changed by hand and undone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from psygnal import Signal

from napari_protoseg.evaluation.protocol import MaskCodes
from napari_protoseg.jobs.import_masks import ImportedMasks, MaskPurpose, import_masks
from napari_protoseg.jobs.models import model_at_hand
from napari_protoseg.jobs.relocate import RelocatedImages, relocate_images
from napari_protoseg.labels.records import Presence
from napari_protoseg.schema import ClassSchema
from napari_protoseg.workbench.class_edits import with_class, with_color, with_name, with_shortcut
from napari_protoseg.workbench.class_removal import ClassRemovals
from napari_protoseg.workbench.image_list import ImageList, LabelFilter, Listing
from napari_protoseg.workbench.intake import Intake
from napari_protoseg.workbench.label_edits import (
    ClassRemoval,
    LabelChange,
    LabelEdit,
    LabelHistory,
)
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.session import Session

_NAMED_FILES = 3


class LabelsState(PageState):
    """Lists images, changes their labels, and takes images and masks in.

    Images are kept in memory and patched, so that a key costs the same with ten thousand.

    Parameters
    ----------
    session
        What all pages share.
    """

    listed = Signal()
    """Other images are listed, or their labels were read anew."""
    relabelled = Signal(int)
    """The label of the image at this row has changed."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.intake = Intake(session)
        self.images = ImageList()
        self.removals = ClassRemovals(session)
        """The classes that went and can come back."""
        self._history = LabelHistory()
        self._is_writing = False
        self._next_verb = ""
        session.opened.connect(self._start)
        session.schema_changed.connect(self._reload)
        session.images_changed.connect(self._reload_unless_own)
        session.bank_changed.connect(self._follow_model)
        session.model_changed.connect(self._follow_model)
        session.task_changed.connect(self.changed.emit)
        self._start()

    @property
    def schema(self) -> ClassSchema | None:
        """The classes of the open project."""
        return None if self.session.project is None else self.session.project.schema

    def needs(self) -> str | None:
        """Return why nothing can be labelled; None where it can."""
        if self.session.project is None:
            return self.session.busy() or (
                "Open or make a project first: choose a folder of images or a table of labels, "
                "or drop it here."
            )
        if not self.images.all:
            return self.session.read_only() or "The project has no images yet: add some."
        return self.session.read_only()

    def next_step(self) -> str:
        """Say what to do next, as a sentence; empty where `needs` says it."""
        schema = self.schema
        if schema is None or not self.images.all:
            return ""
        missing = [known.name for known in schema.classes if not self.images.present(known.id)]
        if missing:
            return f"Next: find images that hold {', '.join(missing)}; none is labelled so yet."
        unlabelled = len(self.images.all) - self.images.labelled
        if unlabelled:
            return f"Next: label the other {unlabelled} images, or {self._next_verb}."
        return f"Next: {self._next_verb}."

    def counts(self) -> str:
        """Return how many images are labelled, and how many hold each class, as a sentence."""
        schema = self.schema
        if schema is None:
            return ""
        present = (f"{known.name} {self.images.present(known.id)}" for known in schema.classes)
        return (
            f"{self.images.labelled} of {len(self.images.all)} images labelled. "
            f"Present in: {', '.join(present)}."
        )

    def listings(self) -> list[tuple[Listing, str]]:
        """Return what may be listed, each with its title."""
        kinds: list[tuple[Listing, str]] = [(kind, kind.value) for kind in LabelFilter]
        classes = () if self.schema is None else self.schema.classes
        return kinds + [(known.id, f"With {known.name}") for known in classes]

    def show_listing(self, listing: Listing) -> None:
        """List the images that fit now; one that later does not fit stays until this is asked."""
        self.images.show(listing)
        self._tell_listed()

    def toggle(self, image_id: int, class_id: int) -> None:
        """Switch a class between present and absent; an unknown one becomes present.

        Raises
        ------
        ProjectError, StorageError
            It cannot be written; nothing has changed. So for all verbs below.
        """
        before = self.images.presence(image_id, class_id)
        after = Presence.ABSENT if before == Presence.PRESENT else Presence.PRESENT
        self._do([LabelChange(image_id, class_id, before, after)])

    def forget(self, image_id: int, class_id: int) -> None:
        """Make a class unknown."""
        before = self.images.presence(image_id, class_id)
        self._do([LabelChange(image_id, class_id, before, Presence.UNKNOWN)])

    def complete(self, image_id: int) -> None:
        """Make the remaining unknown classes of an image absent."""
        schema = self.session.require_project().schema
        label = self.images.of(image_id).label
        self._do(
            [
                LabelChange(image_id, class_id, presence, Presence.ABSENT)
                for class_id, presence in zip(schema.ids, label, strict=True)
                if presence == Presence.UNKNOWN
            ]
        )

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._history.to_undo() is not None

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to do again."""
        return self._history.to_redo() is not None

    def undo(self) -> int | None:
        """Take the last edit back; return its image, or None where it was of none."""
        edit = self._history.to_undo()
        if edit is None:
            return None
        if isinstance(edit, ClassRemoval):
            self.removals.restore()
            self._history.undone()
            self.changed.emit()
            return None
        self._write(edit, self._history.undone)
        return edit[0].image_id

    def redo(self) -> int | None:
        """Do again what was undone last; return its image, or None where it was of none."""
        edit = self._history.to_redo()
        if edit is None:
            return None
        if isinstance(edit, ClassRemoval):
            self.removals.remove(edit.class_id, edit.heir)
            self._history.redone()
            self.changed.emit()
            return None
        self._write(edit, self._history.redone)
        return edit[0].image_id

    def open_image(self, image_id: int) -> None:
        """Make an image the open one."""
        self.session.show(self.images.of(image_id))

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name; `SchemaError` where it is empty, or another class has it."""
        self._set_schema(with_name(self.session.require_project().schema, class_id, name))

    def set_color(self, class_id: int, color: str) -> None:
        """Give a class another colour, ``#RRGGBB``; `SchemaError` where it is none."""
        self._set_schema(with_color(self.session.require_project().schema, class_id, color))

    def set_shortcut(self, class_id: int, shortcut: str | None) -> None:
        """Give a class another key, or none; `SchemaError` where another class has it."""
        self._set_schema(with_shortcut(self.session.require_project().schema, class_id, shortcut))

    def add_class(self, name: str) -> None:
        """Add a class, unknown in every image; `SchemaError` where its name is taken."""
        self._set_schema(with_class(self.session.require_project().schema, name))

    def remove_class(self, class_id: int, heir: int | None = None) -> None:
        """Remove a class, or merge it into another; errors as `ClassRemovals.remove`."""
        self.removals.remove(class_id, heir)
        self._history.add_removal(ClassRemoval(class_id, heir))
        self.changed.emit()

    def restore_class(self) -> None:
        """Bring back the class that went last, perhaps before the project was opened.

        Raises
        ------
        SchemaError
            No class is gone, or another one has its name.
        ProjectError, StorageError
        """
        gone = self.removals.last
        self.removals.restore()
        if gone is not None:
            self._history.came_back(gone.known.id)
        self.changed.emit()

    def classes_need(self) -> str | None:
        """Return why classes cannot be changed now; None where they can."""
        return self.removals.need()

    def masks_need(self) -> str | None:
        """Return why masks cannot be imported now; None where they can."""
        return self.session.busy() or self.needs()

    def import_masks(self, folder: Path, codes: MaskCodes, purpose: MaskPurpose) -> None:
        """Import the masks in a folder, for truth or for correction.

        Raises
        ------
        ProjectError
            No project is open, or a task is under way.
        """
        session = self.session
        job = import_masks(
            session.require_project(),
            folder,
            codes,
            purpose,
            person=session.person,
            now=session.now(),
        )
        session.run("Import masks", job, self._imported, stores=[session.masks_changed])

    def find_images(self, folder: Path) -> None:
        """Look for missing images in a folder by their content; errors as `import_masks`."""
        job = relocate_images(self.session.require_project(), folder)
        self.session.run("Find images", job, self._found_again)

    def _found_again(self, ended: RelocatedImages) -> None:
        words = [f"Images found again: {ended.found}."]
        if ended.missing:
            names = ", ".join(path.name for path in ended.missing[:_NAMED_FILES])
            more = len(ended.missing) - _NAMED_FILES
            words.append(f"Still missing: {names}{f' and {more} more' if more > 0 else ''}.")
        elif not ended.found:
            words = ["No image is missing."]
        self.session.say(" ".join(words))
        self.session.refresh_current()
        self.session.show(self.session.current)  # it may be one of them
        self.session.images_changed.emit()

    def _imported(self, imported: ImportedMasks | None) -> None:
        if imported is None:
            self.session.say("Stopped. No mask was imported.")
            return
        words = [f"Masks imported: {imported.imported}."]
        if imported.left_out:
            words.append(f"Stopped before the others: {imported.left_out}.")
        if imported.without_mask:
            words.append(f"Images without a mask there: {imported.without_mask}.")
        if imported.without_image:
            names = ", ".join(imported.without_image[:_NAMED_FILES])
            more = len(imported.without_image) - _NAMED_FILES
            rest = f" and {more} more" if more > 0 else ""
            words.append(f"Masks that belong to no image: {names}{rest}.")
        self.session.say(" ".join(words))
        self.session.images_changed.emit()
        self.session.masks_changed.emit()

    def _do(self, changes: list[LabelChange]) -> None:
        edit = tuple(change for change in changes if change.before != change.after)
        if edit:
            self._write(edit, lambda: self._history.add(edit))

    def _write(self, edit: LabelEdit, written: Callable[[], None]) -> None:
        """Write an edit to the project; then patch the list, and tell whoever shows it."""
        project = self.session.require_project()
        labels: dict[int, list[int]] = {}
        for change in edit:
            known = self.images.of(change.image_id).label
            label = labels.setdefault(change.image_id, list(known))
            label[project.schema.ids.index(change.class_id)] = change.after
        name = self.session.settings().person.strip()
        project.set_labels(labels, source=f"person: {name}" if name else "person")
        written()
        for image_id, label in labels.items():
            self.images.relabel(image_id, tuple(label))
        if self.session.current is not None and self.session.current.id in labels:
            self.session.refresh_current()
        for image_id in labels:
            if (row := self.images.row_of(image_id)) is not None:
                self.relabelled.emit(row)
        self._is_writing = True
        try:
            self.session.images_changed.emit()
        finally:
            self._is_writing = False
        self.changed.emit()

    def _set_schema(self, schema: ClassSchema) -> None:
        self.removals.require()
        self.session.require_project().set_schema(schema, created=self.session.now())
        self.session.refresh_current()
        self.session.schema_changed.emit()

    def _start(self) -> None:
        self._history.clear()
        self.images = ImageList()
        self._look_ahead()
        self._reload()

    def _look_ahead(self) -> None:
        """Read what the next page is to do, once the labels are there."""
        self._next_verb = "build a prototype bank"
        if self.session.project is not None:
            self.session.attempt(self._read_ahead)

    def _follow_model(self) -> None:
        self._look_ahead()
        self.changed.emit()

    def _read_ahead(self) -> None:
        model = model_at_hand(self.session.require_project())
        if model is not None:
            self._next_verb = "train" if model.round_id is None else "look at the masks on Review"

    def _reload_unless_own(self) -> None:
        if not self._is_writing:
            self._reload()

    def _reload(self) -> None:
        listing, self.images = self.images.listing, ImageList()
        self.removals.forget()
        if self.session.project is not None:
            self.session.attempt(partial(self._read, listing))
        self._tell_listed()

    def _read(self, listing: Listing) -> None:
        project = self.session.require_project()
        self.removals.read(project)
        known = isinstance(listing, LabelFilter) or listing in project.schema.ids
        self.images = ImageList(
            project.images(), project.schema, listing if known else LabelFilter.ALL
        )

    def _tell_listed(self) -> None:
        self.listed.emit()
        self.changed.emit()
