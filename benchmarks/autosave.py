"""How long the window waits for its event loop while a person draws, with autosave and without.

    autosave.py [--side 4096] [--strokes 200] [--runs 5]

Opens napari with a project of one large image, and draws strokes: in turns on the mask of the
project, where each is recorded in the journal and synced to the disk, and on a labels layer of the
person's own, which napari alone takes care of. Printed are quantiles of the time between two turns
of Qt's event loop. It ends with 1 where, at quantile 99 % and in the median of the runs, autosave
adds more than 20 ms.

Needs a screen, ``xvfb-run`` will do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

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
from napari_protoseg.synthesis.tiles import synthesize_tile
from napari_protoseg.synthesis.tissue import TISSUE_SCHEMA

LIMIT = 20.0
"""Most milliseconds that autosave may add."""

_TILE = 512
_EACH = 0.1
"""Seconds from one stroke to the next."""
_DABS, _STEP, _BRUSH = 20, 8, 30
"""Places of the brush in a stroke, pixels between them, and across the brush."""


def draw(layer: Labels, number: int) -> None:
    """Draw a slanting stroke somewhere, as a drag of the mouse does."""
    random = np.random.default_rng(number)
    height, width = layer.data.shape
    length = _DABS * _STEP
    row, column = random.integers(0, (height - length, width - length))
    label = int(random.choice(TISSUE_SCHEMA.ids))
    with layer.block_history():
        for dab in range(_DABS):
            layer.paint((row + dab * _STEP, column + dab * _STEP), label)


def watch(layer: Labels, strokes: int) -> Waits:
    """Run the event loop while strokes are drawn, and return how long it waited."""
    drawn = 0

    def is_over(watched: float) -> bool:
        nonlocal drawn
        if watched < drawn * _EACH:
            return False
        if drawn == strokes:
            return True
        drawn += 1
        draw(layer, drawn)
        return False

    return Waits.of(turns_until(is_over))


def run(project: Path, strokes: int, runs: int) -> list[float]:
    """Print the waits of each run, and return how many milliseconds autosave adds to p99."""
    viewer = napari.Viewer()
    bench = open_workbench(viewer)
    bench.session.open(project)
    bench.review.open_row(0)
    wait_until(lambda: bench.opened.image is not None)
    (mask,) = (layer for layer in own_layers(viewer.layers) if role_of(layer) is Role.MASK)
    own = Labels(np.zeros_like(mask.data), colormap=mask.colormap, name="own")
    viewer.add_layer(own)
    for layer in (mask, own):
        layer.mode, layer.brush_size = "paint", _BRUSH
    added = []
    print("run               p50      p99    p99.9  longest   ms")
    for number in range(runs + 1):
        found = []
        for layer, other, title in ((own, mask, "without"), (mask, own, "autosave")):
            layer.visible, other.visible = True, False
            viewer.layers.selection.active = layer
            found.append(watch(layer, strokes if number else 20))
            if number:  # before that, all is warmed up
                print(f"{number:3} {title:8} {found[-1]}", flush=True)
        if number:
            added.append(found[1].p99 - found[0].p99)
    bench.session.save()
    image = bench.opened.image
    assert image is not None
    stored = bench.session.require_project().read_mask(image.known_id)
    if stored is None or not np.array_equal(stored.mask, mask.data):
        raise RuntimeError("what was drawn is not what was saved")
    benches.close(viewer)
    viewer.close()
    return added


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
        added = run(made.folder, options.strokes, options.runs)
    median = statistics.median(added)
    verdict = "ok" if median <= LIMIT else "TOO SLOW"
    print(f"autosave adds {', '.join(f'{ms:.1f}' for ms in added)} ms at p99")
    print(f"median {median:.1f} ms, at most {LIMIT:g} ms: {verdict}")
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
