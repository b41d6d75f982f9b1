"""How long the window waits for its event loop while a network trains, against the same at rest.

``python benchmarks/responsiveness.py`` opens napari with a project of the sample data, and lets
someone review images: draw, pick classes, move the camera, turn pages, open the next image. In
turns they do so while a training with the preset `standard` is paused, and while it goes on. It
has a few images and more epochs than it will come to, so that each part with it holds the end of
an epoch: the held-out images, the checkpoint, and the maps of the open image. Printed are
quantiles of the time between two turns of Qt's event loop. It ends with 1 where, at quantile
99.9 % and in the median of all runs, training adds more than 100 ms.

Needs a screen, ``xvfb-run`` will do, and trains on the CPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import napari
import torch
from event_loop import Waits, turns_until, wait_until
from napari.settings import get_plugin_settings, get_settings
from qtpy.QtWidgets import QTabWidget

from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.events import Event
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.previews import EpochPreview
from napari_protoseg.plugin import benches
from napari_protoseg.plugin.commands import open_workbench
from napari_protoseg.plugin.layers import Role, own_layers, role_of
from napari_protoseg.plugin.settings import PLUGIN
from napari_protoseg.training.config import Preset
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.workbench.tasks import Task
from napari_protoseg.workbench.workbench import Workbench

LIMIT = 100.0
"""Most milliseconds that training may add."""

_SAMPLE = Path(__file__).parent.parent / "sample_data"
_TILES = tuple(f"*_{number:03}-*.png" for number in range(8, 14))
"""Of each case, so that an epoch takes three steps; each class is alone on some of them."""
_EPOCHS = 10_000
_PATIENCE = 6
"""How many times longer than asked for a part may last until an epoch has ended in it."""
_ACTS_EACH = 0.25
"""Seconds between two acts of the person."""
_WARM_UP = 5.0
_LONGEST_STEP = 10.0
"""Seconds that a training may take to pause."""
_STROKE = 40
"""Pixels of a stroke's side."""


class Person:
    """Someone who reviews images, always in the same way.

    Parameters
    ----------
    viewer
        With the pages of `bench`.
    bench
        Whose project is reviewed.
    """

    def __init__(self, viewer: napari.Viewer, bench: Workbench) -> None:
        self._viewer, self._bench = viewer, bench
        window = next(iter(viewer.window.dock_widgets.values())).window()
        self._pages = window.findChild(QTabWidget, "pages")
        self._way = 1
        self._acts = cycle(
            (
                self._move,
                self._pick,
                self._draw,
                self._move,
                self._draw,
                self._next_image,
                self._move,
                self._turn_page,
            )
        )

    def act(self) -> None:
        """Do the next thing."""
        next(self._acts)()

    def turn_to(self, title: str) -> None:
        """Bring a page to the front."""
        titles = [self._pages.tabText(index) for index in range(self._pages.count())]
        self._pages.setCurrentIndex(titles.index(title))

    def _mask(self) -> Any:
        found = [layer for layer in own_layers(self._viewer.layers) if role_of(layer) is Role.MASK]
        return found[0] if found else None

    def _move(self) -> None:
        self._way = -self._way
        camera = self._viewer.scene.camera
        _, y, x = camera.center
        camera.center = (0, y, x + 10 * self._way)
        camera.zoom *= 1.1**self._way

    def _pick(self) -> None:
        mask, project = self._mask(), self._bench.session.require_project()
        if mask is not None:
            ids = project.schema.ids
            mask.selected_label = ids[(ids.index(mask.selected_label) + 1) % len(ids)]

    def _draw(self) -> None:
        mask = self._mask()
        if mask is not None:
            for place in range(_STROKE):
                mask.paint((place, place), mask.selected_label)

    def _next_image(self) -> None:
        self._bench.session.attempt(lambda: self._bench.review.step(1))

    def _turn_page(self) -> None:
        title = self._pages.tabText(self._pages.currentIndex())
        self.turn_to("Training" if title == "Review" else "Review")


def watch(
    person: Person, seconds: float, is_complete: Callable[[], bool] = lambda: True
) -> list[float]:
    """Run the event loop, and return when it turned; the person acts meanwhile.

    Parameters
    ----------
    person
        Who acts.
    seconds
        How long at least.
    is_complete
        Goes on until this holds too, but not for ever.
    """
    acts = 0

    def is_over(watched: float) -> bool:
        nonlocal acts
        if watched >= seconds and (is_complete() or watched >= _PATIENCE * seconds):
            return True
        if watched >= acts * _ACTS_EACH:  # what comes late is made up for
            acts += 1
            person.act()
        return False

    return turns_until(is_over)


