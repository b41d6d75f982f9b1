"""What the line costs beside its networks: ratios, each in one run on one machine.

``python benchmarks/speed.py [--only steps,masks,line,memory,growth,attempts] [--tiles 493]``

Both sides of a ratio are timed in turns, and their medians compared. It ends with 1 where a bar
does not hold. Memory is measured on Linux alone.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from speed_line import Tiles, bare_pass, batches_of, line, peak_of_child, write_tiles
from speed_networks import Bench, Setting, Timed

from napari_protoseg.encoders.encoder import create_encoder
from napari_protoseg.training.config import Matching, Preset

_ROUNDS = 5
_FEW = 3
_MEMORY_TILES = (Tiles(400, side=96), Tiles(4000, side=96))
# Re-encoding takes memory with the square of what is multiplied here: more would be too much.
_GROWING = (
    Setting(),
    *(replace(Setting(), batch=batch) for batch in (2, 8)),
    *(replace(Setting(), classes=classes) for classes in (2, 8)),
    *(replace(Setting(), prototypes=prototypes) for prototypes in (1, 6)),
    *(replace(Setting(), side=side) for side in (96, 160, 320)),
)
_GROWING_LINE = (
    Tiles(120),
    *(replace(Tiles(120), count=count) for count in (60, 240)),
    *(replace(Tiles(120), classes=classes) for classes in (2, 8)),
    *(replace(Tiles(120), prototypes=prototypes) for prototypes in (1, 6)),
    *(replace(Tiles(120), side=side) for side in (96, 320)),
)


@dataclass(frozen=True)
class Measured:
    """A ratio and the bar that it is held to."""

    what: str
    ratio: float
    bar: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the ratio is on the right side of the bar."""
        return self.ratio >= self.bar if self.at_least else self.ratio <= self.bar

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        verdict = "ok" if self.holds else "MISSED"
        return f"{self.what:<64}{self.ratio:8.3f}  {word:>8} {self.bar:<5g} {verdict}"


