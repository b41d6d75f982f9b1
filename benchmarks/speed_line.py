"""The whole line from a folder of tiles to all their masks: how long it takes, and its memory.

``python benchmarks/speed_line.py quick|standard FOLDER PROTOTYPES`` goes through it once, and
prints how many bytes more than after the imports the process has held at most.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.encoders.encoder import FrozenEncoder
from napari_protoseg.events import Job, Result
from napari_protoseg.images.reading import read_image
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.make_masks import make_masks
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.train import train_project
from napari_protoseg.masks.recipe import Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import PRESETS, Preset

SAMPLE = Path(__file__).parent.parent / "sample_data"
BATCH = 16
_CPU = torch.device("cpu")
_SAMPLE_CLASSES = 4


@dataclass(frozen=True)
class Tiles:
    """A folder of tiles, and what the line makes of it.

    Parameters
    ----------
    count
        How many.
    side
        In pixels; tiles are repeated beside themselves where that is more than theirs.
    classes, prototypes
        Number of classes, and of prototypes of each.
    """

    count: int
    side: int = 224
    classes: int = _SAMPLE_CLASSES
    prototypes: int = 3

    def __str__(self) -> str:
        return f"{self.count}, {self.classes}, {self.prototypes}, {self.side}"


def write_tiles(folder: Path, tiles: Tiles, seed: int) -> None:
    """Write tiles of the sample data with their labels in their names, no two of them alike.

    Fewer classes are unions of those of the sample data, more repeat them. Tiles of one seed begin
    with the same ones.
    """
    folder.mkdir(parents=True)
    sources = sorted((SAMPLE / "train").glob("*.png"))
    pixels = [read_image(source) for source in sources]
    for number in range(tiles.count):
        image = altered(pixels[number % len(sources)], tiles.side, [seed, number])
        label = _label(sources[number % len(sources)], tiles.classes)
        # Quickly, as a scanner's software would: what is measured is not how PNG compresses.
        Image.fromarray(image).save(folder / f"{number:05}-{label}.png", compress_level=1)


def _label(source: Path, classes: int) -> str:
    held = [int(digit) for digit in source.stem.partition("-")[2].strip("[]").split()]
    common = min(classes, _SAMPLE_CLASSES)
    united = [max(held[place::common]) for place in range(common)]
    return f"[{' '.join(str(united[place % common]) for place in range(classes))}]"


def altered(image: NDArray[np.uint8], side: int, seed: Sequence[int]) -> NDArray[np.uint8]:
    """Cut a square out of a tile, shifted and with noise: content that no cache knows."""
    random = np.random.default_rng(seed)
    repeats = -(-side // min(image.shape[:2]))
    shifted = np.roll(image, tuple(random.integers(0, 224, 2)), (0, 1))
    cut = np.tile(shifted, (repeats, repeats, 1))[:side, :side]
    noise = random.integers(-2, 3, cut.shape, dtype=np.int16)
    noisy: NDArray[np.uint8] = np.clip(cut + noise, 0, 255).astype(np.uint8)
    return noisy


def line(
    tiles: Path, project_folder: Path, preset: Preset, prototypes: int, *, flip: bool = False
) -> list[float]:
    """Go from a folder of tiles to all their masks, and return the seconds of each part.

    The parts are reading, the bank, the training (of one epoch, but for quick) and the masks.
    """
    now = datetime.now(UTC)
    config = PRESETS[preset]
    if preset is not Preset.QUICK:
        config = config.model_copy(update={"epochs": 1})
    seconds = [perf_counter()]
    first = min(tiles.iterdir()).stem
    classes = [f"class {place}" for place in range(len(first.partition("-")[2].split()))]
    request = NewProject(folder=project_folder, images=tiles, classes=tuple(classes))
    _result(new_project(request, now=now))
    seconds.append(perf_counter())
    with Project.open(project_folder) as project:
        bank = BankRequest(config=BankConfig(clusters=prototypes))
        _result(build_project_bank(project, bank, device=_CPU, now=now))
        seconds.append(perf_counter())
        training = TrainRequest(preset=preset, config=config)
        _result(train_project(project, training, device=_CPU, now=lambda: now))
        seconds.append(perf_counter())
        made = _result(make_masks(project, Recipe(flip=flip), device=_CPU, now=now))
        seconds.append(perf_counter())
        assert made is not None
        assert made.made == len(project.mask_summaries()) == len(list(tiles.iterdir()))
    return np.diff(seconds).tolist()


def bare_pass(encoder: FrozenEncoder, batches: Sequence[torch.Tensor]) -> None:
    """Run the encoder over batches of images in 0..1, and do nothing else."""
    with torch.inference_mode():
        for batch in batches:
            encoder.dense(batch)


def batches_of(tiles: Path) -> Iterator[torch.Tensor]:
    """Yield the images of a folder, float32 ``(B, 3, H, W)`` in 0..1."""
    paths = sorted(tiles.iterdir())
    for start in range(0, len(paths), BATCH):
        pixels = np.stack([read_image(path) for path in paths[start : start + BATCH]])
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32) / 255


def peak_of_child(preset: Preset, tiles: Path, prototypes: int) -> int:
    """Go through the line in a process of its own, and return its peak beyond its imports."""
    command = [sys.executable, __file__, preset.value, str(tiles), str(prototypes)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(ended.stdout)


def _held(what: str) -> int:
    """Return the bytes that this process holds (`VmRSS`) or has held at most (`VmHWM`)."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        name, _, value = entry.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"the system does not tell {what}")


def _result(job: Job[Result]) -> Result:
    try:
        while True:
            next(job)
    except StopIteration as end:
        result: Result = end.value
        return result


if __name__ == "__main__":
    _after_imports = _held("VmRSS")
    _tiles = Path(sys.argv[2])
    _project = _tiles.with_name(f"{_tiles.name}-{sys.argv[1]}")
    line(_tiles, _project, Preset(sys.argv[1]), int(sys.argv[3]))
    print(_held("VmHWM") - _after_imports)
