"""Candidates hold their class alone; where these are few, the purest others join, as said."""

from __future__ import annotations

import numpy as np
import pytest

from napari_protoseg.bank.candidates import choose_candidates
from napari_protoseg.errors import BankError
from napari_protoseg.schema import ClassSchema

SCHEMA = ClassSchema.from_names(["tumor", "stroma", "normal"])


def choose(labels, white=None, hashes=None, *, minimum=(2, 2, 2), max_white=0.6):
    labels = np.array(labels, dtype=np.int8)
    return choose_candidates(
        labels,
        np.zeros(len(labels)) if white is None else np.array(white),
        [f"{row:03}" for row in range(len(labels))] if hashes is None else hashes,
        SCHEMA,
        minimum=minimum,
        max_white=max_white,
    )


def test_images_of_one_class_alone_are_taken() -> None:
    labels = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    tumor, stroma, normal = choose(labels, minimum=(1, 1, 1))
    assert tumor.rows.tolist() == [0, 4]
    assert stroma.rows.tolist() == [2]
    assert normal.rows.tolist() == [3]
    assert (tumor.single, tumor.fallback, tumor.notice) == (2, 0, None)


def test_a_label_with_an_unknown_does_not_stand_alone() -> None:
    labels = [[1, -1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    tumor, *_ = choose(labels, minimum=(1, 1, 1))
    assert tumor.rows.tolist() == [1]


def test_mostly_white_images_are_left_out_also_of_the_fallback() -> None:
    labels = [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]]
    tumor, *_ = choose(labels, white=[0.1, 0.61, 0.9, 0.6, 0], minimum=(3, 1, 1))
    assert tumor.rows.tolist() == [0]


def test_the_purest_images_fill_up_to_the_minimum() -> None:
    labels = [[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    tumor, *_ = choose(labels, minimum=(3, 1, 1))
    assert tumor.rows.tolist() == [1, 2, 3]
    assert (tumor.single, tumor.fallback) == (1, 2)
    assert tumor.notice is not None
    assert tumor.notice.startswith("tumor: ")


def test_a_class_that_never_stands_alone_is_taken_from_mixed_images() -> None:
    labels = [[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]
    tumor, *_ = choose(labels)
    assert tumor.rows.tolist() == [0, 1]
    assert (tumor.single, tumor.fallback) == (0, 2)


def test_ties_go_by_content_hash_whatever_the_order_of_images() -> None:
    labels = np.array([[1, 1, 0]] * 5 + [[0, 1, 0], [0, 0, 1]])
    hashes = list("edcbafg")
    first, *_ = choose(labels, hashes=hashes)
    shuffled = [3, 6, 0, 2, 5, 4, 1]
    again, *_ = choose(labels[shuffled], hashes=[hashes[row] for row in shuffled])
    assert [hashes[row] for row in first.rows] == ["a", "b"]
    assert [hashes[shuffled[row]] for row in again.rows] == ["a", "b"]


def test_a_class_without_any_image_is_an_error_that_names_it() -> None:
    with pytest.raises(BankError, match="normal: no image is labelled"):
        choose([[1, 0, 0], [0, 1, 0], [1, 1, -1]])


def test_a_class_of_glass_alone_is_an_error_that_says_so() -> None:
    with pytest.raises(BankError, match=r"normal: every image .*\(2\) is more than 60% white"):
        choose([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], white=[0, 0, 0.7, 0.9])
