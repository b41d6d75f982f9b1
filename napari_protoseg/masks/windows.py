"""Prototype maps of images too large for one pass: windows, of which the inner part is kept.

A pixel of a map depends on the image as far as the model reaches. Each window is computed with
that much of its surroundings, which is then cut off, so that the pieces equal the maps of the
whole image.

A transformer sees all of an image, and no windows of it would equal the whole: it takes an image of
any size in one pass, as long as there is memory for it. Its time grows with the fourth power of the
side (`benchmarks/large_images.py`).

Other models see all of it only as a mean of it, or nearly: a few large windows tell them nearly
as much. An image is cut into as few as an area of 4096 x 4096 pixels allows, and each is as
large as that allows.

All windows begin and end at multiples of the model's largest stride.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import product

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from napari_protoseg.encoders.context import attends, reach
from napari_protoseg.errors import ImageError
from napari_protoseg.network.maps import MapModel
from napari_protoseg.network.mix_transformer import FrugalBlock


@dataclass(frozen=True)
class Span:
    """A window along one axis, in pixels.

    Parameters
    ----------
    start, end
        Of what is kept; these parts of all windows fill the image.
    first, last
        Of what is computed, without `last` itself.
    """

    start: int
    end: int
    first: int
    last: int

    def kept(self, stride: int) -> slice:
        """Where in the whole map its part goes."""
        return slice(self.start // stride, self.end // stride)

    def inner(self, stride: int) -> slice:
        """Where in the map of the window that part lies."""
        return slice((self.start - self.first) // stride, (self.end - self.first) // stride)


@dataclass(frozen=True)
class Windows:
    """How a large image is cut for a model that sees so far and no farther.

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

    @property
    def pixels(self) -> int:
        """Area up to which an image is computed in one pass."""
        return (self.core + 2 * self.halo) ** 2

    def cut(self, height: int, width: int, stride: int) -> tuple[list[Span], list[Span]]:
        """Cut an image of whole strides into the rows and the columns of its windows."""
        return self._spans(height, stride), self._spans(width, stride)

    def _spans(self, length: int, stride: int) -> list[Span]:
        core = max(_whole_strides(self.core, stride), stride)
        halo = _next_stride(self.halo, stride)
        cores = ((start, min(start + core, length)) for start in range(0, length, core))
        return [Span(a, b, max(a - halo, 0), min(b + halo, length)) for a, b in cores]


