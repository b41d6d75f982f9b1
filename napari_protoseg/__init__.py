"""Tissue segmentation from image-level labels, with prototypes taken from the images.

The public names below are loaded at their first use, so that importing this package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_protoseg.errors import ProtosegError
    from napari_protoseg.events import Request, finish
    from napari_protoseg.jobs.bank import BankRequest, build_project_bank
    from napari_protoseg.jobs.evaluate import evaluate_masks
    from napari_protoseg.jobs.export import export_project
    from napari_protoseg.jobs.export_plan import ExportFormat
    from napari_protoseg.jobs.new import NewProject, new_project
    from napari_protoseg.jobs.predict import predict_images
    from napari_protoseg.jobs.preparation import TrainRequest
    from napari_protoseg.jobs.segment import SegmentRequest, resume_segmentation, segment_project
    from napari_protoseg.jobs.train import resume_training, train_project
    from napari_protoseg.masks.recipe import Recipe
    from napari_protoseg.project.folder import Project
    from napari_protoseg.schema import ClassSchema
    from napari_protoseg.training.config import TrainingConfig
    from napari_protoseg.training.devices import choose_device

__version__ = "0.1.0"

_EXPORTS = {
    "BankRequest": "napari_protoseg.jobs.bank",
    "ClassSchema": "napari_protoseg.schema",
    "ExportFormat": "napari_protoseg.jobs.export_plan",
    "NewProject": "napari_protoseg.jobs.new",
    "Project": "napari_protoseg.project.folder",
    "ProtosegError": "napari_protoseg.errors",
    "Recipe": "napari_protoseg.masks.recipe",
    "Request": "napari_protoseg.events",
    "SegmentRequest": "napari_protoseg.jobs.segment",
    "TrainRequest": "napari_protoseg.jobs.preparation",
    "TrainingConfig": "napari_protoseg.training.config",
    "build_project_bank": "napari_protoseg.jobs.bank",
    "choose_device": "napari_protoseg.training.devices",
    "evaluate_masks": "napari_protoseg.jobs.evaluate",
    "export_project": "napari_protoseg.jobs.export",
    "finish": "napari_protoseg.events",
    "new_project": "napari_protoseg.jobs.new",
    "predict_images": "napari_protoseg.jobs.predict",
    "resume_segmentation": "napari_protoseg.jobs.segment",
    "resume_training": "napari_protoseg.jobs.train",
    "segment_project": "napari_protoseg.jobs.segment",
    "train_project": "napari_protoseg.jobs.train",
}

__all__ = [
    "BankRequest",
    "ClassSchema",
    "ExportFormat",
    "NewProject",
    "Project",
    "ProtosegError",
    "Recipe",
    "Request",
    "SegmentRequest",
    "TrainRequest",
    "TrainingConfig",
    "__version__",
    "build_project_bank",
    "choose_device",
    "evaluate_masks",
    "export_project",
    "finish",
    "new_project",
    "predict_images",
    "resume_segmentation",
    "resume_training",
    "segment_project",
    "train_project",
]


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *_EXPORTS})