class Training:
    """One training that is paused and goes on, and what it does meanwhile.

    Parameters
    ----------
    bench
        With a project that can be trained.
    """

    def __init__(self, bench: Workbench) -> None:
        self._session, self._training = bench.session, bench.training
        self.steps = self.epochs = self.previews = 0

    @property
    def has_ended_epoch(self) -> bool:
        """Whether an epoch has ended since it last went on, and the open image was looked at."""
        return self.epochs > 0 and self.previews > 0

    def begin(self) -> None:
        """Begin, and pause after the first step."""
        self._training.choose(Preset.STANDARD)
        request = self._training.request
        config = request.config.model_copy(update={"epochs": _EPOCHS})
        self._training.set_options(request.model_copy(update={"config": config}))
        self._session.progressed.connect(self._hear)
        self._training.train()
        wait_until(lambda: self.steps > 0 or not self._session.is_busy)
        self.pause()

    def pause(self) -> None:
        """Pause after the step under way."""
        self._task().pause()

    def go_on(self) -> None:
        """Go on, and count anew."""
        self.steps = self.epochs = self.previews = 0
        self._task().resume()

    def end(self) -> None:
        """Stop, and wait until all is saved."""
        self._task().stop()
        wait_until(lambda: not self._session.is_busy)

    def _task(self) -> Task:
        task = self._session.task
        if task is None or task.is_over:
            raise RuntimeError(self._session.messages.details)
        return task

    def _hear(self, event: Event) -> None:
        self.steps += isinstance(event, StepFinished)
        self.epochs += isinstance(event, EpochFinished)
        self.previews += isinstance(event, EpochPreview)


def keep_to(most: int) -> int | None:
    """Use only so many cores, where the system allows that, and return how many are used."""
    if sys.platform != "linux":
        return os.cpu_count()
    cores = sorted(os.sched_getaffinity(0))[:most]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    return len(cores)


def run(project: Path, seconds: float, runs: int) -> list[float]:
    """Print the waits of each run, and return by how many milliseconds training makes them longer.

    Runs in which no epoch has ended are left out.

    Parameters
    ----------
    project
        Folder of a project without a bank.
    seconds
        Of each part of a run.
    runs
        How many.
    """
    viewer = napari.Viewer()
    bench = open_workbench(viewer)
    get_plugin_settings(PLUGIN).workbench.device = "cpu"
    bench.session.open(project)
    bench.bank.build()
    wait_until(lambda: not bench.session.is_busy)
    person = Person(viewer, bench)
    person.turn_to("Review")
    bench.review.open_row(0)
    watch(person, _WARM_UP)
    training = Training(bench)
    training.begin()
    added = []
    print("run             p50      p99    p99.9  longest   ms")
    for number in range(1, runs + 1):
        watch(person, _LONGEST_STEP)
        rest = Waits.of(watch(person, seconds))
        print(f"{number:3} at rest  {rest}", flush=True)
        training.go_on()
        busy = Waits.of(watch(person, seconds, lambda: training.has_ended_epoch))
        done = f"{training.steps} steps, {training.epochs} epochs, {training.previews} previews"
        print(f"{number:3} training {busy}   {done}", flush=True)
        if training.has_ended_epoch:
            added.append(busy.p999 - rest.p999)
        else:
            print(f"in run {number} no epoch has ended, and it is left out: watch longer")
        training.pause()
    training.end()
    benches.close(viewer)
    viewer.close()
    return added


def main() -> int:
    """Measure, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="at rest, and training")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2, help="at most; on Linux alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # A person's own settings of napari are neither used nor changed.
        get_settings(folder / "napari" / "settings.yaml")
        images = folder / "images"
        images.mkdir()
        for tile in (path for tiles in _TILES for path in (_SAMPLE / "train").glob(tiles)):
            shutil.copy(tile, images)
        request = NewProject(
            folder=folder / "project",
            images=images,
            schema_file=_SAMPLE / "classes.json",
            case_pattern=r"(case\d+)_",
        )
        made = Terminal(quiet=True).run(new_project(request, now=datetime.now(UTC)))
        cores = keep_to(options.cores)
        print(f"{cores} cores, {options.runs} runs of {options.seconds:g} s at rest and training")
        added = run(made.folder, options.seconds, options.runs)
    if not added:
        return 1
    median = statistics.median(added)
    verdict = "ok" if median <= LIMIT else "TOO SLOW"
    print(f"training adds {', '.join(f'{ms:.1f}' for ms in added)} ms at p99.9")
    print(f"median {median:.1f} ms, at most {LIMIT:g} ms: {verdict}")
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
