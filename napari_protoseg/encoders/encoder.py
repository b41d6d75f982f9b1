"""A frozen image encoder: a timm model as a map from pixels to dense features."""

from __future__ import annotations

import difflib
import inspect
from functools import partial
from pathlib import Path
from typing import Any, Self

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn
from torch.nn import functional

from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.encoders.records import KnownModel
from napari_protoseg.encoders.registry import DEFAULT_ENCODER, KNOWN_MODELS, licence_of
from napari_protoseg.encoders.tensor_names import as_timm_names
from napari_protoseg.encoders.weights import (
    Weights,
    load_weights_into,
    packaged_efficientnet_lite0,
    read_weights,
)
from napari_protoseg.errors import WeightsError

# Asked of each architecture whose constructor knows them: a fine feature map of a
# convolutional network, and images of any size for a transformer.
_WISHES = {"output_stride": 16, "dynamic_img_size": True, "strict_img_size": False}


class FrozenEncoder(nn.Module):
    """An encoder whose weights never change.

    It stays in evaluation mode, whatever mode is asked of it, and its parameters take no
    gradient; the images do. Make one with `create_encoder`.

    Parameters
    ----------
    model
        A timm model with its weights, on its device.
    identity
        What it is, for banks and caches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, identity: EncoderIdentity) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.identity = identity
        device = next(model.parameters()).device
        for name in ("mean", "std"):
            values = torch.tensor(getattr(identity, name), device=device).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.eval()

    @property
    def width(self) -> int:
        """Number of channels of the features."""
        return self.identity.width

    @property
    def stride(self) -> int:
        """Pixels per position of the dense features."""
        return self.identity.stride

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; `mode` is ignored."""
        del mode
        return super().train(False)

    def dense(self, images: Tensor) -> Tensor:
        """Return the last feature map of `images`.

        Images whose sides are no multiple of the stride are padded at the bottom and the
        right by repeating their edge.

        Parameters
        ----------
        images
            float32 (B, 3, H, W), RGB, 0..1.

        Returns
        -------
        Tensor
            float32 (B, width, ceil(H / stride), ceil(W / stride)), differentiable with
            respect to `images`.
        """
        height, width = images.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        if any(padding):
            images = functional.pad(images, padding, mode="replicate")
        return last_feature_map(self.model, (images - self.mean) / self.std)

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean over positions of `dense`: float32 (B, width).

        So an image's embedding and its dense features live in one space.
        """
        return mean_over_positions(self.dense(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return `dense` of `images`."""
        return self.dense(images)


def create_encoder(
    name: str = DEFAULT_ENCODER, weights_file: Path | None = None, *, device: torch.device | str
) -> FrozenEncoder:
    """Make the encoder called `name`; nothing is ever downloaded.

    Parameters
    ----------
    name
        A name of `KNOWN_MODELS`, or any model of timm.
    weights_file
        Its weights, as `read_weights` takes them. Only the default encoder does without.
    device
        Where it computes.

    Raises
    ------
    WeightsError
        There is no such model, no weights for it, weights of another model, or the model
        gives no feature map for images of any size.
    """
    known = _known(name)
    _require_buildable(name, known)
    read = _weights(name, weights_file)  # before the long work of building a large model
    model, published = _build(name, known)
    weights = as_timm_names(read, model)
    classifier = published.get("classifier") or ()
    load_weights_into(
        model,
        weights,
        without=(classifier,) if isinstance(classifier, str) else classifier,
        source=None if known.publication is None else known.publication.source,
    )
    model.eval().to(device)
    width, stride = _width_and_stride(name, model, published["input_size"][-1], device)
    identity = EncoderIdentity(
        name=name,
        weights_sha256=weights.sha256,
        mean=known.mean or published["mean"],
        std=known.std or published["std"],
        width=width,
        stride=stride,
        licence=known.licence.name,
    )
    return FrozenEncoder(model, identity)


def empty_encoder(identity: EncoderIdentity) -> FrozenEncoder:
    """Make the encoder of `identity` without its weights, for a checkpoint that carries them.

    Raises
    ------
    WeightsError
        There is no such model.
    """
    model, _ = _build(identity.name, _known(identity.name))
    return FrozenEncoder(model, identity)


