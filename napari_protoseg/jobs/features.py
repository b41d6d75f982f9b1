"""What a project's cache knows of the features that a model makes masks of."""

from __future__ import annotations

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.encoding import DenseFeatures
from napari_protoseg.jobs.records import reader_of
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.project.folder import Project

CACHE_BYTES = 4 * 2**30
"""Size that the cache of a project may grow to, where no other is asked for."""


def feature_cache(project: Project, budget_bytes: int = CACHE_BYTES) -> FeatureCache:
    """Return the cache of a project's features."""
    return FeatureCache(project.cache / "features", budget_bytes)


def cached_features(project: Project, model: MapModel) -> DenseFeatures | None:
    """Return the features of a project's images, where `model` needs no more of them.

    None for a model with a backbone of its own.

    Raises
    ------
    StorageError
    """
    if not isinstance(model, EvidenceModel):
        return None
    results = feature_cache(project).results(model.encoder.identity, FeatureKind.DENSE)
    return DenseFeatures(model.encoder, results, reader_of(project.images()))
