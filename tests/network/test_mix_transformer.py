"""Mix transformers in less memory give the numbers of the plain ones, and take their weights."""

from __future__ import annotations

import copy

import pytest
import torch
from segmentation_models_pytorch.encoders._utils import replace_strides_with_dilation
from segmentation_models_pytorch.encoders.mix_transformer import Attention, Block
from torch import nn

from napari_protoseg.network import mix_transformer
from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.mix_transformer import FrugalBlock, FusedAttention, make_frugal


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


def test_the_scale_of_queries_and_keys_is_taken_over():
    torch.manual_seed(0)
    tokens = torch.randn(2, 64, 40, dtype=torch.float64)
    scaled = Attention(40, num_heads=2, qk_scale=0.9, sr_ratio=2).double().eval()
    expected = scaled(tokens, 8, 8)
    torch.testing.assert_close(FusedAttention(scaled)(tokens, 8, 8), expected, rtol=0, atol=1e-9)
    usual = Attention(40, num_heads=2, sr_ratio=2).double().eval()
    usual.load_state_dict(scaled.state_dict())
    assert not torch.allclose(usual(tokens, 8, 8), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_dropout_of_weights_is_that_of_the_plain_attention_in_training_only():
    torch.manual_seed(0)
    plain = Attention(40, num_heads=2, qkv_bias=True, attn_drop=0.5, sr_ratio=2)
    fused, tokens = FusedAttention(copy.deepcopy(plain)), torch.randn(1, 64, 40)
    spreads = []
    for attention in (plain.train(), fused.train()):
        outs = torch.stack([attention(tokens, 8, 8) for _ in range(400)])
        spreads.append(outs.std(0).mean())
    assert spreads[0] > 0.001
    torch.testing.assert_close(*spreads, rtol=0.1, atol=0)
    torch.testing.assert_close(
        fused.eval()(tokens, 8, 8), plain.eval()(tokens, 8, 8), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("size", [(16, 16), (16, 208), (48, 16)])
def test_images_narrower_than_a_reduced_place_are_attended_to(size: tuple[int, int]):
    torch.manual_seed(0)
    backbone = create_backbone("mit_b1").eval()
    with torch.inference_mode():
        stages = backbone(torch.rand(2, 3, *size))
    for stage, stride in zip(stages, backbone.strides, strict=True):
        assert stage.shape[2:] == (size[0] // stride, size[1] // stride)
        assert stage.isfinite().all()
        assert not torch.allclose(stage[0], stage[1])


@pytest.fixture(params=[1, 3000, 5000, 10**9], ids=lambda numbers: f"bands of {numbers}")
def band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(mix_transformer, "BAND", request.param)
    return request.param


def block(reduction: int, *, dilation: int = 1, **dropout: float) -> Block:
    torch.manual_seed(0)
    made = Block(16, num_heads=2, qkv_bias=True, sr_ratio=reduction, **dropout)
    replace_strides_with_dilation(made.mlp, dilation)
    return made


@pytest.mark.usefixtures("band")
@pytest.mark.parametrize(("reduction", "dilation"), [(1, 1), (1, 2), (2, 3), (4, 1), (8, 2)])
@pytest.mark.parametrize("size", [(16, 24), (9, 11), (33, 8), (5, 40), (1, 8)])
@torch.no_grad()
def test_a_block_in_bands_of_rows_equals_the_plain_one(
    reduction: int, dilation: int, size: tuple[int, int]
):
    plain = block(reduction, dilation=dilation).double().eval()
    images, frugal = torch.randn(2, 16, *size, dtype=torch.float64), FrugalBlock(plain)
    if min(size) < reduction:  # the plain one has no place to attend to
        with torch.enable_grad():
            expected = frugal(images)
    else:
        expected = plain(images)
    torch.testing.assert_close(frugal(images), expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("band")
def test_a_backbone_in_bands_of_rows_gives_the_maps_of_the_plain_one():
    torch.manual_seed(0)
    backbone, images = create_backbone("mit_b1").eval(), torch.rand(1, 3, 144, 80)
    expected = backbone(images)
    with torch.inference_mode():
        found = backbone(images)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_bands_are_as_narrow_as_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mix_transformer, "BAND", 5000)
    frugal, held = FrugalBlock(block(4).eval()), []
    for layer in frugal.modules():
        layer.register_forward_hook(lambda _, __, out: held.append(out.numel()))
    frugal(torch.rand(1, 16, 64, 24))
    *within, whole = held
    assert max(within) < 2 * 5000 < whole


def test_where_gradients_are_asked_for_a_block_is_the_plain_one():
    plain = block(2).double().eval()
    frugal = FrugalBlock(copy.deepcopy(plain))
    assert sorted(frugal.state_dict()) == sorted(plain.state_dict())
    found = []
    for network in (plain, frugal):
        images = torch.ones(1, 16, 8, 8, dtype=torch.float64).cumsum(3).requires_grad_()
        out = network(images)
        out.square().sum().backward()
        found.append((out, images.grad, network.mlp.fc1.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_dropout_of_paths_and_tokens_remains_in_training_mode():
    frugal, images = FrugalBlock(block(2, drop=0.3, drop_path=0.3)), torch.randn(1, 16, 8, 8)
    assert not torch.allclose(frugal.train()(images), frugal(images))
    frugal.eval()
    assert torch.equal(frugal(images.clone()), frugal(images.clone()))


def test_every_block_within_is_exchanged():
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ModuleDict({"block": Block(8, 2)}))
    make_frugal(module)
    assert isinstance(module[1]["block"], FrugalBlock)
    assert not any(isinstance(m, Attention) for m in module.modules())
    assert sum(isinstance(m, FrugalBlock) for m in create_backbone("mit_b1").modules()) == 8
