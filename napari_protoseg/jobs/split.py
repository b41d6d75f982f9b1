"""Cases in training and in what the best epoch is chosen by: whole ones are held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.project.records import ImageRecord

_FEWEST_CASES = 3


def case_of(image: ImageRecord) -> str:
    """Return the case of an image; one without is its own."""
    return image.case if image.case is not None else image.content_hash


def cases_on_both_sides(one: Sequence[ImageRecord], other: Sequence[ImageRecord]) -> list[str]:
    """Return the cases, sorted, that have images in both of two sets."""
    known = {image.case for image in one if image.case is not None}
    return sorted(known & {image.case for image in other if image.case is not None})


def hold_out_cases(
    images: Sequence[ImageRecord], share: float, seed: int
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Split images into those to train on and those held out, never through a case.

    Parameters
    ----------
    images
        To be split.
    share
        Of the images to hold out, at most: 0..1.
    seed
        Of the choice, which does not depend on the order of `images`.

    Returns
    -------
    training, held_out : list of ImageRecord
        Nothing is held out where there are fewer than three cases. A case whose absence would
        leave a class without any image that holds it is never held out.
    """
    by_case: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in images:
        by_case[case_of(image)].append(image)
    if len(by_case) < _FEWEST_CASES or share == 0:
        return list(images), []
    held: set[str] = set()
    number_held = 0
    remaining = _present_counts(images)
    for case in np.random.default_rng(seed).permutation(sorted(by_case)):
        own = _present_counts(by_case[case])
        leaves_none = ((remaining == own) & (own > 0)).any()
        if not leaves_none and number_held + len(by_case[case]) <= share * len(images):
            held.add(str(case))
            number_held += len(by_case[case])
            remaining = remaining - own
    training = [i for i in images if case_of(i) not in held]
    return training, [i for i in images if case_of(i) in held]


def _present_counts(images: Sequence[ImageRecord]) -> NDArray[np.intp]:
    """Count the images that hold each class."""
    counts: NDArray[np.intp] = (np.array([image.label for image in images]) == 1).sum(0)
    return counts
