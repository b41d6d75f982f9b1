"""The device that arithmetic runs on, chosen in one place."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from napari_protoseg.errors import TrainingError


def choose_device(name: str | None = None) -> torch.device:
    """Return the named device, or the best there is: CUDA, then MPS, then CPU.

    Raises
    ------
    TrainingError
        The named device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, colon, number = name.partition(":")
    known = available.get(kind, False) and (not colon or number in map(str, range(64)))
    if not known or (kind == "cuda" and number and int(number) >= torch.cuda.device_count()):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise TrainingError(
            "no such device on this machine",
            where=name,
            remedy=f"Leave the device out, or choose one of: {here}.",
        )
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Name a device as its owner knows it."""
    if device.type == "cuda":
        return f"CUDA ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "MPS (Apple graphics processor)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' if threads > 1 else ''})"


def out_of_memory(device: torch.device) -> TrainingError:
    """Return the error to raise where not even a single image fits."""
    return TrainingError(
        "out of memory with a single image",
        where=str(device),
        remedy="Close other programs that use it, take smaller images, or compute on the CPU.",
        on_terminal="--device cpu",
    )


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass: bfloat16 or float16 on CUDA, float32 elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", dtype=_half(device))


def gradient_scaler(device: torch.device) -> torch.amp.GradScaler:
    """Return the scaler that float16 needs; with any other type it does nothing."""
    needed = device.type == "cuda" and _half(device) is torch.float16
    return torch.amp.GradScaler("cuda" if needed else "cpu", enabled=needed)


def _half(device: torch.device) -> torch.dtype:
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
