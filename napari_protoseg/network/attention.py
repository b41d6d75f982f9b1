"""Attention of transformers, computed without holding the matrix of all weights.

That matrix has an entry for each pair of a query and a key, and grows with the fourth power of an
image's side. The fused kernels of torch compute the same numbers piece by piece, so that a whole
large image fits in memory (Rabe and Staats 2021, arXiv 2112.05682).
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from segmentation_models_pytorch.encoders.mix_transformer import Attention
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """The attention of a MiT block over spatially reduced keys and values.

    Parameters
    ----------
    plain
        The module whose weights, under the same names, and behaviour it takes.
    """

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.num_heads, self.sr_ratio, self.scale = plain.num_heads, plain.sr_ratio, plain.scale
        self.dropout = plain.attn_drop.p
        self.q, self.kv, self.proj = plain.q, plain.kv, plain.proj
        self.sr, self.norm, self.proj_drop = plain.sr, plain.norm, plain.proj_drop

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """Attend from tokens ``(B, height * width, C)`` to those of the whole image."""
        batch, tokens, channels = x.shape
        seen = x
        if self.sr_ratio > 1:
            grid = x.transpose(1, 2).reshape(batch, channels, height, width)
            # Of less than one place after reduction nothing would be left to attend to.
            below, right = (max(self.sr_ratio - side, 0) for side in (height, width))
            grid = F.pad(grid, (0, right, 0, below), mode="replicate")
            seen = self.norm(self.sr(grid).flatten(2).transpose(1, 2))
        queries = self.q(x).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
        keys, values = (
            self.kv(seen).view(batch, -1, 2, self.num_heads, channels // self.num_heads)
        ).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )
        mixed: Tensor = self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))
        return mixed


def fuse_attention(module: nn.Module) -> None:
    """Exchange, in place, every attention of a MiT within `module`."""
    for name, child in module.named_children():
        if isinstance(child, Attention):
            setattr(module, name, FusedAttention(child))
        else:
            fuse_attention(child)
