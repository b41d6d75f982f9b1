"""From images to class maps and masks, by a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor

from napari_protoseg.errors import ProjectError
from napari_protoseg.images.tissue import glass_mask
from napari_protoseg.masks.class_maps import coarse_class_maps, fuse, soft_gate
from napari_protoseg.masks.recipe import Background, LabelCondition, Normalisation, Recipe
from napari_protoseg.masks.windows import (
    WideWindows,
    Windows,
    pad_to_stride,
    padded_size,
    prototype_maps,
)
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.segmentation import SegmentationNetwork
from napari_protoseg.schema import UNLABELLED

_BAND_PIXELS = 2**22
"""Pixels of a batch whose masks are decided on at a time, about."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a batch of images.

    Parameters
    ----------
    class_maps
        float32 ``(B, N, H, W)`` in 0..1.
    probabilities
        That a class is present in the image, float32 ``(B, N)`` in 0..1.
    masks
        uint8 ``(B, H, W)``: class ids, 0 unlabelled.
    confidence
        How far the highest class map lies above the next, float16 ``(B, H, W)`` in 0..1; 0 where
        the mask is unlabelled.
    """

    class_maps: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    masks: NDArray[np.uint8]
    confidence: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class View:
    """What a model sees in a batch of images, as they are, mirrored, brighter or darker.

    Parameters
    ----------
    maps
        Prototype maps of each stage, of the padded images.
    flip
        Whether they are mirrored.
    counts
        Whether class maps are made of them; the plain image decides on the classes present even
        where the recipe leaves it out.
    """

    maps: tuple[Tensor, ...]
    flip: bool
    counts: bool = True


class Predictor:
    """A model with a recipe.

    Parameters
    ----------
    model
        Moved to `device`, in evaluation mode.
    class_ids
        Of the model's classes, in its order.
    recipe
        How maps become masks.
    device
        Where it computes.
    windows
        How large images are cut; None for what suits the model.

    Raises
    ------
    ProjectError
        The recipe gives no weight to any stage of the model, or mutes what it does not have.
    """

    def __init__(
        self,
        model: MapModel,
        class_ids: Sequence[int],
        recipe: Recipe,
        device: torch.device,
        windows: Windows | WideWindows | None = None,
    ) -> None:
        used = recipe.stage_weights[-len(model.strides) :]
        if min(used, default=0) < 0 or sum(used) <= 0:
            raise ProjectError(
                f"the recipe gives the stages of this model the weights {used}",
                where="stage_weights",
                remedy="Give each 0 or more, and at least one of them more than 0.",
            )
        self._sounding = sounding_prototypes(model, recipe.muted).to(device)
        self._has_rest = model.has_rest and recipe.normalisation is Normalisation.SOFTMAX
        self.model = model.to(device).eval()
        self.class_ids = np.array(class_ids, dtype=np.uint8)
        self.recipe = recipe
        self.device = device
        self.windows = windows

    def with_recipe(self, recipe: Recipe) -> Predictor:
        """Return the same model with another recipe."""
        return Predictor(self.model, self.class_ids.tolist(), recipe, self.device, self.windows)

    def with_margin(self, margin: float) -> Predictor:
        """Return the same with the margin of the background rule set."""
        return self.with_recipe(self.recipe.model_copy(update={"margin": margin}))

    @torch.inference_mode()
    def predict(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int8] | None = None,
        dense: NDArray[np.float16] | None = None,
    ) -> Prediction:
        """Predict a batch of images of one size.

        Parameters
        ----------
        images
            ``(B, H, W, 3)``, RGB.
        labels
            ``(B, N)``: 1 present, 0 absent, -1 unknown; used where the recipe takes given
            labels, None for all unknown.
        dense
            As for `look`.
        """
        return self.decide(self.look(images, dense), images, labels)

    @torch.inference_mode()
    def look(
        self, images: NDArray[np.uint8], dense: NDArray[np.float16] | None = None
    ) -> tuple[View, ...]:
        """Run the model over each view of `images` that the recipe averages over.

        The first view is the image as it is. Recipes that differ in other things than views can
        `decide` on the same ones.

        Parameters
        ----------
        images
            ``(B, H, W, 3)``, RGB.
        dense
            Dense features ``(B, d, h, w)`` of the images as they are, for a model that takes
            nothing else of them, an `EvidenceModel`; None to compute them.
        """
        counts = 1.0 in self.recipe.intensities
        if dense is None:
            views = [self._view(images, counts=counts)]
        else:
            assert isinstance(self.model, EvidenceModel)
            known = torch.from_numpy(dense).to(self.device).float()
            views = [View((self.model.maps_of(known),), flip=False, counts=counts)]
        for flip in (False, True) if self.recipe.flip else (False,):
            for intensity in self.recipe.intensities:
                if flip or intensity != 1.0:
                    views.append(self._view(images, flip=flip, intensity=intensity))
        return tuple(views)

    @torch.inference_mode()
    def decide(
        self,
        views: Sequence[View],
        images: NDArray[np.uint8],
        labels: NDArray[np.int8] | None = None,
    ) -> Prediction:
        """Turn what `look` saw into class maps and masks; parameters as `predict`."""
        height, width = images.shape[1:3]
        padded = padded_size(height, width, self.model.coarsest)
        logits = self.model.image_logits(views[0].maps, self._sounding)
        gate = self._gate(logits, labels)
        counting = [view for view in views if view.counts]
        parts = [part for view in counting for part in self._parts(view, gate)]
        class_maps = fuse(
            [maps for maps, _ in parts],
            [share / len(counting) for _, share in parts],
            padded,
            align_corners=self.recipe.normalisation is not Normalisation.SOFTMAX,
        )[:, :, :height, :width]
        masks, confidence = self._masks(class_maps, images)
        return Prediction(
            class_maps.cpu().numpy(), logits.sigmoid().cpu().numpy(), masks, confidence
        )

    def _masks(
        self, class_maps: Tensor, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Turn class maps ``(B, N, H, W)`` into masks and confidence, each ``(B, H, W)``."""
        rows = max(_BAND_PIXELS // (len(images) * images.shape[2]), 1)
        bands = [slice(first, first + rows) for first in range(0, images.shape[1], rows)]
        parts = [self._band_of_masks(class_maps[:, :, band], images[:, band]) for band in bands]
        masks, confidence = (np.concatenate(part, 1) for part in zip(*parts, strict=True))
        return masks, confidence

    def _band_of_masks(
        self, class_maps: Tensor, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        highest, second, winners = (part.cpu().numpy() for part in _two_highest(class_maps))
        if self._has_rest:
            second = np.maximum(second, 1 - highest)
        labelled = highest > (second if self._has_rest else 0)
        if self.recipe.background is Background.WHITE:
            labelled &= ~np.stack([glass_mask(image) for image in images])
        if self.recipe.background is Background.MARGIN:
            labelled &= highest >= (self.recipe.margin or 0.0)
        masks = np.where(labelled, self.class_ids[winners], np.uint8(UNLABELLED))
        confidence = np.where(labelled, highest - second, 0)
        return masks, confidence.astype(np.float16)

    def _gate(self, logits: Tensor, labels: NDArray[np.int8] | None) -> Tensor:
        # A class without a prototype has no map to win with.
        positions = torch.arange(logits.shape[1], device=logits.device)
        has_map = torch.isin(positions, self.model.class_positions[self._sounding])
        if self.recipe.labels is LabelCondition.PREDICTED and not self.model.decides_by_pixel:
            if self.recipe.normalisation is Normalisation.SOFTMAX:
                return soft_gate(logits, rest=self._has_rest)
            most_probable = logits == logits.amax(1, keepdim=True)
            return (((logits > 0) | most_probable) & has_map).float()
        if self.recipe.labels is not LabelCondition.GIVEN or labels is None:
            return has_map.expand_as(logits).float()
        return (torch.from_numpy(labels != 0).to(logits.device) & has_map).float()

    def _view(
        self,
        images: NDArray[np.uint8],
        *,
        flip: bool = False,
        intensity: float = 1.0,
        counts: bool = True,
    ) -> View:
        # Nothing as large as this is held for the next view: memory bounds the size of images.
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        seen = pixels.permute(0, 3, 1, 2).to(torch.float32)
        seen = seen.div_(255).mul_(intensity).clamp_(max=1)
        seen = pad_to_stride(seen, self.model.coarsest)
        if flip:
            seen = seen.flip(3)
        return View(prototype_maps(self.model, seen, self.windows), flip, counts)

    def _parts(self, view: View, gate: Tensor) -> list[tuple[Tensor, float]]:
        """Return class maps ``(B, N, h, w)`` as they lie in the image, and their shares."""
        parts = coarse_class_maps(
            [stage[:, self._sounding] for stage in view.maps],
            # A model with fewer stages than weights has the last ones.
            self.recipe.stage_weights[-len(view.maps) :],
            self.model.class_positions[self._sounding],
            gate,
            self.recipe.merge,
            self.recipe.normalisation,
            rest=self._has_rest,
        )
        return [(maps.flip(3) if view.flip else maps, share) for maps, share in parts]


def _two_highest(class_maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the highest of maps ``(B, N, H, W)``, the next, 0 where there is none, and which.

    Each ``(B, H, W)``. Class by class, which is several times faster than to sort each pixel.
    """
    highest, *others = class_maps.unbind(1)
    second = torch.full_like(highest, -torch.inf) if others else torch.zeros_like(highest)
    winners = torch.zeros_like(highest, dtype=torch.uint8)
    for number, here in enumerate(others, start=1):
        winners.masked_fill_(here > highest, number)
        second = torch.maximum(second, torch.minimum(here, highest))
        highest = torch.maximum(highest, here)
    return highest, second, winners


def sounding_prototypes(model: MapModel, muted: Sequence[int]) -> Tensor:
    """Return the numbers of the prototypes of a model that are not `muted`, int64.

    Raises
    ------
    ProjectError
        It has no such prototype, or no prototypes at all but whole classes.
    """
    count = len(model.class_positions)
    strange = [number for number in muted if not 0 <= number < count]
    whole_classes = isinstance(model, PlainCam | SegmentationNetwork)
    if strange or (muted and whole_classes):
        raise ProjectError(
            f"the recipe mutes the prototypes {sorted(muted)}",
            where="muted",
            remedy="This model has no prototypes."
            if whole_classes
            else f"The prototypes of this model are 0 to {count - 1}.",
        )
    return torch.tensor([k for k in range(count) if k not in set(muted)], dtype=torch.int64)


def learn_margin(class_maps: Iterable[NDArray[np.float32]]) -> float:
    """Find the threshold between low and high values of the highest class map (Otsu 1979).

    Parameters
    ----------
    class_maps
        ``(N, H, W)`` in 0..1, of some training images.

    Returns
    -------
    float
        In 0..1; 0 where all values are alike.
    """
    values = np.concatenate([maps.max(0)[::4, ::4].ravel() for maps in class_maps])
    threshold: Any = threshold_otsu  # scikit-image carries no types
    return float(threshold(values)) if np.ptp(values) > 0 else 0.0
