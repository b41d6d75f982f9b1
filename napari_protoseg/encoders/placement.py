"""Where in a large image a window lies, told to encoders that know places.

Position embeddings of a transformer are stretched over the image it is given. For a window that
would be wrong: its places are those of the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn


@contextmanager
def placed(
    network: nn.Module, whole: tuple[int, int], rows: slice, columns: slice
) -> Iterator[None]:
    """Let `network` take the next images for a window of a larger image.

    Transformers of timm that resample their position embeddings, or turn by them, use those of
    the whole image there. Other networks know no places, and remain as they are.

    Parameters
    ----------
    network
        With any number of such transformers in it.
    whole
        Height and width of the large image in pixels, multiples of a patch's.
    rows, columns
        Of the window, in pixels, from and to multiples of a patch's.
    """
    with ExitStack() as restored:
        for module in network.modules():
            if getattr(module, "dynamic_img_size", False) and hasattr(module, "patch_embed"):
                _place(module, restored, whole, rows, columns)
        yield


def _place(
    vit: Any, restored: ExitStack, whole: tuple[int, int], rows: slice, columns: slice
) -> None:
    patch = vit.patch_embed.feat_ratio(as_scalar=False)
    height, width = (pixels // side for pixels, side in zip(whole, patch, strict=True))
    y, x = (
        slice(span.start // side, span.stop // side)
        for span, side in zip((rows, columns), patch, strict=True)
    )

    def crop(places: Tensor) -> Tensor:
        """Cut the window out of ``(..., height * width, C)``."""
        grid = places.reshape(*places.shape[:-2], height, width, places.shape[-1])
        return grid[..., y, x, :].flatten(-3, -2)

    if isinstance(getattr(vit, "pos_embed", None), nn.Parameter):
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        before, grid_size = vit.pos_embed, vit.patch_embed.grid_size
        embedded = resample_abs_pos_embed(
            before.detach(), [height, width], grid_size, num_prefix_tokens=prefix
        )
        own = torch.cat([embedded[:, :prefix], crop(embedded[:, prefix:])], 1)
        restored.callback(setattr, vit, "pos_embed", before)
        restored.callback(setattr, vit.patch_embed, "grid_size", grid_size)
        vit.pos_embed = nn.Parameter(own, requires_grad=False)
        # Of this very size, they are not resampled.
        vit.patch_embed.grid_size = (y.stop - y.start, x.stop - x.start)
    if getattr(vit, "rope", None) is not None:
        turns = vit.rope.get_embed
        restored.callback(delattr, vit.rope, "get_embed")
        vit.rope.get_embed = lambda shape, **options: crop(turns((height, width), **options))
