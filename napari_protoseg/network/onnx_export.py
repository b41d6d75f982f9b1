"""The segmentation network as an ONNX file, which runs anywhere without this program."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from napari_protoseg.errors import ExportError
from napari_protoseg.network.record import ModelRecord
from napari_protoseg.network.segmentation import SegmentationNetwork

PACKAGES = ("onnx", "onnxscript")
"""What writing takes; the optional dependencies called onnx."""

IMAGES, PROBABILITIES = "images", "probabilities"
"""Names of the input, uint8 ``(B, H, W, 3)``, RGB, and of the output, ``(B, N, H, W)``, 0..1."""

_EXAMPLE = (2, 96, 80, 3)
_OPSET = 18


class PortableNetwork(nn.Module):
    """A segmentation network from images as they are read to the probability of each class.

    Parameters
    ----------
    network
        In evaluation mode; it stays as it is.
    """

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        _fix_padding(self.network)

    def forward(self, images: Tensor) -> Tensor:
        """Return the probabilities of each pixel, ``(B, N, H, W)``.

        Parameters
        ----------
        images
            uint8 ``(B, H, W, 3)``, RGB, of any height and width.
        """
        height, width = images.shape[1], images.shape[2]
        stride = self.network.coarsest
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        # The edge repeated, as `masks.windows` does it, by indices: these know any size.
        rows = torch.arange(_whole_strides(height, stride), device=images.device)
        columns = torch.arange(_whole_strides(width, stride), device=images.device)
        rows, columns = rows.clamp(max=height - 1), columns.clamp(max=width - 1)
        padded = pixels.index_select(2, rows).index_select(3, columns)
        (logits,) = self.network(padded)
        factor = float(self.network.strides[0])
        enlarged = F.interpolate(logits.softmax(1), scale_factor=factor, mode="bilinear")
        return enlarged[:, :, :height, :width]


def onnx_content(network: SegmentationNetwork, record: ModelRecord) -> bytes:
    """Return the content of an ONNX file of a network, which takes seconds to a minute.

    Its input is called `IMAGES` and its output `PROBABILITIES`; both know any number and size of
    images. The metadata hold the names of the classes, their ids, and the pixel size.

    Parameters
    ----------
    network
        On the CPU.
    record
        What it is.

    Raises
    ------
    ExportError
        The packages that write ONNX are not installed, or cannot write this network.
    """
    require_packages()
    import onnx

    portable = PortableNetwork(network.eval()).eval()
    images = torch.zeros(_EXAMPLE, dtype=torch.uint8)
    auto = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                portable,
                (images,),
                dynamo=True,
                input_names=[IMAGES],
                output_names=[PROBABILITIES],
                dynamic_shapes={"images": {0: auto, 1: auto, 2: auto}},
                opset_version=_OPSET,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"torch {torch.__version__} cannot write a network with the backbone "
            f"{record.backbone} as ONNX",
            where="ONNX",
            remedy="Install the current versions of torch and onnxscript, or train one with a "
            "convolutional backbone.",
        ) from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, _metadata(record))
    (images_in,), (probabilities_out,) = model.graph.input, model.graph.output
    _name_sides(images_in, ("batch", "height", "width"), (0, 1, 2))
    _name_sides(probabilities_out, ("batch", "height", "width"), (0, 2, 3))
    content = io.BytesIO()
    onnx.save_model(model, content)
    return content.getvalue()


def require_packages() -> None:
    """Make sure that ONNX can be written.

    Raises
    ------
    ExportError
        A package is missing.
    """
    error = missing_packages()
    if error is not None:
        raise error


def missing_packages() -> ExportError | None:
    """Return what to raise, or to show, where ONNX cannot be written; None where it can."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if not missing:
        return None
    return ExportError(
        f"to write it takes packages that are not installed: {', '.join(missing)}",
        where="ONNX",
        remedy="Install napari-protoseg[onnx], then export again.",
        on_terminal='pip install "napari-protoseg[onnx]"',
    )


def _metadata(record: ModelRecord) -> dict[str, str]:
    """Return what a reader of the file needs to know; ONNX keeps text alone."""
    size = record.micrometres_per_pixel
    return {
        "classes": json.dumps(list(record.classes.names)),
        "class_ids": json.dumps(list(record.classes.ids)),
        "micrometres_per_pixel": "" if size is None else repr(size),
        "record": record.model_dump_json(),
    }


def _name_sides(value: Any, names: Sequence[str], axes: Sequence[int]) -> None:
    """Name the sizes of an input or output that may be any."""
    for name, axis in zip(names, axes, strict=True):
        value.type.tensor_type.shape.dim[axis].dim_param = name


def _fix_padding(module: nn.Module) -> None:
    """Exchange, in place, convolutions that compute their padding from the size of their input.

    Sizes here are whole strides, so that it is always the same; to trace it for any size takes
    many minutes.
    """
    for name, child in module.named_children():
        if type(child) is Conv2dSame:
            setattr(module, name, _with_fixed_padding(child))
        else:
            _fix_padding(child)


def _with_fixed_padding(convolution: Conv2dSame) -> nn.Sequential:
    padding: list[int] = []
    for size, stride, dilation in zip(
        convolution.kernel_size, convolution.stride, convolution.dilation, strict=True
    ):
        total = max((size - 1) * dilation + 1 - stride, 0)
        padding = [total // 2, total - total // 2, *padding]  # the last axis comes first
    fixed = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        dilation=convolution.dilation,  # type: ignore[arg-type]
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    fixed.load_state_dict(convolution.state_dict())
    return nn.Sequential(nn.ZeroPad2d(tuple(padding)), fixed)  # type: ignore[arg-type]


def _whole_strides(length: int, stride: int) -> int:
    return (length + stride - 1) // stride * stride


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own work from whoever reads this program's words."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
