"""Which images may become prototypes of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import BankError
from napari_protoseg.schema import ClassSchema, TissueClass

_PRESENT = 1
_ABSENT = 0


@dataclass(frozen=True)
class ClassCandidates:
    """The images to cluster for one class.

    Parameters
    ----------
    class_id
        Of the class.
    rows
        int64, their rows in the arrays given, in the order of their content hashes.
    single
        How many of them hold this class and no other.
    fallback
        How many may hold other classes too, taken since `single` was too few.
    notice
        A sentence that says so, or None where there was no need.
    """

    class_id: int
    rows: NDArray[np.int64]
    single: int
    fallback: int
    notice: str | None


def choose_candidates(
    labels: NDArray[np.int8],
    white: NDArray[np.floating],
    content_hashes: Sequence[str],
    schema: ClassSchema,
    *,
    minimum: Sequence[int],
    max_white: float,
) -> tuple[ClassCandidates, ...]:
    """Choose the candidates of each class of `schema`.

    A candidate holds the class alone, by a label without unknowns, and is not mostly white
    glass. Where these are fewer than the class's minimum, images whose label holds the class
    beside the fewest others (absence not known counts as another) fill up to it, ties broken
    by content hash.

    Parameters
    ----------
    labels
        int8 (n, classes): 1 present, 0 absent, -1 unknown.
    white
        (n,) white fraction of each image, 0..1.
    content_hashes
        (n,) hashes of the image files; they set the order, so that rows may come in any.
    schema
        The classes, in the order of the columns of `labels`.
    minimum
        For each class, how many candidates are enough.
    max_white
        An image with a larger white fraction is no candidate.

    Raises
    ------
    BankError
        A class has no candidate at all.
    """
    by_hash = np.argsort(np.asarray(content_hashes), kind="stable")
    usable = by_hash[white[by_hash] <= max_white]
    others = (labels != _ABSENT).sum(axis=1) - 1
    chosen = []
    for column, tissue in enumerate(schema.classes):
        holding = usable[labels[usable, column] == _PRESENT]
        if not len(holding):
            raise _no_candidate(tissue, int((labels[:, column] == _PRESENT).sum()), max_white)
        ranked = holding[np.argsort(others[holding], kind="stable")]
        single = int((others[holding] == 0).sum())
        taken = ranked[: max(single, minimum[column])]
        fallback = len(taken) - single
        chosen.append(
            ClassCandidates(
                class_id=tissue.id,
                rows=taken[np.argsort(np.asarray(content_hashes)[taken], kind="stable")],
                single=single,
                fallback=fallback,
                notice=_notice(tissue, single, fallback) if fallback else None,
            )
        )
    return tuple(chosen)


def _notice(tissue: TissueClass, single: int, fallback: int) -> str:
    return (
        f"{tissue.name}: images that are labelled with this class alone and are not mostly white: "
        f"{single}. That is too few, so {fallback} labelled with other classes too were taken."
    )


def _no_candidate(tissue: TissueClass, labelled: int, max_white: float) -> BankError:
    if labelled:
        return BankError(
            f"every image of this class ({labelled}) is more than {max_white:.0%} white glass",
            where=tissue.name,
            remedy="Allow a larger white fraction, or add images with more tissue.",
        )
    return BankError(
        "no image is labelled with this class",
        where=tissue.name,
        remedy="Label some images with it, or make the project without this class.",
    )