def in_turns(sides: Mapping[str, Timed], rounds: int) -> dict[str, float]:
    """Return the median seconds of each side; one turn before those that count warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            before = perf_counter()
            run()
            if number:
                seconds[name].append(perf_counter() - before)
    return {name: statistics.median(values) for name, values in seconds.items()}


def steps(bench: Bench, rounds: int) -> tuple[list[Measured], float]:
    """Time training steps, matching and losses; return ratios and seconds of the dense step."""
    dense, reencode, none = Matching.DENSE, Matching.REENCODE, Matching.NONE
    took = in_turns(
        {
            "dense step": bench.step(dense),
            "re-encoding step": bench.step(reencode),
            "standard step": bench.step(none),
            "dense matching": bench.losses(dense, encode=True),
            "re-encoding matching": bench.losses(reencode, encode=True),
            "dense losses": bench.losses(dense, encode=False),
            "standard losses": bench.losses(none, encode=False),
        },
        rounds,
    )
    return [
        Measured(
            "step: re-encoding / dense matching",
            took["re-encoding step"] / took["dense step"],
            3,
            at_least=True,
        ),
        Measured(
            "matching alone: re-encoding / dense",
            took["re-encoding matching"] / took["dense matching"],
            5,
            at_least=True,
        ),
        Measured(
            "losses and masks / step, dense matching",
            took["dense losses"] / took["dense step"],
            0.1,
        ),
        Measured(
            "losses and masks / step, preset standard",
            took["standard losses"] / took["standard step"],
            0.1,
        ),
    ], took["dense step"]


def masks(bench: Bench, rounds: int) -> tuple[list[Measured], list[str]]:
    """Time masks of a batch against bare forward passes; say what averaging over views costs."""
    ratios, said = [], []
    for name, model in {"standard": bench.network, "quick": bench.evidence}.items():
        took = in_turns(
            {
                "bare": bench.bare(model),
                "masks": bench.masks(model, flip=False),
                "mirrored": bench.masks(model, flip=True),
            },
            rounds,
        )
        ratios.append(
            Measured(f"uint8 to masks / forward pass, {name}", took["masks"] / took["bare"], 1.25)
        )
        cost = took["mirrored"] / took["masks"]
        said.append(f"masks averaged with those of the mirror image, {name}: {cost:.2f} times that")
    return ratios, said


def whole_line(folder: Path, tiles: Tiles, rounds: int) -> tuple[Measured, list[str]]:
    """Time quick, from a folder of tiles to their masks, against its encoder over them."""
    images = folder / "tiles"
    write_tiles(images, tiles, seed=tiles.count)
    batches, encoder = list(batches_of(images)), create_encoder(device="cpu")
    bare, parts = [], []
    for number in range(rounds):
        bare.append(_timed(lambda: bare_pass(encoder, batches)))
        parts.append(line(images, folder / f"line-{number}", Preset.QUICK, tiles.prototypes))
        shutil.rmtree(folder / f"line-{number}")
    bare.append(_timed(lambda: bare_pass(encoder, batches)))
    shutil.rmtree(images)
    once = statistics.median(bare)
    ratio = statistics.median(sum(each) for each in parts) / once
    said = [
        f"  of that {name}: {share / once:.2f}"
        for name, share in zip(
            ("reading", "bank", "training", "masks"), np.median(parts, 0).tolist(), strict=True
        )
    ]
    return Measured(f"quick, {tiles.count} tiles to all masks / forward pass", ratio, 4), said


def memory(folder: Path) -> list[Measured]:
    """Compare peaks of processes that go through the line with few tiles and with many."""
    ratios = []
    few, many = _MEMORY_TILES
    for preset in (Preset.QUICK, Preset.STANDARD):
        peaks = [_peak(folder, preset, tiles) for tiles in _MEMORY_TILES]
        what = f"peak memory, {preset.value}: {many.count} / {few.count} tiles"
        print(f"  {preset.value}: {', '.join(f'{p / 2**20:.0f}' for p in peaks)} MiB", flush=True)
        ratios.append(Measured(what, peaks[1] / peaks[0], 1.2))
    return ratios


def _peak(folder: Path, preset: Preset, tiles: Tiles) -> int:
    """Return the bytes that a process of its own takes for the line, beyond its imports."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        images = Path(place) / "tiles"
        write_tiles(images, tiles, seed=1)
        return peak_of_child(preset, images, tiles.prototypes)


def growth(folder: Path) -> None:
    """Print how the ratios, and the costs themselves, change with what they depend on.

    The first row is what the other ratios are measured on; each other row differs in one number.
    """
    _print_titles(
        "images, classes, prototypes, side",
        "dense step",
        "of it losses",
        "losses / step, standard",
        "step: re-encoding / dense",
        "matching: re-encoding / dense",
        "masks / pass, standard",
        "quick",
    )
    first: float | None = None
    for setting in _GROWING:
        bench = Bench(setting)
        (step, matching, of_dense, of_step), seconds = steps(bench, _FEW)
        (of_standard, of_quick), _ = masks(bench, _FEW)
        first = first or seconds
        ratios = (step, matching, of_standard, of_quick)
        _print_row(
            f"{setting.batch}, {setting.classes}, {setting.prototypes}, {setting.side}",
            f"{seconds / first:.2f}",
            f"{of_dense.ratio:.3f}",
            f"{of_step.ratio:.3f}",
            *(f"{each.ratio:.2f}" for each in ratios),
        )
    _print_titles("tiles, classes, prototypes, side", "quick / pass", "peak MiB, quick", "standard")
    for tiles in _GROWING_LINE:
        ratio, _ = whole_line(folder, tiles, 1)
        peaks = [_peak(folder, preset, tiles) for preset in (Preset.QUICK, Preset.STANDARD)]
        _print_row(str(tiles), f"{ratio.ratio:.2f}", *(f"{peak / 2**20:.0f}" for peak in peaks))


