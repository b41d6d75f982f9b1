"""One optimiser step: losses of a batch, in one piece or in micro-batches of equal effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.matching import (
    PairFeatures,
    PairLosses,
    dense_features,
    pair_losses,
    reencode,
    reference_losses,
)
from napari_protoseg.network.reduction import expand_labels, select_prototypes
from napari_protoseg.training.config import Compat, Matching, TrainingConfig
from napari_protoseg.training.devices import mixed_precision
from napari_protoseg.training.images import Batch
from napari_protoseg.training.objective import label_loss


@dataclass(frozen=True)
class Matcher:
    """What matching compares with.

    Parameters
    ----------
    dense
        The frozen encoder: images ``(B, 3, H, W)`` in 0..1 to dense maps ``(B, d, h, w)``.
    prototypes
        ``(P, d)``.
    """

    dense: Callable[[Tensor], Tensor]
    prototypes: Tensor

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the dense map over its positions, ``(B, d)``."""
        return self.dense(images).mean((2, 3))


@dataclass(frozen=True)
class StepLosses:
    """What a step measured.

    Parameters
    ----------
    total, classification, matching
        Values of the loss and its parts; `matching` without its weight.
    pairs
        Pairs that took part in matching.
    skipped
        Pairs left out: no negative, or an empty foreground.
    """

    total: float
    classification: float
    matching: float
    pairs: int
    skipped: int


@dataclass(frozen=True)
class Measured:
    """What was measured on images that were not trained on.

    Parameters
    ----------
    loss
        None where there was nothing to measure.
    accuracy
        Share of known image-level labels predicted right, 0..1; None where these are not asked
        for, or none is known.
    """

    loss: float | None = None
    accuracy: float | None = None


class Objective(Protocol):
    """What a training is for: the losses of batches."""

    @property
    def divisible(self) -> bool:
        """Whether a batch may be split."""

    def accumulate(
        self, batch: Batch, micro_batch: int, backward: Callable[[Tensor], None]
    ) -> StepLosses:
        """Call `backward` on losses whose sum is that of the whole `batch`.

        Parameters
        ----------
        batch
            On the device of the model.
        micro_batch
            Most images that go through the model at once.
        backward
            Adds to the gradient.
        """

    def look(self, batch: Batch, labels: Tensor) -> tuple[float, ...]:
        """Return what is added up over images that are not trained on.

        Parameters
        ----------
        batch
            Some of them, on the device of the model, which is in evaluation mode.
        labels
            Of all of them, ``(images, N)``.
        """

    def measured(self, sums: Sequence[float], labels: Tensor) -> Measured:
        """Return what the sums of `look` over all images come to; without images there are none."""


