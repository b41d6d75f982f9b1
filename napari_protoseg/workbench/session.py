"""The open project, the open image, and the one long task: what all pages share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from psygnal import Signal, SignalInstance

from napari_protoseg.errors import ProjectError, ProtosegError
from napari_protoseg.events import Event, Job, Notice, Severity
from napari_protoseg.jobs.features import CACHE_BYTES
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.jobs.sample import make_sample_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.creation import DATABASE
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord
from napari_protoseg.training.devices import choose_device
from napari_protoseg.workbench.messages import Messages
from napari_protoseg.workbench.patience import Patience, close_in_time
from napari_protoseg.workbench.tasks import Problem, Runner, Task, TaskListener


@dataclass(frozen=True)
class Settings:
    """What a person sets once, for all projects.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, ``mps``, or ``auto``.
    person
        Name of who is at work, kept with what they set; empty: not known.
    cache_gigabytes
        How much of the disk the features of images may take in each project.
    """

    device: str = "auto"
    person: str = ""
    cache_gigabytes: float = CACHE_BYTES / 2**30

    @property
    def cache_bytes(self) -> int:
        """The cache budget in bytes."""
        return round(self.cache_gigabytes * 2**30)


class Session:
    """What all pages share; its signals are emitted on the main thread.

    Parameters
    ----------
    runner
        Starts jobs.
    settings
        Read anew each time they are needed.
    """

    opened = Signal()
    """A project was opened or closed; `project` says which."""
    schema_changed = Signal()
    images_changed = Signal()
    """Images, their labels, splits or true masks."""
    bank_changed = Signal()
    """There is a new bank."""
    muted_changed = Signal()
    """A prototype was muted or unmuted."""
    model_changed = Signal()
    """A round of training has begun, or ended."""
    masks_changed = Signal()
    """Masks were stored by others than the person who draws."""
    reviewed = Signal()
    """What a person has drawn is stored, or something was said of a mask, or taken back."""
    current_changed = Signal()
    """Another image is open, or none."""
    recipe_changed = Signal()
    """Another recipe makes the masks of the project."""
    settings_changed = Signal()
    """A person has changed what `settings` returns."""
    task_changed = Signal()
    """The long task has begun, paused, gone on or ended; or another program has taken the project
    over, so that none can begin that writes."""
    task_over = Signal(object)
    """A `Task` has ended, and its result is handed over: nothing more comes of it."""
    progressed = Signal(object)
    """An `Event` of the long task."""
    said = Signal(object)
    """A `Notice` for the person."""
    went_wrong = Signal(object)
    """A `Problem`."""

    def __init__(self, runner: Runner, settings: Callable[[], Settings] = Settings) -> None:
        self.runner = runner
        self.settings = settings
        self.project: Project | None = None
        self.current: ImageRecord | None = None
        self.is_current_unread = False
        """Whether the open image could not be read; to show it again is to try again."""
        self.when_opened: list[Callable[[], None]] = []
        """What is done first of all in a project that is opened, before any page hears of it."""
        self.before_leaving: list[Callable[[], None]] = []
        """What is done before another image is opened."""
        self.before_saving: list[Callable[[], None]] = []
        """What is done so that the project holds what is seen."""
        self.before_closing: list[Callable[[], None]] = []
        """What is done last, before the project is closed."""
        self.when_reopening: list[Callable[[Project], None]] = []
        """Is given another opening of the open project: what is not on disk yet goes there."""
        self.task: Task | None = None
        self.messages = Messages()
        self.patience = Patience()
        self._is_closed = False
        self.said.connect(self.messages.take)

    @staticmethod
    def now() -> datetime:
        """Return the date and time, in UTC."""
        return datetime.now(UTC)

    @property
    def device(self) -> torch.device:
        """The device of the settings, or the best one that is here."""
        name = self.settings().device
        return choose_device(None if name == "auto" else name)

    @property
    def recipe(self) -> Recipe:
        """The recipe for masks: what was chosen for the project, else what suits its model."""
        return Recipe() if self.project is None else recipe_of(self.project)

    @property
    def person(self) -> str:
        """The name of who is at work, or a word for it."""
        return self.settings().person.strip() or "person"

    def require_project(self) -> Project:
        """Return the open project.

        Raises
        ------
        ProjectError
            None is open.
        """
        if self.project is None:
            raise ProjectError(
                "no project is open", where="workbench", remedy="Open or make one on Labels."
            )
        return self.project

    def open(self, folder: Path, *, take_over: bool = False) -> None:
        """Open the project in `folder` in place of the open one.

        Where it is the same, and another program had taken it over, what a person has done since
        is saved in the new opening.

        Parameters
        ----------
        folder
            Of the project.
        take_over
            Take it from whichever program has it open for writing; that one can write no more.

        Raises
        ------
        ProjectError
            It cannot be opened, or `busy` says why no other can be; nothing has changed.
        StorageError
        """
        self._refuse_while_busy(folder)
        project = Project.open(folder, take_over=take_over)
        try:
            recipe_of(project)  # refuses one of another version
            with self._handing_over(project):
                self._put_away()
        except BaseException:
            self._let_go(project, Project.withdraw)
            raise
        self.project = project
        with ExitStack() as then:  # it is the open one, whatever is raised
            then.callback(self._say_who_has, project)  # last
            then.callback(self.opened.emit)
            for begin in self.when_opened:
                begin()

    def open_sample(self) -> None:
        """Open the project of synthetic tissue in the person's home; make it if it is not there."""
        made = [f for f in _sample_folders() if (f / "project" / DATABASE).is_file()]
        if made:
            self.attempt(lambda: self.open(made[0] / "project"))
            return
        free = next(folder for folder in _sample_folders() if not folder.exists())
        self.attempt(lambda: self._make_sample(free))

    def close_project(self) -> None:
        """Close the open project, if any.

        Raises
        ------
        ProjectError
            A task still runs.
        """
        if self.project is not None:
            self._refuse_while_busy(self.project.folder)
            self._put_away()
            self.opened.emit()

    def show(self, image: ImageRecord | None) -> None:
        """Make `image` the open one.

        Raises
        ------
        ProtosegError
            What a person has done in the open image is not on disk; it stays open.
        """
        if image != self.current or self.is_current_unread:
            for leave in self.before_leaving:
                leave()
            self.current, self.is_current_unread = image, False
            self.current_changed.emit()

    def save(self) -> None:
        """Save what a person has set in the open image.

        Raises
        ------
        ProjectError, StorageError
            It cannot be saved.
        """
        for save in self.before_saving:
            save()

    def set_recipe(self, recipe: Recipe) -> None:
        """Make `recipe` the one for the masks of the open project."""
        self.require_project().set_recipe_json(recipe.model_dump_json())
        self.recipe_changed.emit()

    def refresh_current(self) -> None:
        """Read the record of the open image anew, after its labels or the like have changed."""
        if self.project is not None and self.current is not None and self.current.id is not None:
            self.current = self.project.image(self.current.id)

    @property
    def is_busy(self) -> bool:
        """Whether a long task is under way."""
        return self.task is not None and not self.task.is_over

    def busy(self) -> str | None:
        """Say why nothing else can begin: what is under way, or that all is closed; else None."""
        if self._is_closed:
            return "The workbench is closed; open it again."
        if self.task is None or self.task.is_over:
            return None
        return f"{self.task.title} is under way; wait for it, or stop it."

    def read_only(self) -> str | None:
        """Say why nothing can be changed in the open project; None where it can."""
        if self.project is None or not self.project.is_read_only:
            return None
        notice = self.project.lock_notice()
        return None if notice is None else notice.text

    def take_over(self) -> None:
        """Open the project, which is read-only, for writing; errors as `open`."""
        self.open(self.require_project().folder, take_over=True)

    def cannot_write(self) -> str | None:
        """Say why nothing that writes to the project can begin; None where it can."""
        return self.busy() or self.read_only()

    def run(
        self,
        title: str,
        job: Job[Any],
        done: Callable[[Any], None],
        stores: Sequence[SignalInstance] = (),
    ) -> Task:
        """Start the long task: one at a time.

        Parameters
        ----------
        title
            What is being done ("Build bank").
        job
            Not started yet.
        done
            Called with the job's result, on the main thread; not called where it fails.
        stores
            Signals of what the job may have stored before it fails, which are told then.

        Raises
        ------
        ProjectError
            `busy` says why none can begin.
        StorageError
            What a person has set in the open image cannot be saved.
        """
        task = Task(title, done, stores)
        self.start(task, job)
        return task

    def make_way(self, title: str) -> None:
        """Do what must be done before a task of this title starts; errors as `run`.

        Whoever forgets the task before calls it first, so that nothing is forgotten for a task
        that cannot start.
        """
        reason = self.busy()
        if reason is not None:
            raise ProjectError(reason.rstrip("."), where=title, remedy="Then try again.")
        self.save()  # so that the job reads what is seen

    def start(self, task: Task, job: Job[Any]) -> None:
        """Start `job` as the long task; errors as `run`.

        It is `task` for everyone from its first event on, also for whoever has made it.
        """
        self.make_way(task.title)
        self.messages.clear()
        self.task = task
        task.changed.connect(self.task_changed.emit)
        task.happened.connect(self._pass_on)
        # What it warned of is kept where its result opens a project.
        listener = TaskListener(task, self._over, handing=self.messages.kept)
        task.begun(self.runner.start(task.title, job, listener))
        self.task_changed.emit()

    def run_aside(self, title: str, job: Job[Any], done: Callable[[Any], None]) -> None:
        """Start short work that goes on beside the long task and shows no progress.

        Parameters
        ----------
        title
            What is being done.
        job
            Not started yet.
        done
            Called on the main thread, with the job's result; with None where it fails, which
            is then shown.
        """
        self.runner.start(title, job, _Aside(self, done))

    def say(self, text: str, severity: Severity = Severity.INFO) -> None:
        """Show a sentence."""
        self.said.emit(Notice(text, severity))

    def tell(self, problem: Problem, *, stays: bool = False) -> None:
        """Show what went wrong; `stays` where other sentences are to follow at once."""
        self.messages.take_problem(problem, stays=stays)
        self.went_wrong.emit(problem)

    def attempt(self, action: Callable[[], object]) -> bool:
        """Do something that a person asked for; show why where it fails.

        Returns
        -------
        bool
            Whether it worked.
        """
        try:
            action()
        except ProtosegError as error:
            self.tell(Problem.of(error))
            return False
        return True

    def try_to_save(self) -> Problem | None:
        """Save what a person has set in the open image; return why where it cannot be saved."""
        try:
            self.save()
        except ProtosegError as error:
            return Problem.of(error)
        return None

    def close(self) -> None:
        """Save the open image, stop what runs, wait for it, and close all for good.

        A result that comes late is let go; no project can be opened and no task begun any more.
        So it is too where saving raises what nobody has foreseen.
        """
        try:
            self.attempt(self.save)
        finally:
            self._leave_all()

    def _leave_all(self) -> None:
        try:
            self.runner.close()
            self._is_closed = True
            if self.task is not None:
                self.task.abandon()
            self.current = None
            self.current_changed.emit()
        finally:
            self._close_project()

    def _make_sample(self, folder: Path) -> None:
        self.run("Make sample project", make_sample_project(folder, now=self.now()), self.open)

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.said.emit(event)
        self.progressed.emit(event)

    def _over(self, task: Task) -> None:
        has_result = task.problem is None and task.last_words is None
        try:
            if not has_result and self.project is not None:
                for signal in task.stores:
                    signal.emit()
        finally:  # what became of the task is said last
            if task.problem is not None:
                self.tell(task.problem)
            elif task.last_words is not None:
                self.say(task.last_words)
            self.task_over.emit(task)

    def _refuse_while_busy(self, folder: Path) -> None:
        reason = self.busy()
        if reason is not None:
            raise ProjectError(reason.rstrip("."), where=folder, remedy="Then open it.")

    def _put_away(self) -> None:
        """Let go of the open project, once what a person has set in it is saved."""
        self.show(None)
        self.save()  # also what waits of images that were left before
        self.messages.clear()
        self._close_project()
        self.task = None

    @contextmanager
    def _handing_over(self, project: Project) -> Iterator[None]:
        """Let `project` hold what waits to be saved, where it is the open one opened once more."""
        former = self.project
        if former is None or project.is_read_only or not project.is_same(former):
            yield
            return
        for hand_over in self.when_reopening:
            hand_over(project)
        try:
            yield
        except BaseException:
            for hand_over in self.when_reopening:
                hand_over(former)
            raise

    def _say_who_has(self, project: Project) -> None:
        """Say why a project is read-only, or whose lock it was opened over."""
        notice = project.lock_notice()
        if notice is not None:
            self.said.emit(notice)

    def _close_project(self) -> None:
        try:
            for end in self.before_closing:
                end()
        finally:
            project, self.project = self.project, None
            if project is not None:
                self._let_go(project, Project.close)

    def _let_go(self, project: Project, close: Callable[[Project], None]) -> None:
        """Close an opening of a project, of which all that can be saved is on disk."""
        try:
            self.patience.wait(partial(close_in_time, partial(close, project)), project.folder)
        except ProtosegError as error:
            self.tell(Problem.of(error), stays=True)


class _Aside:
    """Brings the result of short work, or shows why there is none."""

    def __init__(self, session: Session, done: Callable[[Any], None]) -> None:
        self._session, self._done = session, done
        self._project = session.project

    def happened(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._session.said.emit(event)

    def ended(self, result: Any) -> None:
        self._done(result)

    def failed(self, error: BaseException) -> None:
        if self._project is self._session.project:  # else it was closed under the work
            # Nobody has just asked for it, and the task will have its own last sentence.
            self._session.tell(Problem.of(error), stays=self._session.is_busy)
        self._done(None)


def _sample_folders() -> Iterator[Path]:
    """Return where the sample project is, or may be made: a folder of its own each time."""
    home = Path.home()
    yield home / "protoseg-sample"
    for number in range(2, 100):
        yield home / f"protoseg-sample-{number}"
