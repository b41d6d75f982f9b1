"""State of the page of training."""

from __future__ import annotations

from napari_protoseg.errors import TrainingError
from napari_protoseg.events import Event
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import TrainedRound, resume_training, train_project
from napari_protoseg.project.records import Round, RoundStatus
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.session import Session


class TrainingState(PageState):
    """Trains a round, goes on with a stopped one, and keeps what the running one says.

    Parameters
    ----------
    session
        What all pages share.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.preset = Preset.QUICK
        self.steps: list[StepFinished] = []
        self.epochs: list[EpochFinished] = []
        session.opened.connect(self._forget)
        session.bank_changed.connect(self.changed.emit)
        session.task_changed.connect(self.changed.emit)
        session.progressed.connect(self._hear)

    def needs(self) -> str | None:
        """Return why no training can begin now; None where one can."""
        if self.session.project is None:
            return "Open a project first."
        if self.session.is_busy:
            return self.session.busy()
        if self.session.project.latest_bank() is None:
            return "Build a prototype bank first."
        return None

    @property
    def unfinished(self) -> Round | None:
        """The newest round, where it was stopped or killed and can be resumed."""
        if self.session.project is None or self.session.is_busy:
            return None
        newest = self.session.project.latest_round()
        resumable = (RoundStatus.STOPPED, RoundStatus.RUNNING)
        return newest if newest is not None and newest.status in resumable else None

    def train(self) -> None:
        """Begin a round with the chosen preset.

        Raises
        ------
        TrainingError
            None can begin now.
        """
        self._require()
        session = self.session
        request = TrainRequest(preset=self.preset, config=PRESETS[self.preset])
        job = train_project(
            session.require_project(), request, device=session.device, now=session.now
        )
        self._forget()
        session.run("Train", job, self._trained)

    def resume(self) -> None:
        """Go on with the newest round, where it was stopped.

        Raises
        ------
        TrainingError
            None can begin now.
        """
        self._require()
        session = self.session
        job = resume_training(session.require_project(), device=session.device, now=session.now)
        self._forget()
        session.run("Train", job, self._trained)

    def _require(self) -> None:
        reason = self.needs()
        if reason is not None:
            raise TrainingError(reason.rstrip("."), where="training", remedy="Then train.")

    def _hear(self, event: Event) -> None:
        if isinstance(event, StepFinished):
            self.steps.append(event)
        elif isinstance(event, EpochFinished):
            self.epochs.append(event)
        else:
            return
        self.changed.emit()

    def _trained(self, ended: TrainedRound | None) -> None:
        if ended is None:
            self.session.say("Stopped before there was anything to keep.")
        elif ended.finished:
            self.session.say(f"Round {ended.round.id} is trained.")
        else:
            self.session.say(f"Round {ended.round.id} was stopped; its best state is kept.")
        self.session.model_changed.emit()
        self.changed.emit()

    def _forget(self) -> None:
        self.steps, self.epochs = [], []
        self.changed.emit()
