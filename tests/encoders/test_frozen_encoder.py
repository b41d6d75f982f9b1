"""The encoder gives timm's features, never changes, and lets the image's gradient through."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from napari_protoseg.encoders.encoder import FrozenEncoder, create_encoder
from napari_protoseg.encoders.registry import DEFAULT_ENCODER, KNOWN_MODELS, licence_of
from napari_protoseg.encoders.weights import load_weights_into, packaged_efficientnet_lite0
from napari_protoseg.errors import WeightsError


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    return create_encoder(device="cpu")


def _images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _weights_file(folder: Path, name: str, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    path = folder / f"{name}.safetensors"
    save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    return path


def test_the_default_is_timms_model_with_the_same_weights(encoder: FrozenEncoder) -> None:
    images = _images(2, 3, 96, 128)
    reference = timm.create_model(
        DEFAULT_ENCODER, pretrained=False, features_only=True, output_stride=16
    ).eval()
    load_weights_into(
        reference, packaged_efficientnet_lite0(), without=["conv_head", "bn2", "classifier"]
    )
    with torch.no_grad():
        expected = reference((images - 0.5) / 0.5)[-1]
        assert torch.equal(encoder.dense(images), expected)
        assert torch.equal(encoder.embed(images), expected.mean(dim=(2, 3)))
    assert (encoder.width, encoder.stride) == (320, 16) == (expected.shape[1], 96 // 6)


def test_a_transformer_gives_its_normalised_tokens_as_a_map(tmp_path: Path) -> None:
    path = _weights_file(tmp_path, "test_vit")
    encoder = create_encoder("test_vit", path, device="cpu")
    torch.manual_seed(0)
    reference = timm.create_model("test_vit", pretrained=False).eval()
    side = reference.pretrained_cfg["input_size"][-1]
    images = _images(1, 3, side, side)
    with torch.no_grad():
        tokens = reference.forward_features((images - encoder.mean) / encoder.std)
        tokens = tokens[:, reference.num_prefix_tokens :]
        dense = encoder.dense(images)
    assert torch.allclose(dense.flatten(2).transpose(1, 2), tokens, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", DEFAULT_ENCODER])
@pytest.mark.parametrize("size", [(32, 32), (70, 33), (161, 200)])
def test_images_of_any_size_are_padded_to_whole_positions(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    path = None if name == DEFAULT_ENCODER else _weights_file(tmp_path, name)
    encoder = create_encoder(name, path, device="cpu")
    height, width = size
    with torch.no_grad():
        dense = encoder.dense(_images(1, 3, height, width))
    stride = encoder.stride
    assert dense.shape == (1, encoder.width, -(-height // stride), -(-width // stride))


def test_padding_repeats_the_edge(encoder: FrozenEncoder) -> None:
    images = _images(1, 3, 64, 64)
    with torch.no_grad():
        padded_by_hand = torch.nn.functional.pad(images[..., :60], (0, 4, 0, 0), mode="replicate")
        assert torch.equal(encoder.dense(images[..., :60]), encoder.dense(padded_by_hand))


def test_training_leaves_the_encoder_as_it_is(encoder: FrozenEncoder) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    encoder.dense(_images(2, 3, 64, 64)).sum()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_the_gradient_reaches_the_image(encoder: FrozenEncoder) -> None:
    images = _images(1, 3, 50, 64).requires_grad_()
    encoder.embed(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().amax(dim=1).gt(0).float().mean() > 0.9
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_other_weights_make_another_identity(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = create_encoder("test_resnet", _weights_file(tmp_path / "a", "test_resnet"), device="cpu")
    two = create_encoder(
        "test_resnet", _weights_file(tmp_path / "b", "test_resnet", seed=1), device="cpu"
    )
    assert one.identity.weights_sha256 != two.identity.weights_sha256
    assert one.identity.fingerprint != two.identity.fingerprint
    relicensed = one.identity.model_copy(update={"licence": "as bought"})
    assert relicensed.fingerprint == one.identity.fingerprint


def test_without_weights_the_error_says_how_to_give_them() -> None:
    with pytest.raises(WeightsError, match="name it") as caught:
        create_encoder("resnet50", device="cpu")
    assert caught.value.where == "resnet50"
    assert caught.value.on_terminal == "--encoder-weights FILE"
    assert "nothing is downloaded" in str(caught.value)


@pytest.mark.parametrize("name", ["tf_efficientnet_lit0", "hf-hub:some/model", ""])
def test_an_unknown_model_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="no model of this name"):
        create_encoder(name, device="cpu")


def test_a_misspelt_model_gets_a_suggestion() -> None:
    with pytest.raises(WeightsError, match=r"Did you mean .*tf_efficientnet_lite0"):
        create_encoder("tf_efficientnet_lit0", device="cpu")


def test_a_model_that_timm_cannot_build_is_refused() -> None:
    with pytest.raises(WeightsError, match="timm cannot build"):
        create_encoder("ctranspath", device="cpu")


def test_a_model_of_one_image_size_only_is_refused(tmp_path: Path) -> None:
    name = "mixer_s32_224"
    with pytest.raises(WeightsError, match="images of any size"):
        create_encoder(name, _weights_file(tmp_path, name), device="cpu")


def test_every_known_model_names_its_licence() -> None:
    for name, known in KNOWN_MODELS.items():
        assert licence_of(name) is known.licence
        assert known.architecture is None or timm.is_model(known.architecture)
    assert licence_of(DEFAULT_ENCODER).commercial is True
    assert licence_of("mit_b1").commercial is False
    assert licence_of("vgg16").commercial is None
    assert licence_of("vgg16").name == "unknown; check its model card"


@pytest.mark.parametrize("name", ["uni", "h-optimus-0"])
def test_pathology_models_are_built_as_their_weights_ask(name: str) -> None:
    known = KNOWN_MODELS[name]
    with torch.device("meta"):
        model = timm.create_model(
            known.architecture, pretrained=False, num_classes=0, **known.arguments
        )
    assert model.patch_embed.img_size == (224, 224)
    assert "blocks.0.ls1.gamma" in model.state_dict()
