"""The project folder on disk; ``docs/project-format.md`` describes it."""

from __future__ import annotations

from napari_protoseg.project.arrays import masks_per_shard
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import (
    BankRow,
    ImageRecord,
    MaskSource,
    MaskSummary,
    Origin,
    PredictedMask,
    ReviewStatus,
    Round,
    RoundStatus,
    Split,
    StoredMask,
)

__all__ = [
    "BankRow",
    "ImageRecord",
    "MaskSource",
    "MaskSummary",
    "Origin",
    "PredictedMask",
    "Project",
    "ReviewStatus",
    "Round",
    "RoundStatus",
    "Split",
    "StoredMask",
    "masks_per_shard",
]