def mean_over_positions(dense: Tensor) -> Tensor:
    """Return the embeddings (B, width) of images of which `dense` is the feature map."""
    return dense.mean(dim=(2, 3))


def last_feature_map(model: nn.Module, images: Tensor) -> Tensor:
    """Return the last feature map of a timm `model`: (B, C, h, w).

    Parameters
    ----------
    model
        Any timm model that offers ``forward_intermediates``; the tokens of a transformer
        are normalised as for its classifier, and laid out as a map.
    images
        float32 (B, 3, H, W), normalised.
    """
    features: list[Tensor] = model.forward_intermediates(  # type: ignore[operator]
        images, indices=1, norm=True, intermediates_only=True, output_fmt="NCHW"
    )
    return features[-1]


def _known(name: str) -> KnownModel:
    return KNOWN_MODELS.get(name, KnownModel(licence_of(name), architecture=name))


def _build(name: str, known: KnownModel) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model without weights or classifier, and what timm publishes of it."""
    architecture = _require_buildable(name, known)
    with torch.device("meta"):
        described = timm.create_model(architecture, pretrained=False)
    accepted = inspect.signature(type(described).__init__).parameters
    wishes = {wish: value for wish, value in _WISHES.items() if wish in accepted}
    arguments: dict[str, Any] = wishes | dict(known.arguments)
    if known.gated_mlp:
        arguments |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    if known.norm_epsilon is not None:
        arguments["norm_layer"] = partial(nn.LayerNorm, eps=known.norm_epsilon)
    # Random weights of the published ones, which are large, would take a minute. They hold
    # nothing but parameters, and all of these are loaded.
    is_large = known.publication is not None
    device = torch.get_default_device()
    with torch.device("meta" if is_large else device):
        model = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    if is_large:
        model.to_empty(device=device)
    return model, dict(vars(described)["pretrained_cfg"])


def _require_buildable(name: str, known: KnownModel) -> str:
    """Return the name under which timm builds a model, or raise `WeightsError`."""
    if known.architecture is None:
        raise WeightsError(
            "this model is known, but timm cannot build it as an encoder",
            where=name,
            remedy="Choose a model of timm, or the default, " + DEFAULT_ENCODER + ".",
        )
    if not timm.is_model(known.architecture):
        close = difflib.get_close_matches(name, [*KNOWN_MODELS, *timm.list_models()], n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "See timm.list_models()."
        raise WeightsError("timm has no model of this name", where=name, remedy=hint)
    return known.architecture


def _weights(name: str, weights_file: Path | None) -> Weights:
    if weights_file is not None:
        return read_weights(weights_file)
    if name == DEFAULT_ENCODER:
        return packaged_efficientnet_lite0()
    publication = _known(name).publication
    file = "its weights file" if publication is None else publication.source
    raise WeightsError(
        "the weights of this encoder are not at hand, and nothing is downloaded",
        where=name,
        remedy=f"Get {file} (safetensors, or a torch state dict), and name it. "
        f"Licence: {licence_of(name).notice}",
        on_terminal="--encoder-weights FILE",
    )


@torch.no_grad()
def _width_and_stride(
    name: str, model: nn.Module, side: int, device: torch.device | str
) -> tuple[int, int]:
    """Measure the feature map of `model` on blank images: a square of `side`, and an oblong."""
    try:
        square = last_feature_map(model, torch.zeros(1, 3, side, side, device=device))
        _, width, rows, _ = square.shape
        stride = side // rows
        oblong = torch.zeros(1, 3, 9 * stride, 11 * stride, device=device)
        suits = last_feature_map(model, oblong).shape == (1, width, 9, 11)
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _unsuited(name) from error
    if not suits:
        raise _unsuited(name)
    return width, stride


def _unsuited(name: str) -> WeightsError:
    return WeightsError(
        "this model gives no feature map for images of any size",
        where=name,
        remedy=f"Choose another model of timm, or the default, {DEFAULT_ENCODER}.",
    )
