"""Small forms of the pathology encoders, and their weights under the names of their publishers.

The names are written out here from what the publishers' code makes, apart from the table that the
program reads them by.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn

from napari_protoseg.encoders.pathology import PATHOLOGY_ENCODERS
from napari_protoseg.encoders.registry import KNOWN_MODELS

WIDTH, DEPTH = 48, 2
SMALL = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": 3}

# What the publishers' networks are, beside what timm takes for granted.
_SOURCES = {
    "hibou-b": (
        "vit_base_patch14_reg4_dinov2",
        {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 256 / WIDTH},
    ),
    "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {}),
    "uni": ("vit_large_patch16_224", {"init_values": 1e-5}),
    "conch": ("vit_base_patch16_224", {"img_size": 448}),
    "phikon": ("vit_base_patch16_224", {}),
    "virchow2": (
        "vit_huge_patch14_224",
        {
            "init_values": 1e-5,
            "reg_tokens": 4,
            "mlp_layer": SwiGLUPacked,
            "act_layer": nn.SiLU,
            "mlp_ratio": 256 / WIDTH,
        },
    ),
}


def make_small(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the program know the encoder called `name` at a small width and depth."""
    known = PATHOLOGY_ENCODERS[name]
    small = dataclasses.replace(known, arguments={**known.arguments, **SMALL})
    monkeypatch.setitem(KNOWN_MODELS, name, small)  # type: ignore[arg-type]


def source_model(name: str, seed: int = 0) -> nn.Module:
    """Return the publisher's network at that size, with weights none of which is trivial."""
    torch.manual_seed(seed)
    architecture, arguments = _SOURCES[name]
    settings = {"img_size": 224, "dynamic_img_size": True, **SMALL, **arguments}
    model = timm.create_model(architecture, pretrained=False, num_classes=0, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def write_published(path: Path, name: str, model: nn.Module, form: str = "") -> Path:
    """Write the weights of `model` as the publisher of the encoder called `name` does."""
    tensors = published_tensors(name, model.state_dict(), form)
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def published_tensors(name: str, tensors: dict[str, Tensor], form: str = "") -> dict[str, Tensor]:
    """Rename timm's `tensors` as the publisher names them."""
    if name == "conch":
        return {
            "logit_scale": torch.ones(()),
            "text.positional_embedding": torch.ones(4, 8),
            "visual.attn_pool_contrast.query": torch.ones(1, 8),
            **{f"visual.trunk.{key}": tensor for key, tensor in tensors.items()},
        }
    if name == "phikon":
        return _as_vit_of_transformers(tensors)
    if name == "hibou-b":
        with_registers = as_dinov2(tensors, gated=True)
        return with_registers if form == "dinov2" else _as_dinov2_of_transformers(with_registers)
    return tensors


def _as_vit_of_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    published = {
        "embeddings.cls_token": tensors["cls_token"],
        "embeddings.position_embeddings": tensors["pos_embed"],
        "pooler.dense.weight": torch.ones(WIDTH, WIDTH),
        "pooler.dense.bias": torch.ones(WIDTH),
    }
    for kind in ("weight", "bias"):
        published[f"embeddings.patch_embeddings.projection.{kind}"] = tensors[
            f"patch_embed.proj.{kind}"
        ]
        published[f"layernorm.{kind}"] = tensors[f"norm.{kind}"]
        for n in range(DEPTH):
            ours, theirs = f"blocks.{n}", f"encoder.layer.{n}"
            attention = tensors[f"{ours}.attn.qkv.{kind}"]
            published |= _three(f"{theirs}.attention.attention", kind, attention)
            published |= {
                f"{theirs}.attention.output.dense.{kind}": tensors[f"{ours}.attn.proj.{kind}"],
                f"{theirs}.intermediate.dense.{kind}": tensors[f"{ours}.mlp.fc1.{kind}"],
                f"{theirs}.output.dense.{kind}": tensors[f"{ours}.mlp.fc2.{kind}"],
                f"{theirs}.layernorm_before.{kind}": tensors[f"{ours}.norm1.{kind}"],
                f"{theirs}.layernorm_after.{kind}": tensors[f"{ours}.norm2.{kind}"],
            }
    return published


def as_dinov2(tensors: dict[str, Tensor], *, gated: bool) -> dict[str, Tensor]:
    """Rename timm's `tensors` as DINOv2's authors name them; `gated` is SwiGLU.

    The class token gets a position of its own.
    """
    position = torch.full_like(tensors["cls_token"], 0.3)
    published = {
        "cls_token": tensors["cls_token"] - position,
        "pos_embed": torch.cat([position, tensors["pos_embed"]], 1),
        "register_tokens": tensors["reg_token"],
        "mask_token": torch.ones_like(position[0]),
    }
    for key, tensor in tensors.items():
        if key not in {"cls_token", "pos_embed", "reg_token"}:
            of_layer = key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
            published[of_layer if gated else key] = tensor
    return published


def _as_dinov2_of_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    published = {
        "embeddings.cls_token": tensors["cls_token"],
        "embeddings.mask_token": tensors["mask_token"],
        "embeddings.register_tokens": tensors["register_tokens"],
        "embeddings.position_embeddings": tensors["pos_embed"],
    }
    for n in range(DEPTH):
        for scale in (1, 2):
            key = f"encoder.layer.{n}.layer_scale{scale}.lambda1"
            published[key] = tensors[f"blocks.{n}.ls{scale}.gamma"]
    for kind in ("weight", "bias"):
        published[f"embeddings.patch_embeddings.projection.{kind}"] = tensors[
            f"patch_embed.proj.{kind}"
        ]
        published[f"layernorm.{kind}"] = tensors[f"norm.{kind}"]
        for n in range(DEPTH):
            ours, theirs = f"blocks.{n}", f"encoder.layer.{n}"
            attention = tensors[f"{ours}.attn.qkv.{kind}"]
            published |= _three(f"{theirs}.attention.attention", kind, attention)
            published |= {
                f"{theirs}.attention.output.dense.{kind}": tensors[f"{ours}.attn.proj.{kind}"],
                f"{theirs}.mlp.weights_in.{kind}": tensors[f"{ours}.mlp.w12.{kind}"],
                f"{theirs}.mlp.weights_out.{kind}": tensors[f"{ours}.mlp.w3.{kind}"],
                f"{theirs}.norm1.{kind}": tensors[f"{ours}.norm1.{kind}"],
                f"{theirs}.norm2.{kind}": tensors[f"{ours}.norm2.{kind}"],
            }
    return published


def _three(layer: str, kind: str, joined: Tensor) -> dict[str, Tensor]:
    parts = joined.split(WIDTH)
    return {
        f"{layer}.{part}.{kind}": tensor
        for part, tensor in zip(("query", "key", "value"), parts, strict=True)
    }
