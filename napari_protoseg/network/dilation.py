"""Dilated depthwise convolutions, computed as plain ones over interleaved grids.

A convolution with dilation d sees, from each pixel, only the pixels whose coordinates differ by
multiples of d: d x d separate grids. Convolving each grid without dilation gives the same numbers
and uses the fast kernels that exist for that case only; on a CPU the backward pass of a
depthwise convolution is several times faster (`benchmarks/dilation.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class InterleavedConv2d(nn.Conv2d):
    """A depthwise, dilated convolution of stride 1 that keeps the size of its input."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (name of the base class)
        """Convolve ``(B, C, H, W)``, zero-padded to the same size."""
        if not torch.is_grad_enabled():
            return super().forward(input)  # only the backward pass of the plain kernel is slow
        batch, channels, height, width = input.shape
        d = self.dilation[0]
        padded = F.pad(input, (0, -width % d, 0, -height % d))
        rows, columns = padded.shape[2] // d, padded.shape[3] // d
        # Channels stay last in memory, as the kernels want them.
        grids = padded.permute(0, 2, 3, 1).reshape(batch, rows, d, columns, d, channels)
        grids = grids.permute(2, 4, 0, 1, 3, 5).reshape(d * d * batch, rows, columns, channels)
        half = self.kernel_size[0] // 2
        out = F.conv2d(
            grids.permute(0, 3, 1, 2), self.weight, self.bias, padding=half, groups=self.groups
        )
        out = out.permute(0, 2, 3, 1).reshape(d, d, batch, rows, columns, channels)
        out = out.permute(2, 3, 0, 4, 1, 5).reshape(batch, rows * d, columns * d, channels)
        return out.permute(0, 3, 1, 2)[:, :, :height, :width]


def interleave_dilated(module: nn.Module) -> None:
    """Exchange, in place, every convolution within `module` that `InterleavedConv2d` can be."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and _is_eligible(child):
            exchanged = InterleavedConv2d(
                child.in_channels,
                child.out_channels,
                child.kernel_size,  # type: ignore[arg-type]
                dilation=child.dilation,  # type: ignore[arg-type]
                groups=child.groups,
                padding="same",
                bias=child.bias is not None,
            )
            exchanged.load_state_dict(child.state_dict())
            setattr(module, name, exchanged)
        else:
            interleave_dilated(child)


def _is_eligible(convolution: nn.Conv2d) -> bool:
    size, dilation = convolution.kernel_size[0], convolution.dilation[0]
    symmetric = convolution.padding in ("same", (dilation * (size // 2),) * 2)
    # timm's TensorFlow-style padding is computed from the input, and symmetric at stride 1;
    # other derived convolutions may compute something else.
    kind = type(convolution)
    keeps_size = (kind is nn.Conv2d and symmetric) or kind.__name__ == "Conv2dSame"
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.stride == (1, 1)
        and convolution.dilation == (dilation, dilation)
        and dilation > 1
        and convolution.kernel_size == (size, size)
        and size % 2 == 1
        and keeps_size
    )
