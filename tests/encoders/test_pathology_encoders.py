"""Each pathology encoder of the table is the network that its publisher's weights belong to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from published_weights import (
    DEPTH,
    WIDTH,
    as_dinov2,
    make_small,
    published_tensors,
    source_model,
    write_published,
)
from safetensors.torch import save_file

from napari_protoseg.encoders.encoder import create_encoder, empty_encoder
from napari_protoseg.encoders.identity import EncoderIdentity
from napari_protoseg.encoders.pathology import PATHOLOGY_ENCODERS
from napari_protoseg.encoders.registry import KNOWN_MODELS
from napari_protoseg.errors import WeightsError

NAMES = tuple(PATHOLOGY_ENCODERS)
FILES = [
    ("hibou-b", "model.safetensors", ""),
    ("hibou-b", "hibou-b.pth", "dinov2"),
    ("h-optimus-0", "pytorch_model.bin", ""),
    ("uni", "pytorch_model.bin", ""),
    ("conch", "pytorch_model.bin", ""),
    ("phikon", "model.safetensors", ""),
    ("phikon", "pytorch_model.bin", ""),
    ("virchow2", "model.safetensors", ""),
]


def _images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_at_full_size_it_has_the_published_shape(name: str) -> None:
    known = PATHOLOGY_ENCODERS[name]
    published = known.publication
    assert published is not None and known.mean is not None and known.std is not None
    identity = EncoderIdentity(
        name=name,
        weights_sha256="0" * 64,
        mean=known.mean,
        std=known.std,
        width=published.width,
        stride=published.patch,
        licence=known.licence.name,
    )
    side, patch = published.side, published.patch
    with torch.device("meta"):  # shapes alone: no weights, no memory
        encoder = empty_encoder(identity)
        dense = encoder.dense(torch.empty(2, 3, side, side))
        odd = encoder.dense(torch.empty(1, 3, side + 1, 2 * side - 1))
        embedding = encoder.embed(torch.empty(2, 3, side, side))
    assert dense.device.type == "meta"
    assert dense.shape == (2, published.width, side // patch, side // patch)
    assert odd.shape == (1, published.width, side // patch + 1, 2 * side // patch)
    assert embedding.shape == (2, published.width)
    assert encoder.model.num_prefix_tokens == published.prefix_tokens
    assert not [*encoder.model.buffers()]  # which no weights file would fill
    millions = sum(parameter.numel() for parameter in encoder.model.parameters()) / 1e6
    assert millions == pytest.approx(published.parameters, rel=0.005)


@pytest.mark.parametrize(("name", "file", "form"), FILES)
@torch.no_grad()
def test_a_published_file_gives_the_tokens_of_the_model_that_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, file: str, form: str
) -> None:
    make_small(monkeypatch, name)
    source = source_model(name)
    path = write_published(tmp_path / file, name, source, form)
    encoder = create_encoder(name, path, device="cpu")
    published = PATHOLOGY_ENCODERS[name].publication
    assert published is not None
    assert (encoder.width, encoder.stride) == (WIDTH, published.patch)
    assert encoder.identity.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert encoder.identity.licence == KNOWN_MODELS[name].licence.name
    for size in ((published.side, published.side), (9 * published.patch, 12 * published.patch)):
        images = _images(2, 3, *size)
        normalised = (images - encoder.mean) / encoder.std
        tokens = source.forward_features(normalised)[:, published.prefix_tokens :]
        dense = encoder.dense(images)
        rows, columns = (side // published.patch for side in size)
        assert dense.shape == (2, WIDTH, rows, columns)
        torch.testing.assert_close(dense.permute(0, 2, 3, 1).reshape(tokens.shape), tokens)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_builds_the_same_network_without_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    make_small(monkeypatch, name)
    path = write_published(tmp_path / "weights.bin", name, source_model(name))
    encoder = create_encoder(name, path, device="cpu")
    again = empty_encoder(encoder.identity)
    again.load_state_dict(encoder.state_dict())
    images = _images(1, 3, 100, 90)
    with torch.no_grad():
        assert torch.equal(again.dense(images), encoder.dense(images))


def test_positions_of_another_grid_are_resampled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_small(monkeypatch, "hibou-b")
    source = source_model("hibou-b")
    tensors = published_tensors("hibou-b", source.state_dict())
    rows = torch.linspace(0, 1, 37).view(1, 37, 1, 1).expand(1, 37, 37, WIDTH)
    of_class = tensors["embeddings.position_embeddings"][:, :1]
    tensors["embeddings.position_embeddings"] = torch.cat([of_class, rows.flatten(1, 2)], 1)
    path = tmp_path / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    model = create_encoder("hibou-b", path, device="cpu").model
    grid = model.pos_embed.view(16, 16, WIDTH)
    torch.testing.assert_close(grid, grid[:, :1, :1].expand_as(grid), rtol=0, atol=1e-5)
    downwards = grid[:, 0, 0]
    assert (downwards.diff() > 0.04).all()
    torch.testing.assert_close(downwards + downwards.flip(0), torch.ones(16))
    torch.testing.assert_close(model.cls_token, source.cls_token)


@torch.no_grad()
def test_a_transformer_that_is_only_known_to_timm_takes_the_file_of_its_authors(
    tmp_path: Path,
) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    torch.manual_seed(0)
    source = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    path = tmp_path / "dinov2_vits14_reg4_pretrain.pth"
    torch.save(as_dinov2(source.state_dict(), gated=False), path)
    encoder = create_encoder(name, path, device="cpu")
    images = _images(1, 3, 98, 126)
    tokens = source.forward_features((images - encoder.mean) / encoder.std)[:, 5:]
    torch.testing.assert_close(encoder.dense(images).flatten(2).transpose(1, 2), tokens)


def test_what_is_missing_and_what_is_too_much_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_small(monkeypatch, "phikon")
    tensors = published_tensors("phikon", source_model("phikon").state_dict())
    del tensors["encoder.layer.1.attention.attention.value.bias"]
    tensors["encoder.layer.1.adapter.weight"] = torch.ones(3)
    path = tmp_path / "pytorch_model.bin"
    torch.save(tensors, path)
    with pytest.raises(WeightsError) as caught:
        create_encoder("phikon", path, device="cpu")
    assert "1 tensors are missing (blocks.1.attn.qkv.bias)" in caught.value.what
    assert "encoder.layer.1.adapter.weight" in caught.value.what
    assert caught.value.where == str(path)
    assert "huggingface.co/owkin/phikon" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "other"),
    [("uni", "phikon"), ("virchow2", "h-optimus-0"), ("conch", "uni"), ("hibou-b", "phikon")],
)
def test_the_file_of_another_encoder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, other: str
) -> None:
    make_small(monkeypatch, name)
    path = write_published(tmp_path / "pytorch_model.bin", other, source_model(other))
    with pytest.raises(WeightsError, match="not the weights of this model"):
        create_encoder(name, path, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_without_weights_the_error_says_where_they_are_had(name: str) -> None:
    known = PATHOLOGY_ENCODERS[name]
    assert known.publication is not None
    with pytest.raises(WeightsError, match="nothing is downloaded") as caught:
        create_encoder(name, device="cpu")
    assert known.publication.page in caught.value.remedy
    assert known.licence.notice in caught.value.remedy
    assert ("registration" in caught.value.remedy) is known.publication.gated


def test_small_encoders_have_what_the_tests_count_on() -> None:
    assert all(len(source_model(name).blocks) == DEPTH for name in NAMES)
