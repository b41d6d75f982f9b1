"""The workspaces of `tiny_project`, and a training that is short."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_project import (  # noqa: F401
    banked,
    banked_workspace,
    both_stages,
    both_stages_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)

from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.training.config import Matching, TrainingConfig


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> TrainRequest:
    """Two epochs of a small network, with dense matching."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False)
    weights = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
    config = TrainingConfig(
        backbone="test_efficientnet",
        epochs=2,
        batch_size=8,
        competing=False,
        matching=Matching.DENSE,
    )
    return TrainRequest(config=config, backbone_weights=weights)
