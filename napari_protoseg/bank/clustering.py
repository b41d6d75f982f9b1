"""Clustering of embeddings by cosine similarity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus


@dataclass(frozen=True)
class Clustering:
    """Rows grouped around unit centres.

    Parameters
    ----------
    assignment
        int64 (n,), the cluster of each row.
    centres
        float64 (k, d), of length 1.
    similarity
        Sum over rows of the cosine to their own centre: larger is tighter.
    """

    assignment: NDArray[np.int64]
    centres: NDArray[np.float64]
    similarity: float


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale each row of (n, d) to length 1, in float64; a row of zeros stays."""
    scaled: NDArray[np.float64] = rows.astype(np.float64)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled /= np.where(lengths > 0, lengths, 1)  # no second copy of what may be many rows
    return scaled


def cosine_kmeans(
    features: NDArray[np.floating], initial_centres: NDArray[np.floating], rounds: int = 100
) -> Clustering:
    """Group `features` by cosine similarity, from given centres (spherical k-means).

    A centre is the renormalised mean of its rows, each scaled to length 1; an empty cluster
    keeps its centre. It ends when no centre moves any more, up to rounding.

    Parameters
    ----------
    features
        (n, d).
    initial_centres
        (k, d), of any length but zero.
    rounds
        The most rounds.
    """
    rows = unit_rows(features)
    centres = unit_rows(initial_centres)
    for _ in range(rounds):
        assignment = (rows @ centres.T).argmax(axis=1)
        moved = centres.copy()
        for cluster_id in np.unique(assignment):
            moved[cluster_id] = rows[assignment == cluster_id].mean(axis=0)
        moved = unit_rows(moved)
        settled = np.allclose(moved, centres)
        centres = moved
        if settled:
            break
    similarities = rows @ centres.T
    assignment = similarities.argmax(axis=1)
    return Clustering(assignment, centres, float(similarities.max(axis=1).sum()))


def cluster(
    features: NDArray[np.floating], clusters: int, seed: int, starts: int = 10
) -> Clustering:
    """Group `features` into `clusters`, the tightest of several k-means++ starts.

    The same rows in the same order with the same seed give the same clusters.

    Parameters
    ----------
    features
        (n, d), n >= clusters.
    clusters
        1 or more. Where fewer rows differ, some clusters stay empty.
    seed
        Of the random starts.
    starts
        How many, 1 or more.
    """
    rows = unit_rows(features)
    generator = np.random.default_rng(seed)
    tried = []
    for _ in range(starts):
        _, first = kmeans_plusplus(rows, clusters, random_state=int(generator.integers(2**31 - 1)))
        tried.append(cosine_kmeans(rows, rows[first]))
    return max(tried, key=lambda clustering: clustering.similarity)
