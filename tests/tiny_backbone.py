"""A backbone that is small enough to be trained in a test, with weights of its own."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

TINY = "test_efficientnet"


def tiny_weights(folder: Path) -> Path:
    """Write weights of the backbone `TINY`, always the same, and return their file."""
    torch.manual_seed(0)
    network = timm.create_model(TINY, pretrained=False)
    weights = folder / "backbone.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
    return weights
