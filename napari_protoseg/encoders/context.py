"""How far around a place a network looks: some pixels, or the image as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# What gathers over all positions, by how torch, timm and segmentation-models-pytorch name it.
_ATTENDING_NAMES = ("Attention", "Attn", "FocalModulation", "LiteMLA")
_GATHERING_NAMES = (
    *_ATTENDING_NAMES,
    "SqueezeExcite",
    "SEModule",
    "EseModule",
    "GlobalContext",
    "GlobalResponseNorm",
    "GatherExcite",
    "EcaModule",
    "CbamModule",
    "SelectiveKernel",
    "ASPPPooling",
)
_GATHERING_TYPES = (nn.GroupNorm, nn.InstanceNorm2d)

_HEIGHT, _WIDTH, _EDGE = 64, 2048, 64
_CHANGED = 1e-5
"""Part of the spread of a map from which a difference counts: rounding lies below it."""


def reach(network: nn.Module, stride: int, device: torch.device) -> int | None:
    """Measure how far, in pixels, what `network` says of a place depends on the image.

    A strip of noise is looked at twice, the second time with its ends blackened; how far from the
    ends the maps change is the answer. It costs about as much as five images of 224 pixels.
    What certainly gathers over all positions, as attention does, is told by its type instead, for
    its weights can still be such that it does not show.

    Parameters
    ----------
    network
        From ``(B, 3, H, W)``, RGB in 0..1, to a sequence of maps ``(B, C, h, w)``; with the
        weights that matter. Neither its mode nor the state of the random generators changes.
    stride
        The largest of its maps, in pixels; the others divide it.
    device
        Where it computes.

    Returns
    -------
    int or None
        None for all of the image, or more than 900 pixels.
    """
    if _gathers(network):
        return None
    height, width, edge = (-(-side // stride) * stride for side in (_HEIGHT, _WIDTH, _EDGE))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, height, width, generator=generator).to(device)
    blackened = noise.clone()
    blackened[..., :edge] = blackened[..., -edge:] = 0
    with torch.no_grad(), _evaluating(network):
        pairs = list(zip(network(noise), network(blackened), strict=True))
    found = [_changed_from_ends(before, after, width, edge) for before, after in pairs]
    farthest = max(found)
    return None if farthest >= (width - 2 * edge) // 2 - stride else farthest


def attends(network: nn.Module) -> bool:
    """Tell whether what a network says of a place may depend on any other single place."""
    return _has(network, _ATTENDING_NAMES)


def _gathers(network: nn.Module) -> bool:
    return _has(network, _GATHERING_NAMES) or any(
        isinstance(module, _GATHERING_TYPES) for module in network.modules()
    )


def _has(network: nn.Module, names: Iterable[str]) -> bool:
    types = {type(module).__name__ for module in network.modules()}
    return any(name in found for found in types for name in names)


def _changed_from_ends(before: Tensor, after: Tensor, width: int, edge: int) -> int:
    """Return how many pixels from the edges inwards two maps of a strip differ."""
    pixels = width // before.shape[3]
    change = (before - after).abs().amax((0, 1, 2)) > _CHANGED * before.std()
    inner = change[edge // pixels : -(edge // pixels)]
    half = len(inner) // 2
    ends = inner[:half], inner.flip(0)[:half]
    return max(int(end.nonzero().max()) + 1 if end.any() else 0 for end in ends) * pixels


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
