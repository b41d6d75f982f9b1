"""Tables of what `accuracy.py` measured: mean and spread over seeds, intervals over images.

Of the ways from class maps to masks, predictions whose classes compete for pixels are shown with
their own, softmax, and what they are compared with with the best one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from configurations import CONFIGURATIONS
from numpy.typing import NDArray
from tissue import TISSUES, Tissue

from napari_protoseg.evaluation.bootstrap import bootstrap_interval
from napari_protoseg.evaluation.confusion import iou

TRIVIAL = ("trivial, split evenly", "trivial, last-named class")
BASELINE, REFERENCE = "plain CAM", "reference, re-encoding"
OURS, SECOND, BOUND = "ours", "second stage", "fully supervised"
RULES = ("given labels", "predicted labels")
"""What the headlines, the gains and the bars are of."""
NO_LABELS = "none labels"
TITLES = {**{rule: rule.capitalize() for rule in RULES}, NO_LABELS: "No labels"}
"""Of the tables of a tissue, each for the rule about labels that it shows."""
MAPS = ("softmax", "min-max", "released")
"""Ways from class maps to masks, the last one that of the released code."""
_BARS = ((BASELINE, 0.03, 1 / 2), (REFERENCE, 0.08, 3 / 4))
"""By how much ours is to be better than a prediction: the smaller of an amount of mean IoU and a
part of what that prediction lacks to full supervision."""

Runs = dict[str, list[dict[str, Any]]]
"""The runs of each configuration, one for each seed."""


def write_report(results: Path, document: Path) -> None:
    """Set the tables of each tissue between its marks in `document`, which is Markdown.

    A table stands between the lines ``<!-- measured: NAME -->`` and ``<!-- end -->``.
    """
    text = document.read_text()
    tables = {name: _tables(tissue, _read(results / name)) for name, tissue in TISSUES.items()}
    others = {"folds": _fold_tables(results), "summary": _summary(results)}
    for name, parts in (tables | others).items():
        before, mark, rest = text.partition(f"<!-- measured: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if parts and end:
            text = "".join([before, mark, "\n\n".join(parts), "\n", end, after])
    document.write_text(text)


def _summary(results: Path) -> list[str]:
    """Return the headline of what matters most, on all tissues side by side."""
    runs = {name: _read(results / name) for name in TISSUES}
    measured = [name for name in TISSUES if runs[name]]
    rows = []
    for prediction in (*TRIVIAL, BASELINE, REFERENCE, OURS, SECOND, BOUND):
        row = [f"**{prediction}**" if prediction == OURS else prediction]
        for tissue in measured:
            for labels in RULES:
                figure = _headline(TISSUES[tissue], prediction, runs[tissue], labels)
                row.append("" if figure is None else f"{figure:.3f}")
        rows.append(row)
    titles = [f"{tissue}, {labels.split()[0]}" for tissue in measured for labels in RULES]
    return [_markdown(["Mean IoU", *titles], rows)] if measured else []


def _fold_tables(results: Path) -> list[str]:
    """Return how far each second stage lies above its teacher on folds of the training images.

    Runs that were made elsewhere stand in folders of that name (``lung, fold 0, GPU``).
    """
    gains: dict[str, dict[str, str]] = {}
    folds = []
    for folder in sorted(results.glob("*, fold *")):
        tissue, fold, *where = folder.name.split(", ")
        runs = _read(folder)
        for name in runs:
            gain = _gain(TISSUES[tissue], runs, name, OURS, RULES[1])
            if name.startswith(SECOND) and gain is not None:
                row = ", ".join([name, *where])
                gains.setdefault(row, {})[f"{tissue}, {fold}"] = f"{gain[0]:+.3f}"
                folds.append(f"{tissue}, {fold}")
    tissues = list(TISSUES)
    titles = sorted(set(folds), key=lambda title: (tissues.index(title.split(", ")[0]), title))
    rows = [[name, *(of_each.get(key, "") for key in titles)] for name, of_each in gains.items()]
    return [_markdown(["Less its teacher, predicted labels", *titles], rows)] if rows else []


def _read(folder: Path) -> Runs:
    runs: Runs = {}
    order = (*_FIRST, *sorted({_name(file) for file in folder.glob("*.json")} - set(_FIRST)))
    for file in sorted(folder.glob("*.json"), key=lambda file: (order.index(_name(file)), file)):
        runs.setdefault(_name(file), []).append(json.loads(file.read_text()))
    return runs


def _name(file: Path) -> str:
    return file.stem.split(", seed ")[0]


_FIRST = (
    *TRIVIAL,
    "frozen evidence",
    BASELINE,
    REFERENCE,
    "reference, dense matching",
    "quick",
    OURS,
    SECOND,
    BOUND,
)
"""Predictions in the order in which they are read; ablations, which the table without labels
leaves out, follow."""


def _tables(tissue: Tissue, runs: Runs) -> list[str]:
    """Return a table for each rule about labels, and one of what is to be reached."""
    if not runs:
        return []
    mean = f"mean of {', '.join(tissue.quoted)}" if tissue.quoted != tissue.classes else "mean"
    tables = []
    for labels, title in TITLES.items():
        titles = [
            title,
            "seeds",
            *tissue.classes,
            mean,
            "95 % of images",
            f"over {BASELINE}",
            "background counted",
        ]
        rows = [
            _row(tissue, name, labels, runs)
            for name in runs
            if _rule(tissue, name, runs, labels) is not None
            and (labels != NO_LABELS or name in _FIRST)
        ]
        if rows:
            tables.append(_markdown(titles, rows))
    f1 = [[name, *_f1(seeds)] for name, seeds in runs.items() if "image-level F1" in seeds[0]]
    tables.append(_markdown(["Image-level F1", *tissue.classes], f1))
    bars = [row for bar in _BARS if (row := _bar(tissue, runs, *bar)) is not None]
    if bars:
        titles = ["Ours, given labels, is over", "by", "95 % of images", "to be reached"]
        tables.append(_markdown(titles, bars))
    second = [
        _over(other, gain)
        for other in (OURS, BASELINE)
        if (gain := _gain(tissue, runs, SECOND, other, RULES[1])) is not None
    ]
    if second:
        titles = ["Second stage, predicted labels, is over", "by", "95 % of images"]
        tables.append(_markdown(titles, second))
    return tables


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(tissue: Tissue, name: str, labels: str, runs: Runs) -> list[str]:
    rule = _rule(tissue, name, runs, labels)
    assert rule is not None
    cases, stacks = _stacks(runs[name], rule)
    per_seed = np.array([_mean(tissue, stack.sum(0)) for stack in stacks])
    spread = f" ± {np.std(per_seed, ddof=1):.3f}" if len(stacks) > 1 else ""
    classes = np.mean([iou(_ignoring(stack.sum(0))) for stack in stacks], axis=0)
    low, high = bootstrap_interval(
        np.concatenate(stacks, axis=1),
        cases,
        lambda drawn: _mean_of_seeds(tissue, drawn, len(stacks)),
        seed=0,
    )
    counted = np.mean([iou(stack.sum(0))[_quoted(tissue)].mean() for stack in stacks])
    gain = None if name == BASELINE else _gain(tissue, runs, name, BASELINE, labels)
    return [
        f"**{name}**" if name == OURS else name,
        str(len(stacks)),
        *(f"{value:.3f}" for value in classes),
        f"**{per_seed.mean():.3f}**{spread}",
        f"{low:.3f} to {high:.3f}",
        "" if gain is None else f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})",
        f"{counted:.3f}",
    ]


def _f1(seeds: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{value:.2f}" for value in np.mean([run["image-level F1"] for run in seeds], axis=0)]


def _bar(tissue: Tissue, runs: Runs, other: str, amount: float, part: float) -> list[str] | None:
    """Return what ours has over a prediction with given labels, and what it is to have."""
    gain = _gain(tissue, runs, OURS, other, RULES[0])
    bound, lower = (_headline(tissue, name, runs, RULES[0]) for name in (BOUND, other))
    if gain is None or bound is None or lower is None:
        return None
    least = min(amount, part * (bound - lower))
    return [
        *_over(other, gain),
        f"{least:.3f}, {'reached' if gain[0] >= least and gain[1] > 0 else 'not reached'}",
    ]


def _over(other: str, gain: tuple[float, float, float]) -> list[str]:
    return [other, f"{gain[0]:+.3f}", f"{gain[1]:+.3f} to {gain[2]:+.3f}"]


def _gain(
    tissue: Tissue, runs: Runs, name: str, other: str, labels: str
) -> tuple[float, float, float] | None:
    """Return how far a prediction lies above another, and the paired interval over images.

    Seeds are pooled, and each prediction is taken as it is shown. None where one of them was not
    measured.
    """
    if name not in runs or other not in runs:
        return None
    rules = [_rule(tissue, each, runs, labels) for each in (name, other)]
    if rules[0] is None or rules[1] is None:
        return None
    cases, own = _stacks(runs[name], rules[0])
    other_cases, others = _stacks(runs[other], rules[1])
    if cases != other_cases:
        raise ValueError(f"{name} and {other} were measured on different images")
    both = np.concatenate([*own, *others], axis=1)

    def gain(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = own.shape[2] * len(own)
        return _mean_of_seeds(tissue, drawn[..., :rows, :], len(own)) - _mean_of_seeds(
            tissue, drawn[..., rows:, :], len(others)
        )

    low, high = bootstrap_interval(both, cases, gain, seed=0)
    return float(gain(both.sum(0).astype(float))), low, high


def _rule(tissue: Tissue, name: str, runs: Runs, labels: str) -> str | None:
    """Return under which rule a prediction is shown; None where not all seeds have one."""
    shown = MAPS[:1] if _shares_pixels(name) else MAPS
    rules = [f"{labels}, {how}" for how in shown]
    there = [rule for rule in rules if all(rule in run["matrices"] for run in runs[name])]
    return max(there, key=lambda rule: _figure(tissue, runs[name], rule), default=None)


def _shares_pixels(name: str) -> bool:
    """Tell whether classes compete for pixels, so that softmax is the way to the masks."""
    configuration = CONFIGURATIONS.get(name)
    if configuration is None:
        return name == BOUND or name.startswith(SECOND)
    return configuration.config.competing


def _headline(tissue: Tissue, name: str, runs: Runs, labels: str) -> float | None:
    """Return the mean IoU of a prediction; None where it was not measured by that rule."""
    rule = _rule(tissue, name, runs, labels) if name in runs else None
    return None if rule is None else _figure(tissue, runs[name], rule)


def _figure(tissue: Tissue, seeds: Sequence[dict[str, Any]], rule: str) -> float:
    return float(np.mean([_mean(tissue, stack.sum(0)) for stack in _stacks(seeds, rule)[1]]))


def _stacks(seeds: Sequence[dict[str, Any]], rule: str) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the images, and matrices ``(seeds, images, C + 1, C + 1)``."""
    cases = sorted(seeds[0]["matrices"][rule])
    stacks = [[run["matrices"][rule][case] for case in cases] for run in seeds]
    return cases, np.array(stacks, dtype=np.int64)


def _mean_of_seeds(
    tissue: Tissue, matrices: NDArray[np.floating], seeds: int
) -> NDArray[np.float64]:
    """Average the headline over seeds whose matrices lie one below the other."""
    parts = np.split(matrices, seeds, axis=-2)
    return np.asarray(np.mean([_mean(tissue, part) for part in parts], axis=0))


def _mean(tissue: Tissue, matrices: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the headline: the mean IoU of the quoted classes, background ignored."""
    return np.asarray(iou(_ignoring(matrices))[..., _quoted(tissue)].mean(-1))


def _ignoring(matrices: NDArray[np.number]) -> NDArray[np.number]:
    return matrices[..., :-1, :]


def _quoted(tissue: Tissue) -> list[int]:
    return [tissue.classes.index(name) for name in tissue.quoted]
