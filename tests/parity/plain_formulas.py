"""The method's formulas once more, as plain loops in NumPy: nothing of the package is used here.

``python plain_formulas.py`` writes the reference vectors that lie beside this file. Derivatives
are taken along the imaginary axis: the loss is analytic in the maps once masks and the places of
minima and maxima are fixed, so Im f(x + ih) / h is exact to rounding (complex step).
"""

from __future__ import annotations

import cmath
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

TEMPERATURE = 0.07
TINY_IMAGE = 1e-8
TINY_MAP = 1e-6


def class_of_prototype(counts: Any) -> list[int]:
    return [c for c, k in enumerate(counts) for _ in range(int(k))]


def mean_of_class(values: Any, counts: Any) -> Any:
    owner = class_of_prototype(counts)
    out = np.zeros((values.shape[0], len(counts), *values.shape[2:]))
    for b in range(values.shape[0]):
        for c in range(len(counts)):
            own = [values[b, p] for p in range(len(owner)) if owner[p] == c]
            out[b, c] = sum(own) / len(own)
    return out


def soft_maximum_of_class(values: Any, counts: Any) -> Any:
    owner = class_of_prototype(counts)
    out = np.zeros((values.shape[0], len(counts), *values.shape[2:]))
    for b in range(values.shape[0]):
        for c in range(len(counts)):
            own = [values[b, p] for p in range(len(owner)) if owner[p] == c]
            total = sum(np.exp(v) for v in own)
            out[b, c] = sum(np.exp(v) / total * v for v in own)
    return out


def expanded(labels: Any, counts: Any) -> Any:
    owner = class_of_prototype(counts)
    return np.array([[labels[b, c] for c in owner] for b in range(len(labels))], dtype=float)


def selection(logits: Any, labels: Any, counts: Any) -> Any:
    owner = class_of_prototype(counts)
    out = np.zeros(logits.shape)
    for b in range(len(logits)):
        for p, c in enumerate(owner):
            siblings = [logits[b, q] for q in range(len(owner)) if owner[q] == c]
            # A mean of one number is that number: a lone prototype is never above it.
            above = logits[b, p] > sum(siblings) / len(siblings)
            out[b, p] = 1.0 if above and labels[b, c] > 0 else 0.0
    return out


def half_of_image_maximum(maps: Any) -> Any:
    out = np.zeros(maps.shape)
    for b in range(len(maps)):
        out[b] = maps[b].real >= 0.5 * maps[b].real.max()
    return out


def enlarge(plane: Any, height: int, width: int) -> Any:
    """Interpolate linearly in both directions, with the corners of both grids in one place."""
    h, w = plane.shape
    out = np.zeros((height, width), dtype=plane.dtype)
    for i in range(height):
        for j in range(width):
            y, x = i * (h - 1) / (height - 1), j * (w - 1) / (width - 1)
            y0, x0 = min(int(y), h - 2), min(int(x), w - 2)
            t, s = y - y0, x - x0
            out[i, j] = (
                plane[y0, x0] * (1 - t) * (1 - s)
                + plane[y0, x0 + 1] * (1 - t) * s
                + plane[y0 + 1, x0] * t * (1 - s)
                + plane[y0 + 1, x0 + 1] * t * s
            )
    return out


def stretch(plane: Any) -> Any:
    low = plane.flat[int(np.argmin(plane.real))]
    high = plane.flat[int(np.argmax(plane.real))]
    return (plane - low) / (high - low + TINY_IMAGE)


def pair_features(
    image: Any, maps_of_image: Any, prototype: int, encoder_weight: Any
) -> tuple[Any, Any, float]:
    """Features of foreground and background of one pair, and the pixels of its foreground."""
    _, height, width = image.shape
    planes = np.stack([enlarge(m, height, width) for m in maps_of_image])
    mask = half_of_image_maximum(planes[None])[0, prototype]
    weight = planes[prototype]
    foreground = np.stack([stretch(weight * channel) * mask for channel in image])
    background = np.stack([stretch((1 - weight) * channel) * (1 - mask) for channel in image])
    return (
        encoder_weight @ foreground.reshape(-1),
        encoder_weight @ background.reshape(-1),
        float(mask.sum()),
    )


