"""Recompute files of reference values with this package's functions, and compare every key.

``python benchmarks/check_parity.py FILE...`` prints the largest difference of each key, relative
to the largest reference value. It ends with 0 where all agree, 1 where one does not, and 2 where a
file is not one of reference values. Labels, masks and counts must agree exactly.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_protoseg.bank.clustering import cosine_kmeans
from napari_protoseg.evaluation.confusion import confusion_matrix, dice, iou
from napari_protoseg.evaluation.protocol import Background
from napari_protoseg.masks.class_maps import fuse, stage_class_maps
from napari_protoseg.masks.recipe import REFERENCE
from napari_protoseg.network.matching import half_maximum_mask, reencode, reference_losses
from napari_protoseg.network.reduction import (
    Merge,
    expand_labels,
    merge_prototypes,
    select_prototypes,
)
from napari_protoseg.training.config import PRESETS, Preset
from napari_protoseg.training.schedule import poly_factor

TOLERANCE = 1e-6
"""Largest difference, relative to the largest reference value of a key."""

# A letter stands for one length in all inputs: B images, N classes, P prototypes, d features.
_INPUTS = {
    "k_list": "N",
    "image_labels": "BN",
    "logits": "BP",
    "cams": "BPhw",
    "prototypes": "Pd",
    "image": "B3HW",
    "encoder_weight": "dE",
    "stage_cam_2": "BPuv",
    "stage_cam_3": "BPhw",
    "stage_cam_4": "BPhw",
    "ground_truth": "BYX",
    "cluster_input": "nc",
    "cluster_init_rows": "k",
}
_INTEGERS = frozenset({"k_list", "ground_truth", "cluster_init_rows"})
_EXACT = frozenset(
    {
        "expanded_labels",
        "selected",
        "adaptive_mask_half",
        "fg_pixels",
        "pseudo_mask",
        "cluster_labels",
    }
)
_OUTPUTS = _EXACT | {
    "merged_logits_mean",
    "merged_cams_mean",
    "merged_logits_max",
    "merged_cams_max",
    "fg_features",
    "bg_features",
    "loss_fg",
    "loss_bg",
    "grad_cams",
    "fused",
    "iou_background_counts",
    "dice_background_counts",
    "cluster_centers",
    "lr_warmup2_max10",
}
_WARMUP, _STEPS = 2, 10

Arrays = Mapping[str, NDArray[np.number]]


class BadFileError(Exception):
    """A file does not hold reference values."""


@dataclass(frozen=True)
class Difference:
    """How far a recomputed output lies from its reference value.

    Parameters
    ----------
    key
        Name of the output.
    relative
        Largest absolute difference over the largest absolute reference value; infinite where
        the shapes differ or a value is not finite.
    agrees
        Whether that is within tolerance; for labels, masks and counts, whether it is 0.
    """

    key: str
    relative: float
    agrees: bool


def read_reference(path: Path) -> dict[str, NDArray[np.number]]:
    """Read a file of reference values.

    Raises
    ------
    BadFileError
        It cannot be read, or its arrays are not those that belong in it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFileError("cannot be read as an .npz file of plain arrays") from error
    wanted = set(_INPUTS) | _OUTPUTS
    for problem, keys in (
        ("is missing", wanted - set(arrays)),
        ("is unknown", set(arrays) - wanted),
        ("is not numeric", {k for k, v in arrays.items() if v.dtype.kind not in "iuf"}),
    ):
        if keys:
            raise BadFileError(f"{', '.join(sorted(keys))} {problem}")
    _check_inputs(arrays)
    return arrays


def recompute(arrays: Arrays) -> dict[str, NDArray[np.number]]:
    """Compute every output of a file from its inputs, as `read_reference` returns them."""
    given = {
        key: torch.from_numpy(arrays[key].astype(np.int64 if key in _INTEGERS else np.float64))
        for key in _INPUTS
    }
    size = arrays["fused"].shape[2:]
    prototypes = _prototype_outputs(given) | _matching_outputs(given, arrays["selected"])
    results: dict[str, NDArray[np.number]] = {
        key: tensor.detach().numpy()
        for key, tensor in (prototypes | _mask_outputs(given, (size[0], size[1]))).items()
    }
    matrix = confusion_matrix(
        given["ground_truth"].numpy(),
        results["pseudo_mask"].astype(np.int64),
        len(given["k_list"]),
        Background.COUNT,
    )
    rows = given["cluster_input"].numpy()
    groups = cosine_kmeans(rows, rows[given["cluster_init_rows"].numpy()])
    factors = [poly_factor(step, _STEPS, _WARMUP) for step in range(_STEPS)]
    return results | {
        "iou_background_counts": iou(matrix),
        "dice_background_counts": dice(matrix),
        "cluster_labels": groups.assignment,
        "cluster_centers": groups.centres,
        "lr_warmup2_max10": PRESETS[Preset.PAPER].backbone_rate * np.array(factors),
    }


