"""State of the page of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from psygnal import Signal

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Event, Job
from napari_protoseg.jobs.bank import summary_of
from napari_protoseg.jobs.chain import missing_classes, round_standing, second_standing
from napari_protoseg.jobs.estimate import Estimate, estimate_presets, spoken
from napari_protoseg.jobs.models import can_go_on
from napari_protoseg.jobs.preparation import TrainRequest, require_preset
from napari_protoseg.jobs.train import TrainedRound, resume_training, train_project
from napari_protoseg.network.backbones import DEFAULT_BACKBONE
from napari_protoseg.project.records import Round
from napari_protoseg.training.checkpoint import read_state
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.devices import describe_device
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.loop import LAST
from napari_protoseg.workbench.bank_page import classes_without_image
from napari_protoseg.workbench.kept_standing import KeptStanding
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.second_stage import SecondStage, require_no_reason
from napari_protoseg.workbench.session import Session
from napari_protoseg.workbench.tasks import Problem, Task, TaskState
from napari_protoseg.workbench.training_curves import TrainingCurves
from napari_protoseg.workbench.training_outcome import outcome_of

BACKBONES = (DEFAULT_BACKBONE, "resnet50", "mit_b1")
"""Backbones to choose from; a network of timm that is like them can be had on the terminal."""

_OF_NETWORKS = (
    "config.epochs",
    "config.batch_size",
    "config.backbone",
    "backbone_weights",
    "config.backbone_rate",
    "config.head_rate",
    "config.weight_decay",
    "config.competing",
    "config.balanced",
    "config.matching",
    "config.matching_weight",
    "config.max_side",
    "config.held_out",
    "config.seed",
)


class TrainingState(PageState):
    """Trains a round, goes on with a stopped one, and keeps what the running one says.

    Parameters
    ----------
    session
        What all pages share.
    clock
        Seconds from any start.
    """

    advanced = Signal()
    """The running training has taken a step, or ended an epoch."""

    options = _OF_NETWORKS
    """Fields of the request that a person may change; `has_options` says when they count."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(session)
        self.request = TrainRequest()
        self.options_problem: str | None = None
        self.problem: Problem | None = None
        """Why the last training or estimate failed."""
        self.unfinished: Round | None = None
        """The newest round, where it has not ended and can go on."""
        self.second = SecondStage(session, self._go_on)
        """The network that is taught by the masks of what is trained here."""
        self.curves = TrainingCurves(clock)
        self._clock = clock
        self._estimates: dict[TrainRequest, Estimate] = {}
        self._estimated_on = ""
        self._bank_encoder: str | None = None
        self._without_image: tuple[str, ...] = ()
        self._gone: tuple[str, ...] = ()
        self._took: dict[TrainRequest, float] = {}
        self.outcome = ""
        """How the last training ended, and what comes next; empty before, and while one runs."""
        self._timed: TrainRequest | None = None
        self._training: Task | None = None
        self._estimating: Task | None = None
        self._standing = KeptStanding(session, round_standing, second_standing)
        for signal in (
            session.opened,
            session.bank_changed,
            session.model_changed,
            session.images_changed,
            session.schema_changed,
            session.recipe_changed,
            session.muted_changed,
            session.masks_changed,
            session.reviewed,
        ):
            signal.connect(self._outdate)
        self.second.changed.connect(self.changed.emit)
        session.opened.connect(self._start)
        session.bank_changed.connect(self._reload_bank)
        session.model_changed.connect(self._reload_round)
        session.images_changed.connect(self._follow_images)
        session.schema_changed.connect(self._reload_bank)
        session.settings_changed.connect(self.changed.emit)
        session.task_changed.connect(self._follow)
        session.progressed.connect(self._hear)
        self._start()

    @property
    def preset(self) -> Preset:
        """The chosen preset."""
        return self.request.preset

    @property
    def steps(self) -> list[StepFinished]:
        """What each step of the running or last training said."""
        return self.curves.steps

    @property
    def epochs(self) -> list[EpochFinished]:
        """What each epoch of the running or last training measured."""
        return self.curves.epochs

    @property
    def has_options(self) -> bool:
        """Whether the chosen preset can be changed; what is fitted by quick has one answer."""
        return self.preset is not Preset.QUICK

    @property
    def is_training(self) -> bool:
        """Whether a training is under way, or paused."""
        return self._training is not None and self._own_task() is self._training

    def device(self) -> str:
        """Name the device that training will compute on, or say why it cannot."""
        try:
            return describe_device(self.session.device)
        except TrainingError as error:
            return str(error)

    def needs(self) -> str | None:
        """Return why no training can begin now; None where one can. Nothing is read for it."""
        return self._cannot_run() or self._lacks(self.request)

    def resume_needs(self) -> str | None:
        """Return why no training can go on now; None where one can."""
        if self.unfinished is None:
            return self._cannot_run() or "No training has been stopped."
        return self._cannot_run()

    def standing(self) -> str:
        """Say whether, and why, the newest rounds are out of date; empty where they are current."""
        return self._standing.words()

    def choose(self, preset: Preset) -> None:
        """Choose a preset, with its own options."""
        self.request, self.options_problem = _request_of(preset), None
        self.changed.emit()

    def set_options(self, request: TrainRequest, problem: str | None = None) -> None:
        """Take what a person has filled in.

        Parameters
        ----------
        request
            With the options; the last valid ones where there is a problem.
        problem
            What is wrong with what is filled in, as a sentence.
        """
        self.request, self.options_problem = request, problem
        self.changed.emit()

    def estimate_of(self, preset: Preset) -> Estimate | None:
        """Return what was measured of a preset; of the chosen one with its options."""
        request = self.request if preset is self.preset else _request_of(preset)
        return self._estimates.get(request) if self._estimated_on == self.device() else None

    def cost(self) -> str:
        """Say what the chosen training will take, as far as that is known."""
        measured = self.estimate_of(self.preset)
        if measured is not None:
            return f"It takes {measured.words}."
        took = self._took.get(self.request)
        if took is not None:
            return f"The last one like it took {spoken(took)}."
        return "How long it takes is not measured yet."

    def time_left(self) -> str:
        """Say how long the running training will still take; empty while that is not known."""
        seconds = self.curves.time_left() if self.is_training else None
        return "" if seconds is None else f"{spoken(seconds)} left".capitalize()

    def train(self) -> None:
        """Begin a round as `request` says.

        Raises
        ------
        TrainingError
            None can begin now.
        """
        require_no_reason(self.needs(), "Then train.")
        session = self.session
        job = train_project(
            session.require_project(),
            self.request,
            device=session.device,
            now=session.now,
            preview=lambda: session.current,
            cache_bytes=session.settings().cache_bytes,
        )
        self._train(job, TrainingCurves(self._clock), timed=self.request)

    def resume(self) -> None:
        """Go on with the newest round, where it was stopped.

        Raises
        ------
        TrainingError
            None can go on now.
        CheckpointError
            What it has saved is damaged.
        """
        require_no_reason(self.resume_needs(), "Then resume.")
        assert self.unfinished is not None
        session = self.session
        job = resume_training(
            session.require_project(),
            device=session.device,
            now=session.now,
            preview=lambda: session.current,
            cache_bytes=session.settings().cache_bytes,
        )
        self._go_on(job, self.unfinished)

    def _go_on(self, job: Job[TrainedRound | None], begun: Round | None) -> None:
        """Begin a job that trains a round, or goes on with one that was begun."""
        last = None if begun is None else begun.folder / LAST
        saved = read_state(last) if last is not None and last.exists() else None
        curves = TrainingCurves(self._clock, () if saved is None else saved.history)
        self._train(job, curves, timed=None)  # of a part, no whole can be told

    def estimate(self) -> None:
        """Measure what the chosen training will cost, and what the other presets would.

        Raises
        ------
        TrainingError
            No training can begin now.
        """
        require_no_reason(self.needs(), "Then estimate.")
        others = [
            request
            for preset in PRESETS
            if preset is not self.preset
            and (request := _request_of(preset)) not in self._estimates
            and self._lacks(request) is None
        ]
        session = self.session
        job = estimate_presets(
            session.require_project(),
            [self.request, *others],
            device=session.device,
            cache_bytes=session.settings().cache_bytes,
        )
        estimating = Task("Estimate time", self._estimated)
        session.make_way(estimating.title)
        self.problem = None
        self._estimating = estimating
        session.start(estimating, job)

    def _cannot_run(self) -> str | None:
        if self.session.project is None:
            return "Open a project first."
        return self.session.cannot_write()

    def _outdate(self) -> None:
        self._standing.outdate()
        self.changed.emit()

    def _lacks(self, request: TrainRequest) -> str | None:
        if self._gone:
            gone = ", ".join(self._gone)
            return f"Build a prototype bank anew: the newest is of {gone}, which was removed."
        if self._bank_encoder is None:
            first = "Build a prototype bank first."
            if self._without_image:
                missing = ", ".join(self._without_image)
                return f"{first} For it, no training image is known to hold {missing} yet."
            return first
        if request is self.request and self.options_problem is not None:
            return self.options_problem
        try:
            require_preset(request, self._bank_encoder)
        except TrainingError as error:
            return error.remedy
        return None

    def _train(
        self, job: Job[TrainedRound | None], curves: TrainingCurves, timed: TrainRequest | None
    ) -> None:
        training = Task("Train", self._trained)
        self.session.make_way(training.title)
        self.problem, self.outcome = None, ""
        self.curves, self._timed, self._training = curves, timed, training
        self.session.start(training, job)

    def _own_task(self) -> Task | None:
        """Return the task that this page has begun, while it is under way."""
        task = self.session.task
        if task is None or task.is_over or task not in (self._training, self._estimating):
            return None
        return task

    def _follow(self) -> None:
        """Keep the watch of the running training, and what became of it."""
        task = self.session.task
        if task is not None and task in (self._training, self._estimating):
            if task.state is TaskState.PAUSED:
                self.curves.pause()
            else:
                self.curves.go_on()
            if task.is_over:
                self.problem = task.problem
                if task.problem is not None and task is self._training:
                    self.session.model_changed.emit()
        self.changed.emit()

    def _hear(self, event: Event) -> None:
        if self._own_task() is not None and self.curves.hear(event):
            self.advanced.emit()

    def _trained(self, ended: TrainedRound | None) -> None:
        if ended is None:
            self.outcome = "Stopped before there was anything to keep."
        else:
            if ended.finished and self._timed is not None:
                self._took[self._timed] = self.curves.seconds()
            self.outcome = outcome_of(self.session.require_project(), ended)
        self.session.say(self.outcome)
        self.session.model_changed.emit()

    def _estimated(self, measured: Mapping[TrainRequest, Estimate]) -> None:
        if self._estimated_on != self.device():
            self._estimates, self._estimated_on = {}, self.device()
        self._estimates |= measured
        if self._estimating is not None and self._estimating.was_stopped:
            kept = "What was measured is shown." if measured else "Nothing was measured."
            self.session.say(f"Stopped. {kept}")
        self.changed.emit()

    def _start(self) -> None:
        self.problem, self.outcome = None, ""
        self.curves = TrainingCurves(self._clock)
        self._reload_bank()

    def _reload_bank(self) -> None:
        self._estimates.clear()
        self._took.clear()
        self._reload()

    def _reload_round(self) -> None:
        # The quick preset finds its features cached once it has run.
        self._estimates = {
            request: measured
            for request, measured in self._estimates.items()
            if request.preset is not Preset.QUICK
        }
        self._reload()

    def _reload(self) -> None:
        """Read what decides whether a training can begin, or go on."""
        self._bank_encoder, self.unfinished = None, None
        self._without_image, self._gone = (), ()
        self.second.forget()
        if self.session.project is not None:
            self.session.attempt(self._read)
        self.changed.emit()

    def _read(self) -> None:
        project = self.session.require_project()
        bank = project.latest_bank()
        if bank is not None:
            self._bank_encoder = summary_of(bank).encoder
            self._gone = missing_classes(project, bank)
        else:
            self._without_image = classes_without_image(project)
        newest = project.latest_round()
        if newest is not None and can_go_on(newest):
            self.unfinished = newest
        self.second.read(project)

    def _follow_images(self) -> None:
        if self._estimates or self._took:
            self._estimates.clear()
            self._took.clear()
            self.changed.emit()
        if self._bank_encoder is None or self._gone:
            self._reload()  # other labels may let a bank be built, or classes let one be used


def _request_of(preset: Preset) -> TrainRequest:
    return TrainRequest(preset=preset, config=PRESETS[preset])
