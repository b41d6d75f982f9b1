"""Prototype maps of images too large for one pass: windows with a halo.

A pixel of a map depends on the image within the model's receptive field. Each window is computed
with that much of its surroundings, which is then cut off, so that the pieces equal the maps of
the whole image. Windows begin at multiples of the largest stride.

A transformer sees all of the image at once, so no halo makes its windows equal to the whole. It
takes an image in one pass up to 16.8 megapixels, which needs about 6 GB; only larger ones are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.network.maps import MapModel


@dataclass(frozen=True)
class Windows:
    """How a large image is cut.

    Parameters
    ----------
    core
        Side of the part of a window that is kept, in pixels.
    halo
        What is added on each side and cut off again, in pixels: 432 covers the receptive field
        of the default backbone.
    """

    core: int = 1024
    halo: int = 432


DEFAULT_WINDOWS = Windows()
WINDOWS_OF_TRANSFORMERS = Windows(core=4096 - 2 * 432, halo=432)


def windows_of(model: MapModel) -> Windows:
    """Return how large images are cut for `model`."""
    return WINDOWS_OF_TRANSFORMERS if model.sees_whole_image else DEFAULT_WINDOWS


def pad_to_stride(images: Tensor, stride: int) -> Tensor:
    """Pad ``(B, C, H, W)`` at the bottom and the right, repeating the edge, to whole strides."""
    height, width = images.shape[2:]
    bottom, right = (
        padded - side
        for padded, side in zip(padded_size(height, width, stride), (height, width), strict=True)
    )
    return F.pad(images, (0, right, 0, bottom), mode="replicate")


def padded_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return height and width, each made the next multiple of a stride."""
    return height + -height % stride, width + -width % stride


def prototype_maps(
    model: MapModel, images: Tensor, windows: Windows | None = None
) -> tuple[Tensor, ...]:
    """Return the prototype maps of padded images of any size.

    Parameters
    ----------
    model
        In evaluation mode.
    images
        ``(B, 3, H, W)``, H and W multiples of the model's largest stride.
    windows
        How images larger than one window are cut; None for what suits the model.

    Returns
    -------
    tuple of Tensor
        ``(B, P, H / stride, W / stride)`` for each stage; those of one pass over the whole image
        as far as the halo covers the receptive field.
    """
    if windows is None:
        windows = windows_of(model)
    height, width = images.shape[2:]
    largest = windows.core + 2 * windows.halo
    if height * width <= largest * largest:
        maps: tuple[Tensor, ...] = model(images)
        return maps
    coarsest = max(model.strides)
    whole: list[Tensor] | None = None
    for top, bottom in _spans(height, windows.core, coarsest):
        for left, right in _spans(width, windows.core, coarsest):
            y, y_end = _extended(top, bottom, height, windows.halo, coarsest)
            x, x_end = _extended(left, right, width, windows.halo, coarsest)
            pieces = model(images[:, :, y:y_end, x:x_end])
            if whole is None:
                whole = [
                    piece.new_empty(*piece.shape[:2], height // stride, width // stride)
                    for piece, stride in zip(pieces, model.strides, strict=True)
                ]
            for target, piece, stride in zip(whole, pieces, model.strides, strict=True):
                target[:, :, top // stride : bottom // stride, left // stride : right // stride] = (
                    piece[
                        :,
                        :,
                        (top - y) // stride : (bottom - y) // stride,
                        (left - x) // stride : (right - x) // stride,
                    ]
                )
    assert whole is not None
    return tuple(whole)


def _spans(length: int, core: int, stride: int) -> Iterator[tuple[int, int]]:
    """Cut `length` into spans of about `core` pixels that begin at multiples of `stride`."""
    step = max(core // stride, 1) * stride
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _extended(start: int, end: int, length: int, halo: int, stride: int) -> tuple[int, int]:
    """Add the halo to a span, in whole strides, as far as the image reaches."""
    margin = -(-halo // stride) * stride
    return max(start - margin, 0), min(end + margin, length)
