"""Weights are read without running code, and fit their model or are refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from napari_protoseg.encoders.weights import (
    load_weights_into,
    packaged_efficientnet_lite0,
    read_weights,
)
from napari_protoseg.errors import StorageError, WeightsError


class _TouchesAFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def _same(left: object, right: dict[str, torch.Tensor]) -> bool:
    assert isinstance(left, dict)
    return list(left) == list(right) and all(torch.equal(left[k], right[k]) for k in right)


def test_safetensors_are_read_with_the_hash_of_the_file(tmp_path: Path, tensors) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    weights = read_weights(path)
    assert sorted(weights.state_dict) == sorted(tensors)
    assert torch.equal(weights.state_dict["a.weight"], tensors["a.weight"])
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_torch_file_is_unwrapped(
    tmp_path: Path, tensors, wrapper: str | None, legacy: bool
) -> None:
    parallel = {f"module.{name}": tensor for name, tensor in tensors.items()}
    content = parallel if wrapper is None else {wrapper: parallel, "epoch": 3}
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert _same(read_weights(path).state_dict, tensors)


@pytest.mark.parametrize("saved_by", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, saved_by: str) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "it ran"
    payload = {"a": _TouchesAFile(trace)}
    if saved_by == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(WeightsError, match="never run") as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "safetensors" in caught.value.remedy
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"just some text\n", bytes(range(256)) * 40])
def test_a_file_of_something_else_is_refused_by_name(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"weights{suffix}"):
        read_weights(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, tensors, suffix: str, kept: float) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError):
        read_weights(path)


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {}, {"state_dict": {"a": "b"}}])
def test_a_torch_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="not a state dict"):
        read_weights(path)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")


def test_packaged_weights_are_all_those_of_the_model() -> None:
    weights = packaged_efficientnet_lite0()
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_weights_into(model, weights)
    assert len(weights.state_dict) == 247
    for name, tensor in weights.state_dict.items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_weights_of_another_model_are_refused_naming_tensors(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    model = timm.create_model("test_resnet", pretrained=False)
    with pytest.raises(
        WeightsError, match=r"not the weights of this model: \d+ tensors are missing \(conv1\."
    ):
        load_weights_into(model, read_weights(path))


def test_only_the_classifier_may_be_left_over(tmp_path: Path) -> None:
    full = timm.create_model("test_resnet", pretrained=False, num_classes=7)
    path = tmp_path / "full.safetensors"
    save_file(full.state_dict() | {"teacher.weight": torch.ones(2)}, path)
    bare = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    with pytest.raises(WeightsError, match=r"unknown to the model \(teacher.weight\)"):
        load_weights_into(bare, read_weights(path), without=["fc"])
    save_file(full.state_dict(), path)
    load_weights_into(bare, read_weights(path), without=["fc"])
    assert all(torch.equal(v, full.state_dict()[k]) for k, v in bare.state_dict().items())


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    other = timm.create_model("test_resnet", pretrained=False, num_classes=4)
    path = tmp_path / "other.safetensors"
    save_file(other.state_dict(), path)
    with pytest.raises(WeightsError, match=r"another shape \(fc\."):
        load_weights_into(model, read_weights(path))


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path: Path) -> None:
    saved, packed = tmp_path / "saved.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(10**6)}, saved)
    with zipfile.ZipFile(saved) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in parts.namelist():
            new.writestr(name, parts.read(name))
    assert read_weights(saved).state_dict
    with pytest.raises(WeightsError, match=r"packed\.pth"):
        read_weights(packed)


@pytest.mark.parametrize("size", [10**10, 2**62])
def test_a_pickle_that_asks_for_all_memory_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\nL%dL\n\x85R." % size)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_weights(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(StorageError, match="not a file"):
        read_weights(tmp_path / "weights.pth")