def differences(arrays: Arrays) -> list[Difference]:
    """Compare every recomputed output of a file with its reference value."""
    return [_difference(key, ours, arrays[key]) for key, ours in recompute(arrays).items()]


def main(paths: list[str]) -> int:
    """Check the files, print what comes out, and return the exit code."""
    if not paths:
        print("usage: check_parity.py FILE...", file=sys.stderr)
        return 2
    code = 0
    for path in paths:
        try:
            results = differences(read_reference(Path(path)))
        except BadFileError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        print(path)
        for result in results:
            verdict = "ok" if result.agrees else "DIFFERS"
            print(f"  {result.key:24} {result.relative:9.2e}  {verdict}")
            code = code if result.agrees else 1
    return code


def _prototype_outputs(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From values of prototypes to values of classes, and which prototypes are selected."""
    positions, classes = _positions(given), len(given["k_list"])
    labels = given["image_labels"]
    merged = {
        f"merged_{key}_{name}": merge_prototypes(given[key], positions, classes, how)
        for name, how in (("mean", Merge.MEAN), ("max", Merge.SOFTMAX))
        for key in ("logits", "cams")
    }
    return merged | {
        "expanded_labels": expand_labels(labels, positions),
        "selected": select_prototypes(given["logits"], labels > 0, positions, strict=True),
        "adaptive_mask_half": half_maximum_mask(given["cams"], over_all=True),
    }


def _matching_outputs(
    given: Mapping[str, Tensor], reference_selected: NDArray[np.number]
) -> dict[str, Tensor]:
    """Features of the selected pairs, both losses, and their gradient."""
    cams = given["cams"].clone().requires_grad_()
    selected = torch.from_numpy(reference_selected > 0)
    weight = given["encoder_weight"]
    features, pixels = reencode(
        given["image"], cams, selected, lambda images: images.flatten(1) @ weight.T, over_all=True
    )
    foreground, background = reference_losses(features, given["prototypes"], selected)
    (gradient,) = torch.autograd.grad(foreground + background, cams)
    return {
        "fg_features": features.foreground,
        "bg_features": features.background,
        "fg_pixels": pixels,
        "loss_fg": foreground,
        "loss_bg": background,
        "grad_cams": gradient,
    }


def _mask_outputs(given: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Fuse the class maps of the stages in float32, and take the highest."""
    stages = [
        stage_class_maps(
            given[f"stage_cam_{number}"].float(),
            _positions(given),
            given["image_labels"].float(),
            REFERENCE.merge,
            REFERENCE.normalisation,
        )
        for number in (2, 3, 4)
    ]
    fused = fuse(stages, REFERENCE.stage_weights, size)
    return {"fused": fused, "pseudo_mask": fused.argmax(1)}


def _positions(given: Mapping[str, Tensor]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(given["k_list"])), given["k_list"])


def _difference(key: str, ours: NDArray[np.number], reference: NDArray[np.number]) -> Difference:
    mine, theirs = ours.astype(np.float64), reference.astype(np.float64)
    relative = np.inf
    if mine.shape == theirs.shape and np.isfinite(mine).all() and np.isfinite(theirs).all():
        largest = np.abs(theirs).max(initial=0)
        distance = np.abs(mine - theirs).max(initial=0)
        relative = float(distance / largest if largest > 0 else distance)
    return Difference(key, relative, relative <= (0 if key in _EXACT else TOLERANCE))


def _check_inputs(arrays: Arrays) -> None:
    """Raise where the inputs of a file do not fit together."""
    lengths: dict[str, int] = {"3": 3}
    for key, letters in _INPUTS.items():
        shape = arrays[key].shape
        known = tuple(lengths.setdefault(*pair) for pair in zip(letters, shape, strict=False))
        if len(shape) != len(letters) or known != shape or 0 in shape:
            raise BadFileError(f"{key} has the shape {shape}, which does not fit the other inputs")
        if not np.isfinite(arrays[key].astype(np.float64)).all():
            raise BadFileError(f"{key} holds values that are not finite")
    counts, first = arrays["k_list"].astype(np.int64), arrays["cluster_init_rows"].astype(np.int64)
    fits = (
        counts.min() >= 1
        and counts.sum() == lengths["P"]
        and arrays["ground_truth"].astype(np.int64).min() >= 0
        and 0 <= first.min() <= first.max() < lengths["n"]
        and lengths["E"] == 3 * lengths["H"] * lengths["W"]
        and arrays["selected"].shape == arrays["logits"].shape
        and arrays["fused"].shape[2:] == arrays["ground_truth"].shape[1:]
    )
    if not fits:
        raise BadFileError("its counts, rows or sizes do not fit together")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
