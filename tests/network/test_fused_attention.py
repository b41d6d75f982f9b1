"""Fused attention gives the numbers of the plain one, and takes its weights."""

from __future__ import annotations

import copy

import pytest
import torch
from segmentation_models_pytorch.encoders.mix_transformer import Attention
from torch import nn

from napari_protoseg.network.attention import FusedAttention, fuse_attention


@pytest.mark.parametrize(("heads", "reduction"), [(1, 8), (2, 4), (5, 2), (8, 1)])
def test_values_and_gradients_equal_the_plain_attention(heads: int, reduction: int):
    torch.manual_seed(0)
    plain = Attention(40, num_heads=heads, qkv_bias=True, sr_ratio=reduction).double().eval()
    fused = FusedAttention(copy.deepcopy(plain))
    assert list(fused.state_dict()) == list(plain.state_dict())
    tokens = torch.randn(2, 16 * 24, 40, dtype=torch.float64)
    found = []
    for attention in (plain, fused):
        own = tokens.clone().requires_grad_()
        out = attention(own, 16, 24)
        out.square().sum().backward()
        found.append((out, own.grad, attention.kv.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_every_attention_within_is_exchanged():
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ModuleDict({"attn": Attention(8)}))
    fuse_attention(module)
    assert isinstance(module[1]["attn"], FusedAttention)
    assert not any(isinstance(m, Attention) for m in module.modules())
