"""Small networks that the tests of this folder share."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_protoseg.network.backbones import create_backbone
from napari_protoseg.network.classification import PrototypeNetwork

TINY = "test_efficientnet"


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny_network(
    class_positions: tuple[int, ...], classes: int, *, cosine: bool = False
) -> PrototypeNetwork:
    torch.manual_seed(0)
    return PrototypeNetwork(
        create_backbone(TINY),
        random(len(class_positions), 8, seed=1).float(),
        class_positions,
        classes,
        cosine=cosine,
    )
