"""Mix transformers (MiT), computed in less memory: the same numbers piece by piece.

The matrix of all weights of an attention has an entry for each pair of a query and a key, and
grows with the fourth power of an image's side. The fused kernels of torch do without it (Rabe and
Staats 2021, arXiv 2112.05682). What then needs the most memory is what is made of the tokens on
the way, in the feed-forward networks four times their size. Where no gradient is asked for, some
rows are computed at a time, in place, and a block takes little more than its tokens.

What remains is the time, which also grows with the fourth power of the side. Attending to some of
the keys only, drawn evenly, would be quicker, but is no way out: once a network has learned what
to look for, each query takes most from a few keys, and these are not to be missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from segmentation_models_pytorch.encoders.mix_transformer import Attention, Block
from torch import Tensor, nn

BAND = 2**23
"""Numbers that one layer of a band of rows has at most, about (32 MB)."""


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
        del height
        return self.attended(x, *self.keys_and_values([x], width))

    def keys_and_values(self, bands: Iterable[Tensor], width: int) -> tuple[Tensor, Tensor]:
        """Return what is attended to, each ``(B, heads, places, C / heads)``.

        Parameters
        ----------
        bands
            Tokens ``(B, rows * width, C)`` of the image from top to bottom. All but the last
            have a multiple of `sr_ratio` rows.
        width
            Tokens of a row.
        """
        seen = torch.cat([self._reduced(band, width) for band in bands], 1)
        keys, values = self.kv(seen).chunk(2, dim=2)
        return self._heads(keys), self._heads(values)

    def attended(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from any tokens ``(B, n, C)`` to `keys_and_values`."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.q(x)),
            keys,
            values,
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )
        mixed: Tensor = self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))
        return mixed

    def _reduced(self, x: Tensor, width: int) -> Tensor:
        """Make one token of each square of tokens."""
        if self.sr_ratio == 1:
            return x
        grid = x.transpose(1, 2).reshape(len(x), x.shape[2], -1, width)
        # Of less than one place after reduction nothing would be left to attend to.
        below, right = (max(self.sr_ratio - side, 0) for side in grid.shape[2:])
        if below or right:
            grid = F.pad(grid, (0, right, 0, below), mode="replicate")
        reduced: Tensor = self.norm(self.sr(grid).flatten(2).transpose(1, 2))
        return reduced

    def _heads(self, tokens: Tensor) -> Tensor:
        """Part ``(B, n, C)`` among the heads: ``(B, heads, n, C / heads)``."""
        return tokens.reshape(*tokens.shape[:2], self.num_heads, -1).transpose(1, 2)


class FrugalBlock(Block):  # type: ignore[misc]  # the package carries no types
    """A MiT block that is computed in bands of rows, and in place, where there are no gradients.

    Within a MiT nothing else needs what a block is given.

    Parameters
    ----------
    plain
        The block whose weights, under the same names, and behaviour it takes.
    """

    def __init__(self, plain: Block) -> None:
        nn.Module.__init__(self)
        self.norm1, self.attn = plain.norm1, FusedAttention(plain.attn)
        self.drop_path, self.norm2, self.mlp = plain.drop_path, plain.norm2, plain.mlp
        self.train(plain.training)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a map ``(B, C, H, W)`` into another."""
        if self.training or torch.is_grad_enabled():
            whole: Tensor = super().forward(x)
            return whole
        tokens = x.flatten(2).transpose(1, 2)
        self._add_attended(tokens, *x.shape[2:])
        self._add_mixed(tokens, *x.shape[2:])
        return tokens.transpose(1, 2).reshape(x.shape)

    def _add_attended(self, tokens: Tensor, height: int, width: int) -> None:
        """Add to each token what it finds in the image."""
        reduction = self.attn.sr_ratio
        rows = max(self._rows(tokens, width) // reduction, 1) * reduction
        # Rows that fill no whole place are left out, unless they are all there are.
        usable = max(height // reduction * reduction, min(height, reduction))
        normalised = (self.norm1(tokens[:, band]) for band in _bands(usable, rows, width))
        keys, values = self.attn.keys_and_values(normalised, width)
        for band in _bands(height, rows, width):
            tokens[:, band] += self.attn.attended(self.norm1(tokens[:, band]), keys, values)

    def _add_mixed(self, tokens: Tensor, height: int, width: int) -> None:
        """Add to each token what the feed-forward network makes of it and those round it."""
        convolution = self.mlp.dwconv.dwconv
        halo = convolution.kernel_size[0] // 2 * convolution.dilation[0] * width
        above = tokens[:, :0]  # as they were
        for band in _bands(height, self._rows(tokens, width), width):
            seen = torch.cat([above, tokens[:, band.start : band.stop + halo]], 1)
            mixed = self.mlp(self.norm2(seen), seen.shape[1] // width, width)
            start, stop = above.shape[1], above.shape[1] + band.stop - band.start
            tokens[:, band] += mixed[:, start:stop]
            above = seen[:, max(stop - halo, 0) : stop]

    def _rows(self, tokens: Tensor, width: int) -> int:
        hidden: int = self.mlp.fc1.out_features
        return max(BAND // (len(tokens) * width * hidden), 1)


def make_frugal(module: nn.Module) -> None:
    """Exchange, in place, every block of a MiT within `module`."""
    for name, child in module.named_children():
        if isinstance(child, Block):
            setattr(module, name, FrugalBlock(child))
        else:
            make_frugal(child)


def _bands(height: int, rows: int, width: int) -> Iterator[slice]:
    """Give the tokens of so many rows after another; the last band may have fewer."""
    for first in range(0, height, rows):
        yield slice(first * width, min(first + rows, height) * width)
