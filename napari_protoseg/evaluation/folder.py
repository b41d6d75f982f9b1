"""Comparing a folder of predicted masks with a folder of true ones, one image at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from napari_protoseg.errors import EvaluationError, ImageError
from napari_protoseg.evaluation.image_level import image_level_f1
from napari_protoseg.evaluation.protocol import MaskCodes, Protocol, class_positions
from napari_protoseg.evaluation.scores import Counts, Evaluation, Scores, TrivialScores
from napari_protoseg.evaluation.trivial import TRIVIAL
from napari_protoseg.events import Job, Notice, Progress, Request, Severity
from napari_protoseg.images.flat_names import flat_name
from napari_protoseg.images.reading import read_mask
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import storage_errors


@dataclass(frozen=True)
class MaskPair:
    """A true mask and what was predicted for it.

    Parameters
    ----------
    name
        Path of both below their folders, with forward slashes and the suffix.
    truth, prediction
        Class positions of one shape; the number of classes is background or unlabelled.
    """

    name: str
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def evaluate_folder(
    predictions: Path,
    masks: Path,
    schema: ClassSchema,
    image_labels: Mapping[str, tuple[int, ...]] | None,
    protocol: Protocol,
) -> Job[Evaluation]:
    """Compare predicted with true masks of the same name; memory holds one image at a time.

    Parameters
    ----------
    predictions, masks
        Folders of indexed or grey PNGs, searched with their subfolders. Predictions have the
        paths of the masks, or their flat names. Those without a true mask are left out, which a
        notice says.
    schema
        The classes that both hold.
    image_labels
        For each mask, by its path below `masks` with forward slashes and the suffix, its true
        label: 1, 0 or -1 for each class. They make the trivial predictions; None: without.
    protocol
        The rules. Its `labels` are the caller's word on how the predictions came about.

    Returns
    -------
    The figures; when asked to stop, those of the images seen until then.

    Raises
    ------
    EvaluationError
        A prediction or label is missing, the sizes of a pair differ, a file cannot be read
        or holds an unknown value, or there are no masks.
    """
    names = mask_names(masks)
    if not names:
        raise EvaluationError("holds no PNG", where=masks, remedy="Give the folder of true masks.")
    paired = {prediction_of(predictions, name) for name in names}
    extra = sum(predictions / name not in paired for name in mask_names(predictions))
    if extra:
        yield Notice(f"{extra} predictions have no true mask; left out.", Severity.WARNING)
    classes, background = len(schema.classes), protocol.background
    kinds = () if image_labels is None else tuple(TRIVIAL)
    counts = Counts.none(classes, background)
    trivial = dict.fromkeys(kinds, counts)
    labels: list[tuple[int, ...]] = []
    held: list[NDArray[np.bool_]] = []
    contradicted = seen = 0
    while seen < len(names):
        if (yield Progress("Comparing masks", seen, len(names))) is Request.STOP:
            break
        pair = read_pair(predictions, masks, names[seen], schema, protocol)
        counts += Counts.of(pair.truth, pair.prediction, classes, background)
        if image_labels is not None:
            label = _label(image_labels, pair.name, classes)
            labels.append(label)
            held.append(np.isin(range(classes), pair.prediction))
            contradicted += bool(
                (np.isin(range(classes), pair.truth) & (np.array(label) == 0)).any()
            )
            for kind in kinds:
                guess = TRIVIAL[kind]((pair.truth.shape[0], pair.truth.shape[1]), label)
                trivial[kind] += Counts.of(pair.truth, guess, classes, background)
        seen += 1
    else:
        yield Progress("Comparing masks", seen, seen)
    if contradicted:
        yield Notice(
            f"{contradicted} of {seen} true masks hold a class that their image-level label "
            f"excludes: are they coded {protocol.mask_codes.value}, and the classes in order?",
            Severity.WARNING,
        )
    return Evaluation(
        protocol=protocol,
        protocol_name=protocol.name,
        images=seen,
        images_in_all=len(names),
        scores=Scores.of(counts, schema),
        trivial=tuple(
            TrivialScores(prediction=kind, scores=Scores.of(trivial[kind], schema))
            for kind in kinds
        ),
        image_level_f1=_f1(labels, held),
    )


def _f1(
    labels: Sequence[tuple[int, ...]], held: Sequence[NDArray[np.bool_]]
) -> tuple[float | None, ...]:
    """Return the F1 of each class that masks hold; empty where there are no labels."""
    if not labels:
        return ()
    figures = image_level_f1(np.array(labels), np.array(held, dtype=np.int8))
    return tuple(None if np.isnan(figure) else float(figure) for figure in figures)


def mask_names(folder: Path) -> list[str]:
    """List the PNGs of a folder and its subfolders, hidden ones left out, as sorted paths.

    Raises
    ------
    StorageError
        The folder is missing or cannot be read.
    """
    with storage_errors(folder):
        next(folder.iterdir(), None)
        paths = (path.relative_to(folder) for path in folder.rglob("*"))
        return sorted(
            path.as_posix()
            for path in paths
            if path.suffix.lower() == ".png" and not any(p.startswith(".") for p in path.parts)
        )


def prediction_of(predictions: Path, name: str) -> Path:
    """Return where the prediction for a mask is: in folders as that is, or under its flat name.

    Parameters
    ----------
    predictions
        Their folder.
    name
        Path of the mask below its own folder, with forward slashes and the suffix.
    """
    flat = predictions / f"{flat_name(PurePosixPath(name))}.png"
    nested = predictions / name
    return flat if flat.is_file() and not nested.is_file() else nested


def read_pair(
    predictions: Path, masks: Path, name: str, schema: ClassSchema, protocol: Protocol
) -> MaskPair:
    """Read a true mask and its prediction; parameters and errors as `evaluate_folder`."""
    path = prediction_of(predictions, name)
    if not path.is_file():
        raise EvaluationError(
            "no prediction for this mask",
            where=path,
            remedy="Predict every image that has a mask, or leave its mask out.",
        )
    truth = _read(masks / name, schema, protocol.mask_codes)
    prediction = _read(path, schema, protocol.prediction_codes)
    if truth.shape != prediction.shape:
        raise EvaluationError(
            f"{_size(prediction)} pixels, but the true mask has {_size(truth)}",
            where=path,
            remedy="Predict at the size of the true mask.",
        )
    return MaskPair(name, truth, prediction)


def _read(path: Path, schema: ClassSchema, codes: MaskCodes) -> NDArray[np.uint8]:
    try:
        mask = read_mask(path)
    except ImageError as error:
        raise EvaluationError(error.what, where=path, remedy=error.remedy) from error
    return class_positions(mask, schema, codes, where=path)


def _size(mask: NDArray[np.uint8]) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"


def _label(image_labels: Mapping[str, tuple[int, ...]], name: str, classes: int) -> tuple[int, ...]:
    label = image_labels.get(name)
    if label is None:
        raise EvaluationError(
            "no image-level label for this mask",
            where=name,
            remedy="Label every image that has a mask.",
        )
    if len(label) != classes:
        raise EvaluationError(
            f"a label of {len(label)} classes, not {classes}",
            where=name,
            remedy="Give one value for each class, in the order of the classes.",
        )
    return label