def _print_titles(*titles: str) -> None:
    print()
    _print_row(*titles)
    _print_row(*["---"] * len(titles))


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def attempts(bench: Bench) -> None:
    """Print what ways to compute faster take, used or not, as parts of the time without them."""
    step, bare = bench.step(Matching.NONE), bench.bare(bench.network)
    threads = torch.get_num_threads()

    def within(context: Callable[[], AbstractContextManager[object]], run: Timed) -> Timed:
        def entered() -> None:
            with context():
                run()

        return entered

    @contextmanager
    def one_thread() -> Iterator[None]:
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def half() -> AbstractContextManager[object]:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    compiled, compiled_step = copy.deepcopy(bench.network), bench.step(Matching.NONE, compiled=True)
    compiled.compile()
    seconds = _timed(bench.bare(compiled)), _timed(compiled_step)
    ways: dict[str, tuple[Timed, Timed]] = {
        "bfloat16": (within(half, step), within(half, bare)),
        f"one thread instead of {threads}": (within(one_thread, step), within(one_thread, bare)),
        "torch.compile": (compiled_step, bench.bare(compiled)),
    }
    for name, (other_step, other_bare) in ways.items():
        sides = {"bare": bare, "bare so": other_bare, "step": step, "step so": other_step}
        took = in_turns(sides, _ROUNDS)
        of_step, of_bare = took["step so"] / took["step"], took["bare so"] / took["bare"]
        print(f"{name}: step {of_step:.2f}, forward pass {of_bare:.2f}", flush=True)
    print(f"compiling took {seconds[0]:.0f} s for a pass, {seconds[1]:.0f} s for a step")
    took = in_turns(
        {
            "channels last": bench.backbone(torch.channels_last),
            "usual": bench.backbone(torch.contiguous_format),
            "dense step": bench.step(Matching.DENSE),
            "matching": bench.losses(Matching.DENSE, encode=True),
            "losses": bench.losses(Matching.DENSE, encode=False),
        },
        _ROUNDS,
    )
    print(f"channels last: forward pass {took['channels last'] / took['usual']:.2f}")
    cached = 1 - (took["matching"] - took["losses"]) / took["dense step"]
    print(f"dense matching on maps from a cache: step {cached:.2f}")


def _timed(run: Callable[[], object]) -> float:
    before = perf_counter()
    run()
    return perf_counter() - before


def main() -> int:
    """Measure, and return the exit code."""
    parts = ("steps", "masks", "line", "memory", "growth", "attempts")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(parts), help="comma separated")
    parser.add_argument("--tiles", type=int, default=493, help="of the whole line")
    parser.add_argument("--rounds", type=int, default=3, help="of the whole line")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if not set(chosen) <= set(parts):
        parser.error(f"the parts are {', '.join(parts)}")
    print(f"{torch.get_num_threads()} threads")
    ratios: list[Measured] = []

    def tell(*found: Measured) -> None:
        ratios.extend(found)
        print(*found, sep="\n", flush=True)

    bench = Bench(Setting())
    if "steps" in chosen:
        found, _ = steps(bench, _ROUNDS)
        print(f"{bench.pairs:.1f} selected pairs for each image")
        tell(*found)
    if "masks" in chosen:
        found, said = masks(bench, _ROUNDS)
        tell(*found)
        print(*said, sep="\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "line" in chosen:
            quick, said = whole_line(folder, Tiles(options.tiles), options.rounds)
            tell(quick)
            print(*said, sep="\n")
        if "memory" in chosen:
            tell(*memory(folder))
        if "growth" in chosen:
            growth(folder)
    if "attempts" in chosen:
        attempts(bench)
    missed = [ratio for ratio in ratios if not ratio.holds]
    print("every bar holds" if not missed else f"{len(missed)} of {len(ratios)} bars missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