@dataclass(frozen=True)
class WideWindows:
    """How a large image is cut for a model that sees nearly all of it: few windows of one size.

    Parameters
    ----------
    side
        Of a square with the area of a window, in pixels; at least three strides of the model.
        An eighth of it at least, or all that there is, is seen round the part that is kept.
    """

    side: int = 4096

    @property
    def pixels(self) -> int:
        """Area up to which an image is computed in one pass, and of each window."""
        return self.side**2

    def cut(self, height: int, width: int, stride: int) -> tuple[list[Span], list[Span]]:
        """Cut an image of whole strides into the rows and the columns of its windows."""
        halo = _next_stride(self.side / 8, stride)
        choices = []
        for rows in range(1, height // stride + 1):
            high = _least_side(height, rows, halo, stride)
            columns = _fewest(width, _whole_strides(self.pixels / high, stride), halo)
            if columns is not None:
                wide = _least_side(width, columns, halo, stride)
                choices.append((rows * columns, high * wide, rows, columns, high, wide))
        # Of equally few windows those that leave the most to grow by.
        _, area, rows, columns, high, wide = min(choices)
        growth = math.sqrt(self.pixels / area)
        high = min(height, _whole_strides(high * growth, stride))
        wide = min(width, _whole_strides(self.pixels / high, stride))
        high = min(height, _whole_strides(self.pixels / wide, stride))
        return _slid(height, rows, high, stride), _slid(width, columns, wide, stride)


DEFAULT_WINDOWS = Windows()

_FRUGAL_BYTES, _BYTES = 100, 300
"""What a mix transformer, and any other transformer at most, takes for each pixel."""


def windows_of(model: MapModel) -> Windows | WideWindows | None:
    """Return how large images are cut for `model`, by how far it is measured to see.

    Returns
    -------
    Windows, WideWindows or None
        None for a model that takes any image in one pass.
    """
    if attends(model):
        return None
    found = reach(model, model.coarsest, model.class_positions.device)
    return WideWindows() if found is None else Windows(halo=max(found, DEFAULT_WINDOWS.halo))


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
    model: MapModel, images: Tensor, windows: Windows | WideWindows | None = None
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
        as far as the halo covers what the model sees.

    Raises
    ------
    ImageError
        The model must see them in one pass, for which this machine has not the memory.
    """
    height, width = images.shape[2:]
    if windows is None and height * width > DEFAULT_WINDOWS.pixels:
        windows = windows_of(model)
        if windows is None:
            _require_memory(model, images)
    if windows is None or height * width <= windows.pixels:
        maps: tuple[Tensor, ...] = model(images)
        return maps
    rows, columns = windows.cut(height, width, model.coarsest)
    whole: list[Tensor] = []
    for y, x in product(rows, columns):
        pieces = model(images[:, :, y.first : y.last, x.first : x.last])
        if not whole:
            whole = [
                piece.new_empty(*piece.shape[:2], height // stride, width // stride)
                for piece, stride in zip(pieces, model.strides, strict=True)
            ]
        for target, piece, stride in zip(whole, pieces, model.strides, strict=True):
            target[:, :, y.kept(stride), x.kept(stride)] = piece[
                :, :, y.inner(stride), x.inner(stride)
            ]
    return tuple(whole)


def _require_memory(model: MapModel, images: Tensor) -> None:
    """Refuse what would end this program; a GPU of its own memory refuses by itself."""
    if images.device.type == "cuda":
        return
    is_frugal = any(isinstance(module, FrugalBlock) for module in model.modules())
    needed = images[:, 0].numel() * (_FRUGAL_BYTES if is_frugal else _BYTES)
    memory = _physical_memory()
    if memory is not None and needed > memory:
        height, width = images.shape[2:]
        raise ImageError(
            f"a transformer needs about {needed / 2**30:.0f} GB for {width} x {height} px at once, "
            f"and this machine has {memory / 2**30:.0f} GB",
            where="image",
            remedy="Cut it into tiles, or use a model with a convolutional backbone.",
        )


def _physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None where it does not tell."""
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= getattr(os, "sysconf_names", {}).keys():
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _least_side(length: int, count: int, halo: int, stride: int) -> int:
    """Return the least side of `count` equal windows over `length`, each with its halos."""
    halos = 2 if count > 2 else count - 1  # none where the image ends
    return _next_stride(length / count, stride) + halos * halo


def _fewest(length: int, side: int, halo: int) -> int | None:
    """Return how many windows of at most `side` cover `length`; None if none are large enough."""
    if length <= side:
        return 1
    if length <= 2 * (side - halo):
        return 2
    return None if side <= 2 * halo else max(3, math.ceil(length / (side - 2 * halo)))


def _slid(length: int, count: int, side: int, stride: int) -> list[Span]:
    """Lay windows of one side round `count` cores, slid to where they lie within `length`."""
    core = _next_stride(length / count, stride)
    spans = []
    for start in range(0, length, core):
        end = min(start + core, length)
        centred = _whole_strides((start + end - side) / 2, stride)
        first = min(max(centred, 0), length - side)
        spans.append(Span(start, end, first, first + side))
    return spans


def _next_stride(pixels: float, stride: int) -> int:
    return math.ceil(pixels / stride) * stride


def _whole_strides(pixels: float, stride: int) -> int:
    return math.floor(pixels / stride) * stride
