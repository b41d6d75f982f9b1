"""Weights whose tensors claim more than they hold, or do not fit together, are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from napari_protoseg.encoders.tensor_names import as_timm_names
from napari_protoseg.encoders.weights import read_weights
from napari_protoseg.errors import WeightsError

STRANGE = {
    "expanded": torch.zeros(1).expand(10**6, 10**6),
    "sparse": torch.eye(4).to_sparse(),
    "nowhere": torch.zeros(4, 4, device="meta"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_tensor_that_is_no_dense_one_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv.weight": STRANGE[kind]}, path)
    assert path.stat().st_size < 10**5
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_weights(path)


def test_a_part_of_a_larger_tensor_is_no_strange_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv.weight": torch.arange(24.0).reshape(4, 6).T[1:]}, path)
    assert read_weights(path).state_dict["conv.weight"].shape == (5, 4)


QUERY = "encoder.layer.0.attention.attention.{0}.weight"
UNFIT: dict[str, dict[str, Tensor]] = {
    "attention": {
        "embeddings.cls_token": torch.zeros(1, 1, 4),
        **{
            QUERY.format(part): torch.zeros(width, width)
            for part, width in (("query", 4), ("key", 5), ("value", 4))
        },
    },
    "numbers": {
        "embeddings.cls_token": torch.zeros(1, 1, 4),
        **{QUERY.format(part): torch.tensor(1.0) for part in ("query", "key", "value")},
    },
    "registers": {
        "register_tokens": torch.zeros(1, 4, 8),
        "cls_token": torch.zeros(1, 1, 8),
        "pos_embed": torch.zeros(1, 5, 7),
    },
    "positions": {
        "register_tokens": torch.zeros(1, 4, 8),
        "cls_token": torch.zeros(1, 1, 8),
        "pos_embed": torch.zeros(5),
    },
}


@pytest.mark.parametrize("kind", UNFIT)
def test_tensors_that_do_not_fit_together_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(UNFIT[kind], path)
    with pytest.raises(WeightsError, match=r"weights\.pth: its tensors do not fit together"):
        as_timm_names(read_weights(path), nn.Module())
