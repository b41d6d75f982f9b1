"""Whether what a network says of a place depends on the image as a whole."""

from __future__ import annotations

from torch import nn

# By how torch, timm and segmentation-models-pytorch name what gathers over all positions.
_GATHERING = (
    "Attention",
    "Attn",
    "SqueezeExcite",
    "SEModule",
    "GlobalContext",
    "GatherExcite",
    "EcaModule",
    "CbamModule",
    "SelectiveKernel",
)


def sees_whole_image(network: nn.Module) -> bool:
    """Tell whether attention, or a gate that pools over the image, is part of `network`.

    No halo round a window then makes its features those of the whole image.
    """
    return any(name in type(module).__name__ for module in network.modules() for name in _GATHERING)
