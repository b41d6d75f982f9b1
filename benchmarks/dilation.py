"""Time interleaved against plain dilation: forward and backward of the default backbone.

``python benchmarks/dilation.py`` prints the time of the plain computation over that of the
interleaved one, both measured in turns in one run: above 1, interleaving is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

from napari_protoseg.network.backbones import DEFAULT_BACKBONE
from napari_protoseg.network.dilation import interleave_dilated

_ROUNDS = 5


def seconds(module: nn.Module, images: Tensor) -> float:
    """Return the time of one forward and backward pass through `module`."""
    start = time.perf_counter()
    out = module(images)
    last = out[-1] if isinstance(out, list) else out
    last.sum().backward()
    return time.perf_counter() - start


def ratio(make: Callable[[], nn.Module], images: Tensor) -> float:
    """Return the time of the plain module over that of the interleaved one.

    Parameters
    ----------
    make
        Makes the plain module.
    images
        Its input.
    """
    plain, interleaved = nn.Sequential(make()), nn.Sequential(make())
    interleave_dilated(interleaved)
    slow, fast = [], []
    for _ in range(_ROUNDS + 1):
        slow.append(seconds(plain, images))
        fast.append(seconds(interleaved, images))
    # The first round warms up.
    return statistics.median(slow[1:]) / statistics.median(fast[1:])


def backbone() -> nn.Module:
    """Make the default backbone with its dilated convolutions as timm has them."""
    module: nn.Module = timm.create_model(
        DEFAULT_BACKBONE, pretrained=False, features_only=True, output_stride=16
    )
    return module.eval()


def depthwise() -> nn.Module:
    """Make one of its dilated convolutions."""
    return nn.Conv2d(672, 672, 5, padding=4, dilation=2, groups=672, bias=False)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description="Time interleaved against plain dilation.")
    parser.add_argument("--batch", type=int, default=4, help="images at once")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    options = parser.parse_args()
    batch, side = options.batch, options.side
    print(f"{batch} images of {side} px, forward and backward, plain / interleaved:")
    maps = torch.rand(batch, 672, side // 16, side // 16, requires_grad=True)
    print(f"  one dilated convolution: {ratio(depthwise, maps):.2f}")
    images = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    print(f"  the whole backbone:      {ratio(backbone, images):.2f}")


if __name__ == "__main__":
    main()
