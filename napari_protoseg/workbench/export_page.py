"""State of the page of exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_protoseg.errors import ExportError, ProtosegError
from napari_protoseg.events import Job
from napari_protoseg.exports.folder import Exported
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_destination import Destination, look_at_destination
from napari_protoseg.jobs.export_network import (
    ExportedNetwork,
    NetworkPlan,
    export_network,
    look_at_network,
    plan_network,
)
from napari_protoseg.jobs.export_plan import Exportable, ExportFormat, ExportPlan, plan_export
from napari_protoseg.jobs.muted import with_muted_of_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.typed_path import typed_path

_Stamp = tuple[Path, int | None, int | None]


class ExportState(PageState):
    """Says what an export will do, and does it.

    Parameters
    ----------
    session
        What all pages share.
    recipe
        Returns the recipe that masks are made by; its muted prototypes are always those of the
        project.
    """

    def __init__(self, session: Session, recipe: Callable[[], Recipe] = Recipe) -> None:
        super().__init__(session)
        self.form = Exportable.PNG
        self.typed = ""
        self.overwrite = False
        self.exported: Exported | ExportedNetwork | None = None
        self._recipe = recipe
        self._plan: ExportPlan | NetworkPlan | None = None
        self._planned_for: tuple[Exportable, Recipe] | None = None
        self._problem: str | None = None
        self._stamp: _Stamp | None = None
        session.opened.connect(self._forget)
        for signal in (
            session.schema_changed,
            session.images_changed,
            session.muted_changed,
            session.recipe_changed,
            session.model_changed,
            session.masks_changed,
            session.reviewed,
        ):
            signal.connect(self.look)
        session.task_changed.connect(self._follow_task)

    @property
    def folder(self) -> Path | None:
        """Where the export goes: as typed, else beside the project; None without a project.

        Of a network it may be the file.
        """
        if self.session.project is None:
            return None
        return typed_path(self.typed) or self.default_folder

    @property
    def default_folder(self) -> Path | None:
        """A folder beside that of the project, named by the format; None without a project."""
        if self.session.project is None:
            return None
        project = self.session.project.folder
        return project.with_name(f"{project.name}-export-{self.form.value}")

    @property
    def plan(self) -> ExportPlan | NetworkPlan | None:
        """What an export would do; None without a project, or where it cannot be said.

        It is made when it is asked for, and kept until something changes. While a task runs, it
        stays as it was: records change all the time then.
        """
        if self.session.project is not None and not self.session.is_busy:
            self._bring_up_to_date(self.session.project)
        return self._plan

    def needs(self) -> str | None:
        """Return why nothing can be exported now; None where it can."""
        if self.session.project is None:
            return "Open a project first."
        if self.session.is_busy:
            return self.session.busy()
        if self.folder is not None and not self.folder.is_absolute():
            return "Give the whole path of the folder."
        plan = self.plan
        if plan is None:
            return self._problem
        if plan.makes_masks and (reason := self.session.read_only()) is not None:
            return f"Masks would have to be made first. {reason}"
        obstacle = plan.obstacle(overwrite=self.overwrite)
        return None if obstacle is None else str(obstacle)

    @property
    def can_overwrite(self) -> bool:
        """Whether an earlier export lies where this one is to go."""
        plan = self.plan
        return plan is not None and plan.destination.files > 0

    def choose_form(self, form: Exportable) -> None:
        """Choose what is written."""
        if form is not self.form:
            self.form = form
            self.overwrite = False
            self.changed.emit()

    def choose_folder(self, typed: str) -> None:
        """Choose where it goes; nothing typed means beside the project."""
        if typed != self.typed:
            self.typed = typed
            self.overwrite = False
            self.changed.emit()

    def set_overwrite(self, overwrite: bool) -> None:
        """Give leave to replace an earlier export; another folder or format takes it back."""
        self.overwrite = overwrite
        self.changed.emit()

    def look(self) -> None:
        """Plan anew when the plan is next asked for."""
        self._planned_for = None
        self.changed.emit()

    def look_at_folder(self) -> None:
        """Look anew at what lies in the folder, if files have come or gone there."""
        if self._plan is None or self.session.is_busy:
            return
        project, folder = self.session.require_project(), self.folder
        assert folder is not None
        if _stamp(folder) != self._stamp:
            found = self._destination(project, folder)
            if found != self._plan.destination:
                self._plan = replace(self._plan, destination=found)
                self.changed.emit()

    def export(self) -> None:
        """Export as `plan` says.

        Raises
        ------
        ExportError
            It cannot be done now.
        """
        self._planned_for = None
        reason = self.needs()
        if reason is not None:
            raise ExportError(reason.rstrip("."), where="Export", remedy="Then export.")
        session, makes_masks = self.session, self._plan is not None and self._plan.makes_masks
        self.exported = None
        stores = [session.masks_changed] if makes_masks else []
        session.run("Export", self._job(), partial(self._done, makes_masks), stores=stores)

    def _job(self) -> Job[Exported | None] | Job[ExportedNetwork | None]:
        session, folder = self.session, self.folder
        assert folder is not None
        project = session.require_project()
        if self.form is Exportable.ONNX:
            return export_network(project, folder, overwrite=self.overwrite)
        return export_project(
            project,
            ExportFormat(self.form),
            folder,
            with_muted_of_project(project, self._recipe()),
            overwrite=self.overwrite,
            device=session.device,
            now=session.now(),
        )

    def _done(self, made_masks: bool, exported: Exported | ExportedNetwork | None) -> None:
        self.overwrite = False
        self.exported = exported
        if made_masks:
            self.session.masks_changed.emit()
        self.look()
        self.session.say(_last_words(made_masks, exported))

    def _bring_up_to_date(self, project: Project) -> None:
        wanted = (self.form, self._recipe())
        folder = self.folder
        assert folder is not None
        try:
            if wanted != self._planned_for:
                self._plan, self._problem = None, None
                self._planned_for = wanted
                self._stamp = _stamp(folder)
                self._plan = self._planned(project, folder, *wanted)
            elif self._plan is not None and self._stamp is not None and self._stamp[0] != folder:
                self._plan = replace(self._plan, destination=self._destination(project, folder))
        except ProtosegError as error:
            self._problem = str(error)

    @staticmethod
    def _planned(
        project: Project, folder: Path, form: Exportable, recipe: Recipe
    ) -> ExportPlan | NetworkPlan:
        if form is Exportable.ONNX:
            return plan_network(project, folder)
        muting = with_muted_of_project(project, recipe)
        return plan_export(project, ExportFormat(form), folder, muting)

    def _destination(self, project: Project, folder: Path) -> Destination:
        self._stamp = _stamp(folder)
        look = look_at_network if self.form is Exportable.ONNX else look_at_destination
        return look(project, folder)

    def _follow_task(self) -> None:
        task = self.session.task
        if task is not None and task.is_over:
            self.look()
        else:
            self.changed.emit()

    def _forget(self) -> None:
        self.typed = ""
        self.overwrite = False
        self.exported = self._plan = None
        self.look()


def _last_words(made_masks: bool, exported: Exported | ExportedNetwork | None) -> str:
    if exported is None:
        kept = " Masks made until then are kept." if made_masks else ""
        return f"Stopped before anything was written.{kept}"
    if isinstance(exported, ExportedNetwork):
        return f"The network of round {exported.round.id} is in {exported.path}."
    masks = "1 mask is" if exported.images == 1 else f"{exported.images:,} masks are"
    return f"{masks} in {exported.folder}."


def _stamp(folder: Path) -> _Stamp:
    """Return what changes when another folder is put in its place, or an entry comes or goes."""
    try:
        found = folder.stat()
    except OSError:  # it is not there, or whoever looks at it is told why it cannot be seen
        return folder, None, None
    return folder, found.st_ino, found.st_mtime_ns
