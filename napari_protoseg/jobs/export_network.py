"""The job that exports the segmentation network of a project, to be run without this program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_protoseg.errors import ExportError
from napari_protoseg.events import Job, Progress, Request
from napari_protoseg.jobs.models import trained_model
from napari_protoseg.network.onnx_export import require_packages, write_onnx
from napari_protoseg.network.segmentation import SegmentationNetwork
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Round, Stage

SUFFIX = ".onnx"
_NAME = f"segmentation{SUFFIX}"
_STAGE = "Writing the network"


@dataclass(frozen=True)
class ExportedNetwork:
    """Where a network was written, and the round that it is of."""

    path: Path
    round: Round


def export_network(
    project: Project, out: Path, *, overwrite: bool = False
) -> Job[ExportedNetwork | None]:
    """Write the newest segmentation network as ONNX.

    Parameters
    ----------
    project
        With a trained round of the second stage.
    out
        A file whose name ends in ``.onnx``, or a folder to write one into.
    overwrite
        Replace a file that is there.

    Returns
    -------
    ExportedNetwork or None
        None after a stop: nothing was written.

    Raises
    ------
    ExportError
        A file is there already, a package is missing, or the network cannot be written so.
    ProjectError
        There is no such network yet.
    CheckpointError, StorageError
    """
    require_packages()
    path = out if out.suffix.lower() == SUFFIX else out / _NAME
    if path.exists() and not overwrite:
        raise ExportError(
            "a file is there already",
            where=path,
            remedy="Overwrite it, or choose another name.",
            on_terminal="--overwrite, or --out FILE",
        )
    trained = trained_model(project, Stage.SEGMENTATION)
    yield from trained.notices()
    if (yield Progress(_STAGE, 0, 1)) is Request.STOP:
        return None
    assert isinstance(trained.model, SegmentationNetwork)
    write_onnx(path, trained.model, trained.record)
    yield Progress(_STAGE, 1, 1)
    return ExportedNetwork(path, trained.round)
