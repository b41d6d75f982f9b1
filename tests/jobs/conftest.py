"""The workspaces of `tiny_project`, and a training that is short."""

import pytest
from tiny_backbone import TINY, tiny_weights
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
    weights = tiny_weights(tmp_path_factory.mktemp("weights"))
    config = TrainingConfig(
        backbone=TINY,
        epochs=2,
        batch_size=8,
        competing=False,
        matching=Matching.DENSE,
    )
    return TrainRequest(config=config, backbone_weights=weights)
