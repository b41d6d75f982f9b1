"""Tables of what `accuracy.py` measured: mean and spread over seeds, intervals over images.

Of the two ways to make maps of different classes comparable, each row shows the better one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tissue import TISSUES, Tissue

from napari_protoseg.evaluation.bootstrap import bootstrap_interval
from napari_protoseg.evaluation.confusion import iou

BASELINE = "plain CAM"
RULES = ("given labels", "predicted labels")
NORMALISATIONS = ("softmax", "min-max")

Runs = dict[str, list[dict[str, Any]]]
"""The runs of each configuration, one for each seed."""


def report(folder: Path) -> str:
    """Return the tables of all tissues that have results in `folder`, as Markdown."""
    parts = []
    for results in sorted(folder.iterdir()):
        tissue = TISSUES[results.name.split(", fold ")[0]]
        runs = _read(results)
        if runs:
            parts.append(f"## {results.name.capitalize()}\n\n{_table(tissue, runs)}")
    return "\n\n".join(parts)


def _read(folder: Path) -> Runs:
    runs: Runs = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime):
        name = file.stem.split(", seed ")[0]
        runs.setdefault(name, []).append(json.loads(file.read_text()))
    return runs


def _table(tissue: Tissue, runs: Runs) -> str:
    lines = [
        "| prediction | rule | seeds | "
        + " | ".join(tissue.classes)
        + f" | mean of {', '.join(tissue.quoted)} | 95 % of images | over {BASELINE} |"
        " background counted | image-level F1 |",
        "|---" * (len(tissue.classes) + 8) + "|",
    ]
    for name, seeds in runs.items():
        for labels in RULES:
            rules = [f"{labels}, {how}" for how in NORMALISATIONS]
            there = [r for r in rules if all(r in run["matrices"] for run in seeds)]
            if there:
                better = max(there, key=lambda rule: _headline(tissue, runs[name], rule))
                lines.append(_row(tissue, name, better, runs))
    return "\n".join(lines)


def _row(tissue: Tissue, name: str, rule: str, runs: Runs) -> str:
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
    f1 = [run["image-level F1"] for run in runs[name] if "image-level F1" in run]
    cells = [
        name,
        rule,
        str(len(stacks)),
        *(f"{value:.3f}" for value in classes),
        f"**{per_seed.mean():.3f}**{spread}",
        f"{low:.3f} to {high:.3f}",
        _difference(tissue, name, rule, runs),
        f"{counted:.3f}",
        " ".join(f"{value:.2f}" for value in np.mean(f1, axis=0)) if f1 else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _difference(tissue: Tissue, name: str, rule: str, runs: Runs) -> str:
    """Say how far a configuration lies above the plain CAM, by that one's better normalisation."""
    labels = rule.split(", ")[0]
    rules = [f"{labels}, {how}" for how in NORMALISATIONS]
    if (
        name == BASELINE
        or BASELINE not in runs
        or not all(each in runs[BASELINE][0]["matrices"] for each in rules)
    ):
        return ""
    better = max(rules, key=lambda each: _headline(tissue, runs[BASELINE], each))
    cases, baseline = _stacks(runs[BASELINE], better)
    own_cases, own = _stacks(runs[name], rule)
    if own_cases != cases:
        return ""
    seeds = len(own), len(baseline)
    both = np.concatenate([*own, *baseline], axis=1)

    def gain(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = own.shape[2] * seeds[0]
        return _mean_of_seeds(tissue, drawn[..., :rows, :], seeds[0]) - _mean_of_seeds(
            tissue, drawn[..., rows:, :], seeds[1]
        )

    low, high = bootstrap_interval(both, cases, gain, seed=0)
    return f"{float(gain(both.sum(0).astype(float))):+.3f} ({low:+.3f} to {high:+.3f})"


def _headline(tissue: Tissue, seeds: Sequence[dict[str, Any]], rule: str) -> float:
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
