"""The job that compares predicted with true masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from napari_protoseg.errors import EvaluationError
from napari_protoseg.evaluation.folder import evaluate_folder, mask_names
from napari_protoseg.evaluation.protocol import ImageLabels, Protocol
from napari_protoseg.evaluation.scores import Evaluation
from napari_protoseg.events import Job, Notice, Severity
from napari_protoseg.jobs.predict import PREDICTION_RECORD, PredictionRecord
from napari_protoseg.labels.brackets import bracket_labels
from napari_protoseg.labels.matching import match_rows
from napari_protoseg.labels.tables import read_table
from napari_protoseg.masks.recipe import LabelCondition
from napari_protoseg.schema import ClassSchema
from napari_protoseg.storage import read_whole, storage_errors

_MOST_BYTES = 2**24
_CONDITIONS = {
    LabelCondition.GIVEN: ImageLabels.GIVEN,
    LabelCondition.PREDICTED: ImageLabels.PREDICTED,
    LabelCondition.NONE: ImageLabels.NONE,
}


def evaluate_masks(
    predictions: Path,
    masks: Path,
    classes: Sequence[str],
    labels: Path | None,
    protocol: Protocol,
) -> Job[Evaluation]:
    """Compare masks under a protocol, beside the trivial predictions.

    Parameters
    ----------
    predictions, masks
        Folders. Where this program wrote the predictions, the record beside them decides which
        image-level labels they were allowed to use.
    classes
        Names of the classes, in order.
    labels
        Table of image-level labels; None to take them from the names of the masks, and to do
        without trivial predictions where there are none.
    protocol
        The rules.

    Raises
    ------
    EvaluationError, LabelError, SchemaError, StorageError
    """
    schema = ClassSchema.from_names(classes)
    record = _record_beside(predictions)
    if record is not None:
        protocol = protocol.model_copy(update={"labels": _CONDITIONS[record.recipe.labels]})
        schema = _with_ids_of(record.model.classes, schema, predictions / PREDICTION_RECORD)
    image_labels = _image_labels(masks, labels, schema)
    if image_labels is None:
        yield Notice(
            "No image-level labels: the trivial predictions are left out.", Severity.WARNING
        )
    return (yield from evaluate_folder(predictions, masks, schema, image_labels, protocol))


def _record_beside(predictions: Path) -> PredictionRecord | None:
    path = predictions / PREDICTION_RECORD
    with storage_errors(path):
        if not path.exists():
            return None
    content = read_whole(path, most=_MOST_BYTES)
    try:
        return PredictionRecord.model_validate_json(content)
    except ValidationError as error:
        raise EvaluationError(
            "not a record of this program's predictions",
            where=path,
            remedy="Predict again, or remove the file: ids are then 1, 2, ... in class order.",
        ) from error


def _with_ids_of(predicted: ClassSchema, schema: ClassSchema, where: Path) -> ClassSchema:
    """Return the classes of `schema`, in its order, with the ids that the predictions use."""
    positions = [predicted.position(name) for name in schema.names]
    if len(set(positions)) < len(positions):
        raise EvaluationError(
            f"two of the classes {', '.join(schema.names)} are one there, by a former name",
            where=where,
            remedy="Name each class once, as it is called now.",
        )
    return ClassSchema(classes=tuple(predicted.classes[position] for position in positions))


def _image_labels(
    masks: Path, labels: Path | None, schema: ClassSchema
) -> dict[str, tuple[int, ...]] | None:
    """Return the label of each mask, from a table or from brackets in its name."""
    names = mask_names(masks)
    paths = [masks / name for name in names]
    if labels is not None:
        table = read_table(labels, schema)
        rows = match_rows(labels, table.rows, masks, paths).by_image
        found = {path: row.label for path, row in rows.items()}
    else:
        found = bracket_labels(paths)
    return {path.relative_to(masks).as_posix(): label for path, label in found.items()} or None
