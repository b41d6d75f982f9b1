"""The job that exports the segmentation network of a project, and what it is about to write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from napari_protoseg.errors import ExportError, ProtosegError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.jobs.export_destination import Destination, look_at_file
from napari_protoseg.jobs.models import newest_trained_round, trained_model, untrained
from napari_protoseg.network.onnx_export import missing_packages, onnx_content
from napari_protoseg.network.segmentation import SegmentationNetwork
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, Stage
from napari_protoseg.storage import write_atomically

SUFFIX = ".onnx"
NAME = f"segmentation{SUFFIX}"
"""Name of the file where a folder is chosen."""

_STAGE = "Writing the network"


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """What an export of the network does.

    Parameters
    ----------
    destination
        The file, and whether one is there.
    round_id
        Round whose network is written; None where none was trained yet.
    error
        Why no network can be written anywhere; None where one can.
    """

    destination: Destination
    round_id: int | None
    error: ProtosegError | None

    makes_masks: ClassVar[bool] = False
    """Nothing is stored in the project before it is read."""

    def obstacle(self, *, overwrite: bool = False) -> ProtosegError | None:
        """Return why the export cannot be done, to raise or to show; None where it can."""
        error = self.error or self.destination.error
        if error is None and self.destination.files and not overwrite:
            return ExportError(
                "a file is there already",
                where=self.destination.out,
                remedy="Overwrite it, or choose another name.",
                on_terminal="--overwrite, or --out FILE",
            )
        return error

    def lines(self) -> list[str]:
        """Return the plan in sentences for a person."""
        if self.round_id is None:
            return ["There is nothing to write."]
        lines = [f"The segmentation network of round {self.round_id} to write, as one file."]
        if self.destination.files:
            lines.append(f"{self.destination.out} is replaced.")
        elif self.destination.error is None:
            lines.append(f"It goes to {self.destination.out}, where nothing is yet.")
        return lines


@dataclass(frozen=True)
class ExportedNetwork:
    """Where a network was written, and the round that it is of."""

    path: Path
    round: Round

    @property
    def folder(self) -> Path:
        """The folder that the file is in."""
        return self.path.parent


def plan_network(project: Project, out: Path) -> NetworkPlan:
    """Return what `export_network` does with the same arguments; no model is read.

    Raises
    ------
    StorageError
    """
    trained = newest_trained_round(project, Stage.SEGMENTATION)
    return NetworkPlan(
        destination=look_at_network(project, out),
        round_id=None if trained is None else trained.id,
        error=untrained(project, Stage.SEGMENTATION) if trained is None else missing_packages(),
    )


def look_at_network(project: Project, out: Path) -> Destination:
    """Look at what stands where `export_network` writes for `out`, without changing anything."""
    return look_at_file(project, out if out.suffix.lower() == SUFFIX else out / NAME)


def export_network(
    project: Project, out: Path, *, overwrite: bool = False
) -> Job[ExportedNetwork | None]:
    """Write the newest segmentation network as ONNX, as `plan_network` says.

    Parameters
    ----------
    project
        With a trained round of the second stage.
    out
        A file whose name ends in ``.onnx``, or a folder to write one into. It appears complete
        or not at all.
    overwrite
        Replace a file that is there.

    Returns
    -------
    ExportedNetwork or None
        None after a stop: nothing was written.

    Raises
    ------
    ExportError
        A file is there already, or none may be there; a package is missing, or the network
        cannot be written so.
    ProjectError
        There is no such network yet.
    CheckpointError, StorageError
    """
    plan = plan_network(project, out)
    obstacle = plan.obstacle(overwrite=overwrite)
    if obstacle is not None:
        raise obstacle
    trained = trained_model(project, Stage.SEGMENTATION)
    yield from trained.notices()
    if (yield Progress(_STAGE, 0, 2)) is Request.STOP:
        return None
    assert isinstance(trained.model, SegmentationNetwork)
    content = onnx_content(trained.model, trained.record)
    if (yield Progress(_STAGE, 1, 2)) is Request.STOP:
        return None
    path = plan.destination.out
    write_atomically(path, content)
    yield Progress(_STAGE, 2, 2)
    return ExportedNetwork(path, trained.round)
