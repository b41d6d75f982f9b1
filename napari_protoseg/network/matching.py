"""The matching loss: the foreground of each prototype map against the bank.

Two ways to the features of foreground and background. `reencode` masks the image and sends it
through the frozen encoder once more, for each selected pair. `dense_features` averages the
encoder's dense map of the whole image, weighted by the prototype map: no further pass.

Two forms of the loss. `reference_losses` is the released one: siblings of the same class are
negatives, and the logarithm is taken of a ratio of sums over the batch. `pair_losses` takes one
InfoNCE for each pair, in which only other classes are negatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

TEMPERATURE = 0.07
_TINY = 1e-8


class PairFeatures(NamedTuple):
    """Foreground and background of the selected pairs, each ``(M, d)``, not normalised."""

    foreground: Tensor
    background: Tensor


class PairLosses(NamedTuple):
    """One loss for each pair, ``(M,)``, and which of them count, boolean ``(M,)``."""

    foreground: Tensor
    background: Tensor
    valid: Tensor

    def totals(self) -> tuple[Tensor, Tensor]:
        """Sum of both losses over the valid pairs, and the number of these."""
        each = torch.where(self.valid, self.foreground + self.background, 0.0)
        return each.sum(), self.valid.sum()


def half_maximum_mask(maps: Tensor, *, over_all: bool) -> Tensor:
    """Mark where a map reaches half of a maximum.

    Parameters
    ----------
    maps
        Prototype maps, ``(B, P, h, w)``.
    over_all
        True: the maximum over all prototypes of the image; a mask can then be empty.
        False: the maximum of the map itself; a mask is empty where that is negative.

    Returns
    -------
    Tensor
        ``(B, P, h, w)``, 1 inside and 0 outside, without gradient.
    """
    fixed = maps.detach()
    maximum = fixed.amax((1, 2, 3) if over_all else (2, 3), keepdim=True)
    return (fixed >= 0.5 * maximum).to(maps.dtype)


def masked_images(
    images: Tensor, maps: Tensor, selected: Tensor, *, over_all: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut out the foreground and the background image of each selected pair.

    The foreground image is the map times the image, inside the mask; the background image is one
    minus the map times the image, outside it; both are min-max scaled per channel first.

    Parameters
    ----------
    images
        ``(B, 3, H, W)``.
    maps
        Prototype maps, ``(B, P, h, w)``.
    selected
        Boolean ``(B, P)``; M pairs, in row-major order.
    over_all
        As for `half_maximum_mask`.

    Returns
    -------
    foreground, background : Tensor
        ``(M, 3, H, W)``.
    pixels : Tensor
        Size of each foreground mask in pixels, ``(M,)``.
    """
    resized = F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=True)
    mask = half_maximum_mask(resized, over_all=over_all)[selected][:, None]
    weight = resized[selected][:, None]
    image = images[selected.nonzero()[:, 0]]
    foreground = _stretch(weight * image) * mask
    background = _stretch((1 - weight) * image) * (1 - mask)
    return foreground, background, mask.sum((1, 2, 3))


def reencode(
    images: Tensor,
    maps: Tensor,
    selected: Tensor,
    encode: Callable[[Tensor], Tensor],
    *,
    over_all: bool,
) -> tuple[PairFeatures, Tensor]:
    """Encode the masked images of each selected pair.

    Parameters
    ----------
    images, maps, selected, over_all
        As for `masked_images`.
    encode
        The frozen encoder: ``(M, 3, H, W)`` to ``(M, d)``, differentiable in its input.

    Returns
    -------
    PairFeatures, Tensor
        Features ``(M, d)``, and the pixels of each foreground, ``(M,)``.
    """
    foreground, background, pixels = masked_images(images, maps, selected, over_all=over_all)
    return PairFeatures(encode(foreground), encode(background)), pixels


def dense_features(dense: Tensor, maps: Tensor, selected: Tensor) -> PairFeatures:
    """Average a frozen dense map over the foreground and the background of each selected pair.

    The weight of a position is the map scaled to 0..1, or one minus it: the gradient flows
    through the weights.

    Parameters
    ----------
    dense
        Dense map of the frozen encoder, ``(B, d, h', w')``.
    maps
        Prototype maps, ``(B, P, h, w)``.
    selected
        Boolean ``(B, P)``.
    """
    if maps.shape[2:] != dense.shape[2:]:
        maps = F.interpolate(maps, dense.shape[2:], mode="bilinear", align_corners=False)
    weight = _scale_to_unit(maps).flatten(2)
    positions = dense.flatten(2).transpose(1, 2)
    foreground = weight @ positions / (weight.sum(2, keepdim=True) + _TINY)
    rest = 1 - weight
    background = rest @ positions / (rest.sum(2, keepdim=True) + _TINY)
    return PairFeatures(foreground[selected], background[selected])


