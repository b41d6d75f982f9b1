"""What the segmentation network is trained for: pseudo-masks that are wrong in places."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.segmentation import Decoder
from napari_protoseg.training.devices import mixed_precision
from napari_protoseg.training.images import Batch
from napari_protoseg.training.pseudo_masks import CERTAIN, NO_CLASS
from napari_protoseg.training.step import Measured, StepLosses

_EXPONENT = 0.7
"""Of the generalised cross-entropy, as its authors choose it."""

_CROSS, _REVERSE, _LOG_ZERO = 0.1, 1.0, -4.0
"""Weights of both parts of the symmetric cross-entropy, and what stands for the logarithm of 0."""

_IMPOSSIBLE = -1e4
"""Log-probability of a class that is left out: finite, so that gradients are."""


class PixelLoss(StrEnum):
    """Loss of a pixel whose class a model has said; all but `SHARED` weigh it by confidence."""

    CROSS_ENTROPY = "cross-entropy"
    """Follows every pixel, the wrong ones too."""
    GENERALISED = "generalised"
    """``(1 - p^q) / q`` (Zhang and Sabuncu 2018, arXiv 1805.07836): a pixel that the network
    disagrees with pulls less."""
    SYMMETRIC = "symmetric"
    """Cross-entropy, and its reverse (Wang et al. 2019, arXiv 1908.06112)."""
    SHARED = "shared"
    """``-(q log p + (1 - q) log p')`` with ``p`` the probability of the class that was said, ``p'``
    that of the other classes that the image's label allows, and ``q = (1 + m) / 2``, where the
    confidence ``m`` of the first stage is how far the class leads: what the first stage gives it
    where two classes are in question, and never less than a half."""


class PixelConfig(BaseModel):
    """How the second stage learns from pseudo-masks.

    Parameters
    ----------
    decoder
        What is made of the features of the backbone.
    loss
        Of the pixels that no person has set.
    ignored
        Share of the pixels of each class that are ignored: those that the first stage is least
        sure of, where the image's label leaves it a choice.
    absence_weight
        Of the loss that says which classes a label excludes; it counts for ignored pixels too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoder: Decoder = Decoder.SEGFORMER
    loss: PixelLoss = Field(default=PixelLoss.SHARED, title="Loss of a pixel")
    ignored: float = Field(default=0.0, ge=0, lt=1, title="Share of pixels ignored")
    absence_weight: float = Field(default=0.5, ge=0)


def _generalised(log_probabilities: Tensor) -> Tensor:
    return (1 - (_EXPONENT * log_probabilities).exp()) / _EXPONENT


def _symmetric(log_probabilities: Tensor) -> Tensor:
    reverse = -_LOG_ZERO * (1 - log_probabilities.exp())
    return _CROSS * -log_probabilities + _REVERSE * reverse


_ONE_CLASS: Mapping[PixelLoss, Callable[[Tensor], Tensor]] = {
    PixelLoss.CROSS_ENTROPY: torch.neg,
    PixelLoss.GENERALISED: _generalised,
    PixelLoss.SYMMETRIC: _symmetric,
}
"""Losses that look at nothing but the log-probability of the class a pixel is said to be of."""


_STRENGTH: Mapping[PixelLoss, float] = {
    PixelLoss.CROSS_ENTROPY: 1.0,
    PixelLoss.GENERALISED: 1.0,
    PixelLoss.SYMMETRIC: _CROSS - _REVERSE * _LOG_ZERO,
    PixelLoss.SHARED: 4.0,
}
"""How much stronger than by the cross-entropy a pixel pulls that is certain: as strongly as any
may, and where many that a model is wrong about speak together, as four of them."""


@dataclass(frozen=True)
class PixelTargets:
    """What is believed of the pixels of some images.

    Parameters
    ----------
    images
        Themselves, ``(B, 3, H, W)``.
    positions
        Of the class that each pixel is said to be of, 0 where none is known, ``(B, H, W)``.
    confidence
        In that, 0..1; 0 where the pixel is ignored.
    certain
        Whether a person has set the pixel.
    known
        Whether a class is known.
    of_image
        Weight of each image, ``(B, 1, 1)``.
    """

    images: Tensor
    positions: Tensor
    confidence: Tensor
    certain: Tensor
    known: Tensor
    of_image: Tensor

    @classmethod
    def of(cls, batch: Batch) -> PixelTargets:
        """Take apart what `PseudoMask.laid_on` has laid together."""
        images, layers = batch.images[:, :3], batch.images[:, 3:]
        positions, weights = (layers * 255).round().long().unbind(1)
        known, certain = positions != NO_CLASS, weights == CERTAIN
        return cls(
            images,
            torch.where(known, positions, 0),
            torch.where(certain, 1.0, weights / (CERTAIN - 1)) * known,
            certain,
            known,
            batch.weights[:, None, None],
        )

    def trusted(self, loss: PixelLoss) -> Tensor:
        """Return how much the loss of each pixel counts."""
        heard = self.confidence > 0 if loss is PixelLoss.SHARED else self.confidence
        return self.of_image * heard


class PixelObjective:
    """The `Objective` of pseudo-masks, which are channels 4 and 5 of the images.

    Parameters
    ----------
    model
        On `device`.
    config
        Losses.
    device
        Of model and batches.
    """

    divisible = True

    def __init__(self, model: MapModel, config: PixelConfig, device: torch.device) -> None:
        self._model = model
        self._config = config
        self._device = device

    def accumulate(
        self, batch: Batch, micro_batch: int, backward: Callable[[Tensor], None]
    ) -> StepLosses:
        """Call `backward` on the loss of each micro-batch; means are those of the whole batch."""
        trust, pixels = self._sizes(batch)
        total = 0.0
        for part in batch.split(micro_batch):
            believed, excluded = self._sums(part)
            loss = believed / trust + self._config.absence_weight * excluded / pixels
            backward(loss)
            total += float(loss.detach())
        return StepLosses(total, total, 0.0, 0, 0)

    def look(self, batch: Batch, labels: Tensor) -> tuple[float, ...]:
        """Return the losses and the sizes that a mean of the loss is made of."""
        believed, excluded = self._sums(batch)
        trust, pixels = self._sizes(batch)
        return float(believed), float(excluded), float(trust), float(pixels)

    def measured(self, sums: Sequence[float], labels: Tensor) -> Measured:
        """Return the loss of some images; nothing where there is none."""
        if not len(labels):
            return Measured()
        believed, excluded, trust, pixels = sums
        return Measured(believed / trust + self._config.absence_weight * excluded / pixels)

    def _sizes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the trust in all pixels, and the number of all that are of some class."""
        targets = PixelTargets.of(batch)
        trusted = targets.trusted(self._config.loss)
        return trusted.sum().clamp(min=1), targets.known.sum().clamp(min=1)

    def _sums(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed losses of what is believed, and of what labels exclude."""
        targets = PixelTargets.of(batch)
        with mixed_precision(self._device):
            (logits,) = self._model(targets.images)
        size = (targets.images.shape[2], targets.images.shape[3])
        logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        every = logits.log_softmax(1)
        loss = self._config.loss
        losses = pixel_losses(every, targets, batch.labels, loss)
        left_open = targets.known & ~targets.certain
        excluded = _excluded_loss(every, batch.labels) * targets.of_image
        return (targets.trusted(loss) * losses).sum(), (left_open * excluded).sum()


def pixel_losses(
    log_probabilities: Tensor, targets: PixelTargets, labels: Tensor, loss: PixelLoss
) -> Tensor:
    """Return the loss of each pixel, ``(B, H, W)``, not yet weighed.

    Parameters
    ----------
    log_probabilities
        Of each class, ``(B, C, H, W)``.
    targets
        What is believed of the pixels.
    labels
        Of the images, ``(B, C)``, as `Label` says.
    loss
        Of those that no person has set; the others are drawn to their class alone, and more
        strongly.
    """
    of_class = log_probabilities.gather(1, targets.positions[:, None])[:, 0]
    certain = -of_class * _STRENGTH[loss]
    if loss is PixelLoss.SHARED:
        believed = _shared(log_probabilities, of_class, targets, labels)
    else:
        believed = _ONE_CLASS[loss](of_class)
    return torch.where(targets.certain, certain, believed)


def _shared(
    log_probabilities: Tensor, of_class: Tensor, targets: PixelTargets, labels: Tensor
) -> Tensor:
    allowed = _allowed(labels).expand_as(log_probabilities)
    others = allowed.scatter(1, targets.positions[:, None], False)
    log_others = log_probabilities.masked_fill(~others, _IMPOSSIBLE).logsumexp(1)
    share = torch.where(others.any(1), (1 + targets.confidence) / 2, 1.0)
    return -(share * of_class + (1 - share) * log_others)


def _excluded_loss(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return ``-log`` of the probability of the classes that a label allows, ``(B, H, W)``."""
    kept = log_probabilities.masked_fill(~_allowed(labels), _IMPOSSIBLE)
    return -kept.logsumexp(1)


def _allowed(labels: Tensor) -> Tensor:
    """Return the classes that are not absent, all where every one is, ``(B, C, 1, 1)``."""
    allowed = labels != 0
    return (allowed | ~allowed.any(1, keepdim=True))[:, :, None, None]
