"""An encoder that knows places sees a window as the part of the whole image that it is."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from napari_protoseg.encoders.encoder import last_feature_map
from napari_protoseg.encoders.placement import placed

NAMES = (
    "vit_tiny_patch16_224",
    "deit3_small_patch16_224",  # its embeddings have none for the class token
    "vit_small_patch14_reg4_dinov2",
    "flexivit_small",
    "eva02_tiny_patch14_224",
    "vit_small_patch16_dinov3",  # turns by places as parts of the image's sides
    "vit_small_patch16_rope_mixed_224",
)
WITH_PLACED_REGISTERS = "vit_tiny_patch16_224 with registers that have places, as Virchow2 has"


class WithoutContext(nn.Module):
    """A transformer whose tokens do not see each other: a place says what is there, and where."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        architecture, _, registers = name.partition(" ")
        more = {"reg_tokens": 4} if registers else {}
        self.vit = timm.create_model(
            architecture, num_classes=0, dynamic_img_size=True, **more
        ).eval()
        self.patch = self.vit.patch_embed.patch_size[0]
        for block in self.vit.blocks:
            block.attn = OwnTurn()

    def forward(self, images: Tensor) -> Tensor:
        return last_feature_map(self.vit, images)


class OwnTurn(nn.Module):
    """Shows in a channel by how much a token is turned, where tokens are turned."""

    def forward(self, tokens: Tensor, rope: Tensor | None = None, **_: object) -> Tensor:
        out = torch.zeros_like(tokens)
        if rope is not None:
            turns = rope.reshape(-1, *rope.shape[-2:])[0].sum(-1)
            out[:, -len(turns) :, 0] = turns
        return out


@pytest.mark.parametrize("name", [*NAMES, WITH_PLACED_REGISTERS])
@torch.inference_mode()
def test_a_placed_window_is_that_part_of_the_whole_image(name: str):
    encoder = WithoutContext(name)
    patch = encoder.patch
    images = torch.rand(1, 3, 12 * patch, 15 * patch)
    whole = encoder(images)[:, :, 3:10, 4:12]
    rows, columns = slice(3 * patch, 10 * patch), slice(4 * patch, 12 * patch)
    window = images[:, :, rows, columns]
    alone = encoder(window)
    with placed(encoder, (12 * patch, 15 * patch), rows, columns):
        torch.testing.assert_close(encoder(window), whole, rtol=0, atol=1e-5)
    assert not torch.allclose(alone, whole, rtol=0, atol=1e-3)
    assert torch.equal(encoder(window), alone)


def test_weights_are_restored_even_after_an_error():
    encoder = WithoutContext("vit_tiny_patch16_224")
    embeddings, grid = encoder.vit.pos_embed, encoder.vit.patch_embed.grid_size
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        placed(encoder, (320, 320), slice(0, 160), slice(0, 160)),
    ):
        assert encoder.vit.pos_embed is not embeddings
        raise RuntimeError("out of memory")
    assert encoder.vit.pos_embed is embeddings
    assert encoder.vit.patch_embed.grid_size == grid


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_resnet"])
@torch.inference_mode()
def test_what_knows_no_places_remains_as_it_is(name: str):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    window = torch.rand(1, 3, 224, 224)
    alone = last_feature_map(network, window)
    with placed(network, (448, 448), slice(224, 448), slice(0, 224)):
        assert torch.equal(last_feature_map(network, window), alone)