def reference_losses(
    features: PairFeatures, prototypes: Tensor, selected: Tensor, temperature: float = TEMPERATURE
) -> tuple[Tensor, Tensor]:
    """Compute the matching losses in their released form.

    Parameters
    ----------
    features
        Of the M selected pairs, in row-major order of `selected`.
    prototypes
        ``(P, d)``.
    selected
        Boolean ``(B, P)``.
    temperature
        t in the formulas below.

    Returns
    -------
    foreground, background : Tensor
        Scalars: with e(f, l) = exp(cos(f, l) / t), own prototype l_i and the others l_j,
        ``-log(sum_i e(f_i, l_i) / sum_i [e(f_i, l_i) + sum_j e(f_i, l_j)])`` and
        ``-log(sum_i mean_j e(b_i, l_j) / sum_i [mean_j e(b_i, l_j) + e(b_i, l_i)])``.
        Zero where no pair is selected.
    """
    own = selected.nonzero()[:, 1]
    if not len(own):
        zero = features.foreground.sum() * 0
        return zero, zero
    is_own = F.one_hot(own, len(prototypes)).bool()
    near = (_cosine(features.foreground, prototypes) / temperature).exp()
    far = (_cosine(features.background, prototypes) / temperature).exp()
    foreground = -(near[is_own].sum() / near.sum()).log()
    others = far.masked_fill(is_own, 0).sum(1) / (len(prototypes) - 1)
    background = -(others.sum() / (others + far[is_own]).sum()).log()
    return foreground, background


def pair_losses(
    features: PairFeatures,
    prototypes: Tensor,
    class_positions: Tensor,
    selected: Tensor,
    negative_weights: Tensor,
    temperature: float = TEMPERATURE,
) -> PairLosses:
    """Compute one InfoNCE for the foreground and one for the background of each pair.

    Parameters
    ----------
    features
        Of the M selected pairs, in row-major order of `selected`.
    prototypes
        ``(P, d)``.
    class_positions
        ``(P,)``.
    selected
        Boolean ``(B, P)``.
    negative_weights
        Weight of each prototype among the negatives of each image, ``(B, P)``, >= 0; that of
        prototypes of the pair's own class is taken as 0.
    temperature
        t in ``-log(e(f, l) / (e(f, l) + sum_j w_j e(f, l_j)))`` for the foreground, and in
        ``-log(m / (m + e(b, l)))``, ``m = sum_j w_j e(b, l_j) / sum_j w_j``, for the background.

    Returns
    -------
    PairLosses
        A pair without a negative is not valid.
    """
    image, own = selected.nonzero().unbind(1)
    foreign = class_positions[own][:, None] != class_positions[None, :]
    weight = negative_weights[image] * foreign
    valid = weight.sum(1) > 0
    log_weight = torch.where(weight > 0, weight, 1.0).log().masked_fill(weight <= 0, -torch.inf)
    log_weight[~valid] = 0  # such pairs do not count, but must not spread NaN
    total = torch.where(valid, weight.sum(1), 1.0).log()

    near = _cosine(features.foreground, prototypes) / temperature
    near_own = near.gather(1, own[:, None])
    foreground = torch.cat([near_own, near + log_weight], 1).logsumexp(1) - near_own[:, 0]

    far = _cosine(features.background, prototypes) / temperature
    far_own = far.gather(1, own[:, None])[:, 0]
    others = (far + log_weight).logsumexp(1) - total
    background = torch.logaddexp(others, far_own) - others
    return PairLosses(foreground, background, valid)


def _cosine(features: Tensor, prototypes: Tensor) -> Tensor:
    return F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T


def _stretch(images: Tensor) -> Tensor:
    """Scale each channel of each image to 0..1."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low + _TINY)


def _scale_to_unit(maps: Tensor) -> Tensor:
    """Scale each map to 0..1; the range itself carries no gradient."""
    low = maps.detach().amin((2, 3), keepdim=True)
    high = maps.detach().amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + _TINY)
