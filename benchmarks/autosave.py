"""How long the window waits for its event loop while a person draws, with autosave and without.

    autosave.py [--side 4096] [--strokes 200] [--runs 5]

Opens napari with a project of one large image, and draws strokes: in turns on the mask of the
project, where each is recorded in the journal and synced to the disk, and on a labels layer of the
person's own, which napari alone takes care of. Printed are quantiles of the time between two turns
of Qt's event loop, and of the time from the end of a stroke until it is in the journal, synced. It
ends with 1 where, at quantile 99 % and in the median of the runs, autosave adds more than 20 ms, or
where a stroke is recorded later than 200 ms.

Needs a screen, ``xvfb-run`` will do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from unittest import mock

import napari
import numpy as np
from event_loop import Waits, turns_until, wait_until
from napari.layers import Labels
from napari.settings import get_settings
from PIL import Image

from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.plugin import benches
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.plugin.layers import Role, own_layers, role_of
from napari_protoseg.project.edits import NewStep
from napari_protoseg.project.folder import Project
from napari_protoseg.project.journal_changes import Outcome
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

LIMIT = 20.0
"""Most milliseconds that autosave may add."""
RECORDED_WITHIN = 200.0
"""Milliseconds from the end of a stroke until it is synced."""

_TILE = 512
_EACH = 0.1
"""Seconds from one stroke to the next."""
_DABS, _STEP, _BRUSH = 20, 8, 30
"""Places of the brush in a stroke, pixels between them, and across the brush."""


def draw(layer: Labels, seed: tuple[int, int]) -> None:
    """Draw a slanting stroke somewhere, as a drag of the mouse does."""
    random = np.random.default_rng(seed)
    height, width = layer.data.shape
    length = _DABS * _STEP
    row, column = random.integers(0, (height - length, width - length))
    label = int(random.choice(TISSUE_SCHEMA.ids))
    with layer.block_history():
        for dab in range(_DABS):
            layer.paint((row + dab * _STEP, column + dab * _STEP), label)


def watch(layer: Labels, part: int, strokes: int) -> tuple[Waits, list[float]]:
    """Draw strokes as the event loop runs; return how long it waited, and when each ended."""
    ended: list[float] = []

    def is_over(watched: float) -> bool:
        if watched < len(ended) * _EACH:
            return False
        if len(ended) == strokes:
            return True
        draw(layer, (part, len(ended)))
        ended.append(perf_counter())
        return False

    return Waits.of(turns_until(is_over)), ended


@contextmanager
def noting_when_synced(project: Project, image_id: int) -> Iterator[list[float]]:
    """Yield when each step of an image was in the journal, which grows."""
    synced: list[float] = []
    record = project.record_steps

    def record_steps(of_image: int, steps: Sequence[NewStep]) -> list[Outcome]:
        outcomes = record(of_image, steps)
        if of_image == image_id:
            synced.extend([perf_counter()] * len(steps))
        return outcomes

    with mock.patch.object(project, "record_steps", record_steps):
        yield synced


def run(folder: Path, strokes: int, runs: int) -> tuple[list[float], float]:
    """Print what is found in each run.

    Returns
    -------
    added
        Milliseconds that autosave adds to p99, in each run.
    longest
        Milliseconds until a stroke was synced, at most.
    """
    viewer = napari.Viewer()
    bench = open_workbench(viewer)
    bench.session.open(folder)
    project = bench.session.require_project()
    bench.review.open_row(0)
    wait_until(lambda: bench.opened.image is not None)
    image = bench.opened.image
    assert image is not None
    (mask,) = (layer for layer in own_layers(viewer.layers) if role_of(layer) is Role.MASK)
    own = Labels(np.zeros_like(mask.data), colormap=mask.colormap, name="own")
    viewer.add_layer(own)
    for layer in (mask, own):
        layer.mode, layer.brush_size = "paint", _BRUSH
    added, longest = [], 0.0
    print("run               p50      p99    p99.9  longest   ms")
    for number in range(runs + 1):
        found = []
        for layer, other, title in ((own, mask, "without"), (mask, own, "autosave")):
            layer.visible, other.visible = True, False
            viewer.layers.selection.active = layer
            with noting_when_synced(project, image.known_id) as synced:
                waits, ended = watch(layer, number, strokes if number else 20)
                bench.recording.flush()
            found.append(waits)
            if number:  # before that, all is warmed up
                print(f"{number:3} {title:8} {waits}", flush=True)
        if number:
            added.append(found[1].p99 - found[0].p99)
            recorded = Waits.of_lengths(np.subtract(synced, ended))
            print(f"{number:3} synced   {recorded}", flush=True)
            longest = max(longest, recorded.longest)
    bench.session.save()
    stored = project.read_mask(image.known_id)
    if stored is None or not np.array_equal(stored.mask, mask.data):
        raise RuntimeError("what was drawn is not what was saved")
    benches.close(viewer)
    viewer.close()
    return added, longest


def main() -> int:
    """Measure, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=4096, help="of the image, pixels")
    parser.add_argument("--strokes", type=int, default=200, help="of each part of a run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # A person's own settings of napari are neither used nor changed.
        get_settings(folder / "napari" / "settings.yaml")
        (folder / "images").mkdir()
        count = -(-options.side // _TILE)
        tile = synthesize_tile(0, 0, 0, size=_TILE).image
        whole = np.tile(tile, (count, count, 1))[: options.side, : options.side]
        Image.fromarray(whole).save(folder / "images" / "large.png")
        (folder / "classes.json").write_text(TISSUE_SCHEMA.to_json())
        request = NewProject(
            folder=folder / "project",
            images=folder / "images",
            schema_file=folder / "classes.json",
        )
        made = Terminal(quiet=True).run(new_project(request, now=datetime.now(UTC)))
        print(f"{options.strokes} strokes on {options.side} x {options.side} px")
        added, longest = run(made.folder, options.strokes, options.runs)
    median = statistics.median(added)
    verdict = "ok" if median <= LIMIT else "TOO SLOW"
    print(f"autosave adds {', '.join(f'{ms:.1f}' for ms in added)} ms at p99")
    print(f"median {median:.1f} ms, at most {LIMIT:g} ms: {verdict}")
    in_time = "ok" if longest <= RECORDED_WITHIN else "TOO SLOW"
    print(f"synced after {longest:.1f} ms, at most {RECORDED_WITHIN:g} ms: {in_time}")
    return 0 if median <= LIMIT and longest <= RECORDED_WITHIN else 1


if __name__ == "__main__":
    sys.exit(main())