def cosine(a: Any, b: Any) -> Any:
    """Cosine of two vectors; analytic, so without conjugation where they are complex."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norm_a = cmath.sqrt(sum(x * x for x in a))
    norm_b = cmath.sqrt(sum(y * y for y in b))
    # The feature of an empty mask is zero, and like nothing.
    return dot / (norm_a * norm_b) if norm_a and norm_b else 0j


def losses(foregrounds: Any, backgrounds: Any, own: list[int], prototypes: Any) -> tuple[Any, Any]:
    near_own, near_all, far_others, far_all = 0j, 0j, 0j, 0j
    for f, b, i in zip(foregrounds, backgrounds, own, strict=True):
        e_f = [cmath.exp(cosine(f, p) / TEMPERATURE) for p in prototypes]
        e_b = [cmath.exp(cosine(b, p) / TEMPERATURE) for p in prototypes]
        others = [e for j, e in enumerate(e_b) if j != i]
        mean = sum(others) / len(others)
        near_own += e_f[i]
        near_all += e_f[i] + sum(e for j, e in enumerate(e_f) if j != i)
        far_others += mean
        far_all += mean + e_b[i]
    return -cmath.log(near_own / near_all), -cmath.log(far_others / far_all)


def matching(given: Any, selected: Any, maps: Any) -> tuple[Any, ...]:
    pairs = [(b, p) for b in range(len(maps)) for p in range(maps.shape[1]) if selected[b, p]]
    rows = [pair_features(given["image"][b], maps[b], p, given["encoder_weight"]) for b, p in pairs]
    foregrounds, backgrounds, pixels = zip(*rows, strict=True)
    both = losses(foregrounds, backgrounds, [p for _, p in pairs], given["prototypes"])
    return np.stack(foregrounds), np.stack(backgrounds), np.array(pixels), *both


def gradient(given: Any, selected: Any) -> Any:
    maps, step = given["cams"], 1e-30
    out = np.zeros(maps.shape)
    for place in np.ndindex(*maps.shape):
        moved = maps.astype(complex)
        moved[place] += 1j * step
        *_, foreground, background = matching(given, selected, moved)
        out[place] = (foreground + background).imag / step
    return out


def fused_maps(given: Any, size: int) -> Any:
    counts, labels = given["k_list"], given["image_labels"]
    out = np.zeros((len(labels), len(counts), size, size))
    for number, weight in ((2, 0.3), (3, 0.3), (4, 0.4)):
        merged = soft_maximum_of_class(given[f"stage_cam_{number}"], counts)
        for b in range(len(labels)):
            for c in range(len(counts)):
                positive = np.maximum(merged[b, c], 0)
                low, high = positive.min(), positive.max()
                scaled = (positive - low) / (high - low + TINY_MAP) * labels[b, c]
                out[b, c] += weight * enlarge(scaled, size, size)
    return out


def overlaps(truth: Any, mask: Any, classes: int) -> tuple[list[float], list[float]]:
    """IoU and Dice of each class and, as the last one, of background."""
    iou, dice = [], []
    for c in range(classes + 1):
        hits = int(((truth == c) & (mask == c)).sum())
        true, predicted = int((truth == c).sum()), int((mask == c).sum())
        iou.append(hits / (true + predicted - hits))
        dice.append(2 * hits / (true + predicted))
    return iou, dice


def clusters(rows: Any, first: Any) -> tuple[Any, Any]:
    unit = np.array([r / math.sqrt(sum(x * x for x in r)) for r in rows])
    centres = unit[first].copy()
    for _ in range(100):
        labels = [int(np.argmax([sum(u * c) for c in centres])) for u in unit]
        moved = centres.copy()
        for k in range(len(centres)):
            own = [u for u, label in zip(unit, labels, strict=True) if label == k]
            if own:
                mean = sum(own) / len(own)
                moved[k] = mean / math.sqrt(sum(x * x for x in mean))
        settled = np.allclose(moved, centres)
        centres = moved
        if settled:
            break
    labels = [int(np.argmax([sum(u * c) for c in centres])) for u in unit]
    return np.array(labels), centres


def schedule() -> list[float]:
    warm = [5e-5 * (1 - (1 - i / 2) * (1 - 1e-6)) for i in range(2)]
    return warm + [5e-5 * (1 - (i - 2) / 10) for i in range(2, 10)]


def outputs(given: Any, size: int) -> dict[str, Any]:
    """Every output but the gradient, which takes a minute."""
    counts, labels = given["k_list"], given["image_labels"]
    selected = selection(given["logits"], labels, counts)
    foreground, background, pixels, loss_fg, loss_bg = matching(given, selected, given["cams"])
    fused = fused_maps(given, size)
    mask = fused.argmax(1)
    iou, dice = overlaps(given["ground_truth"], mask, len(counts))
    assignment, centres = clusters(given["cluster_input"], given["cluster_init_rows"])
    return {
        "merged_logits_mean": mean_of_class(given["logits"], counts),
        "merged_cams_mean": mean_of_class(given["cams"], counts),
        "merged_logits_max": soft_maximum_of_class(given["logits"], counts),
        "merged_cams_max": soft_maximum_of_class(given["cams"], counts),
        "expanded_labels": expanded(labels, counts),
        "selected": selected,
        "adaptive_mask_half": half_of_image_maximum(given["cams"]),
        "fg_features": foreground.real,
        "bg_features": background.real,
        "fg_pixels": pixels,
        "loss_fg": loss_fg.real,
        "loss_bg": loss_bg.real,
        "fused": fused.astype(np.float32),
        "pseudo_mask": mask,
        "iou_background_counts": np.array(iou),
        "dice_background_counts": np.array(dice),
        "cluster_labels": assignment,
        "cluster_centers": centres,
        "lr_warmup2_max10": np.array(schedule()),
    }


def inputs(counts: list[int], images: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    prototypes, width, side, large = sum(counts), 6, 5, 10
    classes = len(counts)
    labels = np.ones((images, classes))
    labels[0, 0] = labels[1, -1] = 0
    return {
        "k_list": np.array(counts),
        "image_labels": labels,
        "logits": random.normal(size=(images, prototypes)),
        "cams": random.normal(size=(images, prototypes, side, side)),
        "prototypes": random.normal(size=(prototypes, width)),
        "image": random.random((images, 3, large, large)),
        "encoder_weight": random.normal(size=(width, 3 * large * large)) / large,
        "stage_cam_2": random.normal(size=(images, prototypes, 2 * side, 2 * side)),
        "stage_cam_3": random.normal(size=(images, prototypes, side, side)),
        "stage_cam_4": random.normal(size=(images, prototypes, side, side)),
        "ground_truth": random.integers(0, classes + 1, (images, 16, 16)),
        "cluster_input": random.normal(size=(24, width)),
        "cluster_init_rows": random.choice(24, 3, replace=False),
    }


def write(folder: Path) -> None:
    for name, counts, images, seed in (("alike", [2, 2], 3, 1), ("unlike", [1, 2, 3], 2, 2)):
        given = inputs(counts, images, seed)
        computed = outputs(given, 16)
        computed["grad_cams"] = gradient(given, computed["selected"])
        np.savez_compressed(folder / f"{name}.npz", **given, **computed)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
