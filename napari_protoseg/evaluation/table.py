"""An evaluation as plain text with columns of fixed width."""

from __future__ import annotations

from collections.abc import Sequence

from napari_protoseg.evaluation.scores import Evaluation, Scores

_ABSENT = "-"


def table(evaluation: Evaluation) -> str:
    """Render `evaluation` for a terminal: protocol, metrics, trivial predictions, confusion.

    A figure that does not exist, of a class absent in truth and prediction, is "-".
    """
    images = f"{evaluation.images} images"
    if evaluation.images < evaluation.images_in_all:
        images = f"stopped after {evaluation.images} of {evaluation.images_in_all} images"
    confusion = "True classes (rows) as predicted (columns), percent of each row"
    sections = [
        [f"Protocol: {evaluation.protocol_name}", images],
        aligned(_metrics(evaluation)),
        [confusion, "", *aligned(_confusion(evaluation.scores))],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _metrics(evaluation: Evaluation) -> list[list[str]]:
    scores, trivial = evaluation.scores, evaluation.trivial
    header = ["class", "true pixels", "IoU", "Dice", "boundary IoU"]
    header += [f"IoU, {entry.prediction.value}" for entry in trivial]
    ours = _rows(scores)
    columns = [[row[2] for row in _rows(entry.scores)] for entry in trivial]
    if evaluation.image_level_f1:
        header.append("image-level F1")
        f1 = [_text(figure) for figure in evaluation.image_level_f1]
        columns.append(f1 + [""] * (len(ours) - len(f1)))
    return [header] + [[*row, *cells] for row, *cells in zip(ours, *columns, strict=True)]


def _rows(scores: Scores) -> list[list[str]]:
    """Return name, pixels, IoU, Dice and boundary IoU of each class and of their means."""
    classes = [*scores.classes, *([scores.background] if scores.background else [])]
    rows = [
        [row.name, f"{row.truth_pixels:,}", *map(_text, (row.iou, row.dice, row.boundary_iou))]
        for row in classes
    ]
    means = map(_text, (scores.mean_iou, scores.mean_dice, scores.mean_boundary_iou))
    rows.append(["mean of classes", "", *means])
    if scores.background:
        rows.append(["mean with background", "", _text(scores.mean_iou_with_background), "", ""])
    rows.append(["weighted by frequency", "", _text(scores.frequency_weighted_iou), "", ""])
    rows.append(["pixel accuracy", "", _text(scores.pixel_accuracy), "", ""])
    return rows


def _confusion(scores: Scores) -> list[list[str]]:
    names = [row.name for row in scores.classes]
    rows = zip([*names, "background"], scores.confusion, strict=False)
    return [["", *names, "unlabelled"]] + [
        [name, *(f"{100 * count / sum(row):.1f}" if sum(row) else _ABSENT for count in row)]
        for name, row in rows
    ]


def _text(figure: float | None) -> str:
    return _ABSENT if figure is None else f"{figure:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Set the first column left and the others right, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