class Step:
    """Accumulates the gradient of a batch: the `Objective` of image-level labels.

    Parameters
    ----------
    model
        In training mode, on `device`.
    matcher
        None for a model that is trained by classification alone.
    config
        Weights of the losses.
    device
        Of model and batch.
    """

    def __init__(
        self, model: MapModel, matcher: Matcher | None, config: TrainingConfig, device: torch.device
    ) -> None:
        self.model = model
        self.matcher = None if config.matching is Matching.NONE else matcher
        self.config = config
        self.device = device

    @property
    def divisible(self) -> bool:
        """Whether a batch may be split: the released loss is one ratio over the whole batch."""
        return self.matcher is None or self.config.compat is not Compat.REFERENCE

    def accumulate(
        self, batch: Batch, micro_batch: int, backward: Callable[[Tensor], None]
    ) -> StepLosses:
        """Call `backward` on the losses of each micro-batch of `batch`.

        Their sum is the loss of the whole batch: means are taken over the known labels, the
        pairs and the images of the batch, not of the micro-batch.
        """
        parts = batch.split(micro_batch)
        selections: list[Tensor | None] = [None] * len(parts)
        pairs = None
        if self.matcher is not None and len(parts) > 1:
            selections, pairs = self._select_in_whole(batch, parts)
        measured = []
        for part, selected in zip(parts, selections, strict=True):
            maps = self.maps(part)
            classification = label_loss(
                self.model, maps, part.labels, part.weights, self.config, of=batch.labels
            )
            matching, counted, skipped = self._matching(part, maps[-1], selected, pairs)
            total = classification
            if self.matcher is not None:
                share = len(part.images) / len(batch.images)
                sparsity = self.config.sparsity_weight * maps[-1].mean() * share
                total = total + self.config.matching_weight * (matching + sparsity)
            backward(total)
            values = [float(v.detach()) for v in (total, classification, matching)]
            measured.append((*values, counted, skipped))
        total_, classification_, matching_, counted_, skipped_ = map(
            sum, zip(*measured, strict=True)
        )
        return StepLosses(total_, classification_, matching_, int(counted_), int(skipped_))

    def look(self, batch: Batch, labels: Tensor) -> tuple[float, ...]:
        """Return the image-level loss, and how many labels are predicted right."""
        maps = self.maps(batch)
        loss = label_loss(self.model, maps, batch.labels, batch.weights, self.config, of=labels)
        predicted = self.model.image_logits(maps) > 0
        right = ((predicted == (batch.labels > 0)) & (batch.labels >= 0)).sum()
        return float(loss), float(right)

    def measured(self, sums: Sequence[float], labels: Tensor) -> Measured:
        """Return image-level loss and accuracy; nothing where no label is known."""
        known = int((labels >= 0).sum())
        return Measured(sums[0], sums[1] / known) if known else Measured()

    def maps(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the prototype maps of each stage, float32."""
        with mixed_precision(self.device):
            maps = self.model(batch.images)
        return tuple(stage.float() for stage in maps)

    def _matching(
        self, batch: Batch, last: Tensor, selected: Tensor | None, pairs: int | None
    ) -> tuple[Tensor, int, int]:
        """Return the matching loss, and how many pairs were counted and skipped.

        `selected` are the pairs, and `pairs` is the number that the mean is taken over: None for
        those of `batch` itself.
        """
        if self.matcher is None:
            return last.new_zeros(()), 0, 0
        if selected is None:
            selected = self._select(batch, last)
        if self.config.compat is Compat.REFERENCE:
            features, _ = self._features(self.matcher, batch, last, selected)
            foreground, background = reference_losses(
                features, self.matcher.prototypes, selected, self.config.temperature
            )
            return foreground + background, int(selected.sum()), 0
        losses = self._pair_losses(self.matcher, batch, last, selected)
        total, counted = losses.totals()
        number = int(counted)
        mean = total / max(number if pairs is None else pairs, 1)
        return mean, number, len(losses.valid) - number

    @torch.no_grad()
    def _select_in_whole(self, batch: Batch, parts: list[Batch]) -> tuple[list[Tensor | None], int]:
        """Select the pairs of each part as the whole batch does, and count those that matter."""
        maps = [self.maps(part)[-1] for part in parts]
        whole = self._select(batch, torch.cat(maps))
        selections = torch.split(whole, [len(part.images) for part in parts])
        counted = [
            self._matching(*part, None)[1] for part in zip(parts, maps, selections, strict=True)
        ]
        return list(selections), sum(counted)

    def _select(self, batch: Batch, last: Tensor) -> Tensor:
        logits = self.model.prototype_logits(last.detach())
        selected = select_prototypes(
            logits,
            batch.labels > 0,
            self.model.class_positions,
            strict=self.config.compat is Compat.REFERENCE,
        )
        most = self.config.max_pairs
        if most is None or int(selected.sum()) <= most:
            return selected
        # Those whose logit is highest: the choice needs no random numbers.
        chosen = logits.masked_fill(~selected, -torch.inf).flatten().topk(most).indices
        kept = torch.zeros_like(selected).flatten()
        kept[chosen] = True
        return kept.view_as(selected)

    def _features(
        self, matcher: Matcher, batch: Batch, last: Tensor, selected: Tensor
    ) -> tuple[PairFeatures, Tensor]:
        """Return the features of the selected pairs, and which have a foreground at all."""
        if self.config.matching is Matching.DENSE:
            with torch.no_grad(), mixed_precision(self.device):
                dense = matcher.dense(batch.images).float()
            features = dense_features(dense, last, selected)
            # A map of one value everywhere tells no foreground from background.
            return features, (last.amax((2, 3)) > last.amin((2, 3)))[selected]
        with mixed_precision(self.device):
            features, pixels = reencode(
                batch.images,
                last,
                selected,
                matcher.embed,
                over_all=self.config.compat is Compat.REFERENCE,
            )
        return PairFeatures(features.foreground.float(), features.background.float()), pixels > 0

    def _pair_losses(
        self, matcher: Matcher, batch: Batch, last: Tensor, selected: Tensor
    ) -> PairLosses:
        features, has_foreground = self._features(matcher, batch, last, selected)
        positions = self.model.class_positions
        present = expand_labels(batch.labels > 0, positions)
        weights = torch.where(present, self.config.present_weight, self.config.absent_weight)
        losses = pair_losses(
            features, matcher.prototypes, positions, selected, weights, self.config.temperature
        )
        return losses._replace(valid=losses.valid & has_foreground)
