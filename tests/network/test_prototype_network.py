"""The prototype network: maps that are similarities, adapters, and baselines."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tiny_networks import TINY, random, tiny_network

from napari_protoseg.errors import WeightsError
from napari_protoseg.network.backbones import DEFAULT_BACKBONE, create_backbone, pretrained_weights
from napari_protoseg.network.baselines import PlainCam
from napari_protoseg.network.classification import STAGES, PrototypeNetwork, adapter

POSITIONS = (0, 0, 1)


def images(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", [DEFAULT_BACKBONE, "resnet50", "mit_b1", TINY])
def test_backbones_have_stages_of_strides_4_8_16_16(name: str):
    backbone = create_backbone(name)
    with torch.no_grad():
        stages = backbone.eval()(images(64))
    assert [tuple(stage.shape) for stage in stages] == [
        (2, width, 64 // stride, 64 // stride)
        for width, stride in zip(backbone.widths, (4, 8, 16, 16), strict=True)
    ]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "no_such_network", "mit_b9"])
def test_a_backbone_without_these_stages_is_refused(name: str):
    with pytest.raises(WeightsError, match="strides 4, 8, 16 and 16"):
        create_backbone(name)


def test_only_the_default_backbone_comes_with_weights():
    backbone = create_backbone(DEFAULT_BACKBONE, pretrained_weights(DEFAULT_BACKBONE))
    assert backbone.widths == (24, 40, 112, 320)
    with pytest.raises(WeightsError, match="non-commercial") as caught:
        pretrained_weights("mit_b1")
    assert caught.value.on_terminal == "--backbone-weights FILE"


def test_statistics_of_batch_normalisation_stay_while_training():
    backbone = create_backbone(TINY).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(images())
    assert before
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())
    assert backbone.features.training


def test_an_adapter_is_two_linear_layers_around_a_relu():
    adapt = adapter(10, 7).double()
    first, second = (module for module in adapt if isinstance(module, torch.nn.Linear))
    rows = random(4, 10)
    hidden = (rows @ first.weight.T + first.bias).clamp(min=0)
    assert hidden.shape == (4, 5)
    torch.testing.assert_close(adapt(rows), hidden @ second.weight.T + second.bias)
    assert adapt(rows).shape == (4, 7)
    assert adapter(1, 7)(torch.ones(2, 1)).shape == (2, 7)


@pytest.mark.parametrize("cosine", [False, True])
def test_a_map_is_a_scaled_product_of_normalised_pixels_and_adapted_prototypes(cosine: bool):
    network = tiny_network(POSITIONS, 2, cosine=cosine).double().eval()
    with torch.no_grad():
        maps = network(images().double())
        features = network.backbone(images().double())
        for stage, got, adapt in zip(STAGES, maps, network.adapters, strict=True):
            pixels = features[stage]
            assert got.shape == (2, 3, *pixels.shape[2:])
            for b, p, y, x in ((0, 0, 0, 0), (1, 2, 3, 1), (1, 1, 2, 3)):
                pixel, prototype = pixels[b, :, y, x], adapt(network.prototypes[p])
                expected = (pixel @ prototype) / pixel.norm() / 0.07
                if cosine:
                    expected = expected / prototype.norm()
                torch.testing.assert_close(got[b, p, y, x], expected)
    if cosine:
        assert max(float(m.abs().max()) for m in maps) <= 1 / 0.07 + 1e-6


def test_scales_and_adapters_learn_but_prototypes_do_not():
    network = tiny_network(POSITIONS, 2)
    sum(stage.sum() for stage in network(images())).backward()
    learnt = {name for name, p in network.named_parameters() if p.grad is not None}
    assert "scales" in learnt
    assert {f"adapters.{s}.{layer}.weight" for s in range(3) for layer in (0, 2)} <= learnt
    assert "prototypes" not in dict(network.named_parameters())


def test_logits_are_means_over_pixels_and_over_the_prototypes_of_a_class():
    network = tiny_network((0, 0, 2), 3)
    maps = random(2, 3, 4, 5)
    of_prototypes = network.prototype_logits(maps)
    torch.testing.assert_close(of_prototypes, maps.flatten(2).mean(2))
    of_classes = network.class_logits(of_prototypes)
    torch.testing.assert_close(of_classes[:, 0], of_prototypes[:, :2].mean(1))
    torch.testing.assert_close(of_classes[:, 2], of_prototypes[:, 2])
    assert (of_classes[:, 1] == 0).all(), "a class without a prototype is undecided"


def test_a_plain_map_averages_to_the_logit_of_a_linear_classifier():
    torch.manual_seed(0)
    model = PlainCam(create_backbone(TINY), 3).eval()
    with torch.no_grad():
        (maps,) = model(images())
        pooled = model.backbone(images())[-1].mean((2, 3))
        weight = model.classifier.weight[:, :, 0, 0]
        torch.testing.assert_close(
            model.class_logits(model.prototype_logits(maps)),
            pooled @ weight.T + model.classifier.bias,
            atol=1e-5,
            rtol=1e-5,
        )
    assert model.strides == (16,)


def test_a_network_has_any_number_of_prototypes():
    network = PrototypeNetwork(create_backbone(TINY), torch.ones(1, 4), [0], 1, cosine=False)
    assert [m.shape[1] for m in network(images(32))] == [1, 1, 1]


def test_competing_prototypes_are_compared_as_seen_from_a_centre():
    network = competing_network()
    batches = [(images(), torch.tensor([3.0, 1.0])), (images()[:1] / 2, torch.tensor([4.0]))]
    with torch.no_grad():
        directions = [network.mean_directions(batch) for batch, _ in batches]
    of_stages = [torch.cat(parts) for parts in zip(*directions, strict=True)]
    network.centre_on(of_stages, torch.cat([weights for _, weights in batches]))
    with torch.no_grad():
        network.biases.copy_(torch.tensor([0.5, -0.5, 0.0]))
        features = [network.backbone(batch)[STAGES[1]] for batch, _ in batches]
        maps = network(images())[1]
        adapted = network.adapters[1](network.prototypes)
    means = torch.cat([F.normalize(each, dim=1).mean((2, 3)) for each in features])
    centre = (torch.tensor([3.0, 1.0, 4.0])[:, None] * means).sum(0) / 8
    place = F.normalize(features[0][1, :, 2, 1], dim=0) - centre
    for prototype, bias in enumerate((0.5, -0.5, 0.0)):
        cosine = F.cosine_similarity(place, adapted[prototype], dim=0)
        expected = network.scales[1].detach() * cosine + bias
        torch.testing.assert_close(maps[1, prototype, 2, 1], expected, rtol=1e-4, atol=1e-4)


def test_the_centre_is_kept_with_the_weights():
    network, other = competing_network(), competing_network()
    network.centre_on(network.mean_directions(images()), torch.ones(2))
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(network(images()), other(images()), strict=True):
            torch.testing.assert_close(ours, theirs)


def competing_network() -> PrototypeNetwork:
    torch.manual_seed(0)
    prototypes = torch.randn(3, 8)
    backbone = create_backbone(TINY)
    network = PrototypeNetwork(backbone, prototypes, POSITIONS, 2, cosine=True, competing=True)
    return network.eval()
