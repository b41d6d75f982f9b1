"""Cosine k-means gives the reference's numbers, and several starts find the tightest clusters."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from napari_protoseg.bank.clustering import cluster, cosine_kmeans, unit_rows


def blobs(seed: int = 0, count: int = 20, kinds: int = 4, width: int = 16):
    generator = np.random.default_rng(seed)
    centres = np.eye(kinds, width)
    rows = np.repeat(centres, count, axis=0) + generator.normal(0, 0.05, (kinds * count, width))
    return rows, np.repeat(np.arange(kinds), count)


@pytest.mark.parametrize("name", ["equal_clusters.npz", "unequal_clusters.npz"])
def test_reference_clusters_are_reproduced(name: str) -> None:
    root = os.environ.get("PROTOSEG_DATA")
    if not root:
        pytest.skip("PROTOSEG_DATA does not name the folder of reference numbers")
    with np.load(Path(root) / "parity" / name) as reference:
        rows = reference["cluster_input"]
        found = cosine_kmeans(rows, rows[reference["cluster_init_rows"]])
        np.testing.assert_array_equal(found.assignment, reference["cluster_labels"])
        expected = reference["cluster_centers"]
        assert np.abs(found.centres - expected).max() <= 1e-6 * np.abs(expected).max()


def test_each_centre_is_the_renormalised_mean_of_its_rows() -> None:
    rows, _ = blobs()
    found = cosine_kmeans(rows, rows[[0, 1, 2]])
    for position, centre in enumerate(found.centres):
        mean = unit_rows(rows)[found.assignment == position].mean(axis=0)
        np.testing.assert_allclose(centre, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_length_of_rows_does_not_matter() -> None:
    rows, _ = blobs()
    scale = np.random.default_rng(1).uniform(0.1, 10, (len(rows), 1))
    one, two = cosine_kmeans(rows, rows[:3]), cosine_kmeans(rows * scale, rows[:3])
    np.testing.assert_array_equal(one.assignment, two.assignment)
    np.testing.assert_allclose(one.centres, two.centres)


def test_an_empty_cluster_keeps_its_centre() -> None:
    rows = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    lonely = np.array([-3.0, -4.0])
    found = cosine_kmeans(rows, np.array([rows[0], rows[2], lonely]))
    assert found.assignment.tolist() == [0, 0, 1]
    np.testing.assert_allclose(found.centres[2], [-0.6, -0.8])


def test_one_cluster_is_the_mean_direction() -> None:
    rows, _ = blobs()
    found = cluster(rows, 1, seed=0)
    mean = unit_rows(rows).mean(axis=0)
    np.testing.assert_allclose(found.centres[0], mean / np.linalg.norm(mean))


@pytest.mark.parametrize("seed", range(5))
def test_true_groups_are_found_from_any_seed(seed: int) -> None:
    rows, truth = blobs(seed)
    found = cluster(rows, 4, seed=seed)
    pairs = {(int(a), int(b)) for a, b in zip(found.assignment, truth, strict=True)}
    assert len(pairs) == 4


def test_more_starts_are_never_less_tight() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 6))
    tightness = [cluster(rows, 5, seed=7, starts=starts).similarity for starts in (1, 5, 20)]
    assert tightness == sorted(tightness)
    assert tightness[0] < tightness[-1]


def test_the_same_seed_gives_the_same_clusters() -> None:
    rows = np.random.default_rng(3).normal(size=(60, 6))
    one, two = cluster(rows, 4, seed=5), cluster(rows, 4, seed=5)
    np.testing.assert_array_equal(one.centres, two.centres)
