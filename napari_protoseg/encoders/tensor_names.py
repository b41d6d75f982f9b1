"""Weights of vision transformers under the names of timm, whoever published them.

Three publishers' namings are read beside timm's own: that of the library transformers (ViT, and
DINOv2 with or without registers), that of DINOv2's authors, and OpenCLIP's, where the image encoder
is one part of a larger model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from napari_protoseg.encoders.weights import Weights
from napari_protoseg.errors import WeightsError

_TRUNK = "visual.trunk."
_EMBEDDINGS = "embeddings."
_POOLER = "pooler."
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_DINOV2_MLP = re.compile(r"(blocks\.\d+\.mlp)\.(w12|w3)\.")
_QUERY_KEY_VALUE = ("query", "key", "value")

_OF_TRANSFORMERS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
# Of ViT and of DINOv2, which share no name.
_OF_BLOCKS_OF_TRANSFORMERS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "norm1": "norm1",
    "norm2": "norm2",
    **{f"attention.attention.{part}": f"attn.{part}" for part in _QUERY_KEY_VALUE},
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
}
_OF_DINOV2 = {"w12": "fc1", "w3": "fc2"}


def as_timm_names(weights: Weights, model: nn.Module) -> Weights:
    """Return `weights` under the names that timm's `model` gives its tensors.

    Names that no naming explains stay as they are. Position embeddings of another grid of
    patches are resampled to the model's.

    Parameters
    ----------
    weights
        As they were published.
    model
        A vision transformer of timm; the weights of others are returned as they are.

    Raises
    ------
    WeightsError
        Tensors that belong together have shapes that do not.
    """
    try:
        return replace(weights, state_dict=_renamed_for(model, weights.state_dict))
    except (RuntimeError, IndexError) as error:  # of torch, where shapes do not fit
        raise WeightsError(
            f"its tensors do not fit together ({error})",
            where=weights.path,
            remedy="Give the weights file as its authors have published it.",
        ) from error


def _renamed_for(model: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = dict(given)
    if any(name.startswith(_TRUNK) for name in tensors):
        tensors = {
            name.removeprefix(_TRUNK): tensor
            for name, tensor in tensors.items()
            if name.startswith(_TRUNK)
        }
    if any(name.startswith(_EMBEDDINGS) for name in tensors):
        tensors = _from_transformers(tensors)
    tensors = _from_dinov2(tensors)
    if "mask_token" not in model.state_dict():  # of training alone
        tensors.pop("mask_token", None)
    return _on_grid_of(model, tensors)


def _from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename to DINOv2's names, which are timm's but for registers; join what attention parts."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        if block is not None:
            inner = _renamed(block[2], _OF_BLOCKS_OF_TRANSFORMERS)
            named[name if inner is None else f"blocks.{block[1]}.{inner}"] = tensor
        elif not name.startswith(_POOLER):  # behind the tokens, and not asked for
            named[_renamed(name, _OF_TRANSFORMERS) or name] = tensor
    for name in [name for name in named if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in _QUERY_KEY_VALUE]
        if all(part in named for part in parts):
            joined = torch.cat([named.pop(part) for part in parts])
            named[name.replace(".query.", ".qkv.")] = joined
    return named


def _from_dinov2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename registers and SwiGLU; add to the class token its position, as timm has it."""
    named = {
        _DINOV2_MLP.sub(lambda found: f"{found[1]}.{_OF_DINOV2[found[2]]}.", name): tensor
        for name, tensor in tensors.items()
    }
    positions, class_token = named.get("pos_embed"), named.get("cls_token")
    if "register_tokens" in named and positions is not None and class_token is not None:
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = class_token + positions[:, :1]
        named["pos_embed"] = positions[:, 1:]
    return named


def _on_grid_of(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resample position embeddings of another square grid to that of `model`."""
    own, given = getattr(model, "pos_embed", None), tensors.get("pos_embed")
    if own is None or given is None or given.ndim != 3 or given.shape[1] == own.shape[1]:
        return tensors
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    side = math.isqrt(max(given.shape[1] - prefix, 0))
    if side == 0 or side**2 != given.shape[1] - prefix:
        return tensors
    grid = model.patch_embed.grid_size
    resampled = resample_abs_pos_embed(given, list(grid), [side, side], num_prefix_tokens=prefix)
    return tensors | {"pos_embed": resampled}


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Look up a tensor by its name, or by that of the layer that it belongs to."""
    if name in names:
        return names[name]
    layer, _, tensor = name.rpartition(".")
    return f"{names[layer]}.{tensor}" if layer in names else None
