"""How long a training will take: measured before it begins, and while it runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from napari_protoseg.encoders.cache import FeatureCache, FeatureKind
from napari_protoseg.encoders.encoding import encode_dense
from napari_protoseg.errors import ProtosegError
from napari_protoseg.events import Event, Job, Notice, Progress, Request, Result, Severity
from napari_protoseg.jobs.bank import encode_items
from napari_protoseg.jobs.features import CACHE_BYTES, feature_cache
from napari_protoseg.jobs.preparation import Prepared, TrainRequest, prepare_new, training_inputs
from napari_protoseg.jobs.records import reader_of
from napari_protoseg.network.evidence import EvidenceModel
from napari_protoseg.project.folder import Project
from napari_protoseg.training.config import Preset
from napari_protoseg.training.events import EpochFinished, StepFinished
from napari_protoseg.training.loop import train_network
from napari_protoseg.training.quick import fit_evidence

_STEPS = 4
_SECONDS = 10.0
"""When no further step is measured."""

_ENCODED, _ENCODED_AT_ONCE = 12, 4
_LOOKING, _SPREAD = 1 / 3, 1.25
"""What an image costs that is only looked at, as a share of one that is trained on (a pass
forward, and none back); how much longer than measured it may take."""

_RECENT = 40
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

TimedStep = tuple[float, StepFinished]
"""A step, and when it finished: seconds from any start."""


@dataclass(frozen=True)
class Estimate:
    """What a training will cost on this machine.

    Parameters
    ----------
    seconds
        The least and the most that it is likely to take.
    images
        That it is trained on.
    steps
        Of the network's optimiser; 0 for the quick preset, which trains no network.
    peak_bytes
        Memory of the device at its highest; None where it is not known.
    """

    seconds: tuple[float, float]
    images: int
    steps: int
    peak_bytes: int | None

    @property
    def time(self) -> str:
        """Say how long it will take: "about 2 to 4 minutes"."""
        return spoken_range(*self.seconds)

    @property
    def words(self) -> str:
        """Say it all: "about 2 to 4 minutes: 120 images, 40 steps"."""
        parts = [f"{self.images} images"]
        if self.steps:
            parts.append(f"{self.steps} steps")
        if self.peak_bytes is not None:
            parts.append(f"{self.peak_bytes / 2**30:.1f} GiB of GPU memory")
        return f"{self.time}: {', '.join(parts)}"


def estimate_training(
    project: Project,
    request: TrainRequest,
    *,
    device: torch.device,
    cache_bytes: int = CACHE_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Job[Estimate | None]:
    """Take a few steps of a training on the project's images, and discard them.

    Parameters
    ----------
    project, request, device, cache_bytes
        As of the training.
    clock
        Seconds from any start.

    Returns
    -------
    Estimate or None
        None after a stop.

    Raises
    ------
    TrainingError
        The training could not begin either, or memory is not enough.
    BankError, WeightsError, ImageError, StorageError
    """
    if (yield Progress("Measuring the pace", 0, _STEPS)) is Request.STOP:
        return None
    before = clock()
    prepared, _ = prepare_new(project, request, device)
    preparing = clock() - before
    with tempfile.TemporaryDirectory(prefix="protoseg-estimate-") as folder:
        if request.preset is Preset.QUICK:
            estimate = yield from _estimate_quick(
                project, prepared, Path(folder), cache_bytes, clock
            )
        else:
            estimate = yield from _estimate_network(prepared, Path(folder), clock)
    if estimate is None:
        return None
    low, high = estimate.seconds
    return replace(estimate, seconds=(low + preparing, high + preparing))


def estimate_presets(
    project: Project,
    requests: Sequence[TrainRequest],
    *,
    device: torch.device,
    cache_bytes: int = CACHE_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Job[dict[TrainRequest, Estimate]]:
    """Estimate several trainings, for a person to choose from.

    Parameters
    ----------
    project, device, cache_bytes, clock
        As of `estimate_training`.
    requests
        The first is what the person asks for; of the others, one that could not be trained here
        is left out with a warning.

    Returns
    -------
    dict
        What was measured, until a stop.

    Raises
    ------
    ProtosegError
        The first could not be trained.
    """
    measured: dict[TrainRequest, Estimate] = {}
    for number, request in enumerate(requests):
        try:
            estimate = yield from estimate_training(
                project, request, device=device, cache_bytes=cache_bytes, clock=clock
            )
        except ProtosegError as error:
            if number == 0:
                raise
            notice = Notice(f"The preset {request.preset.value}: {error}", Severity.WARNING)
            if (yield notice) is Request.STOP:
                break
            continue
        if estimate is None:
            break
        measured[request] = estimate
    return measured


def time_left(steps: Sequence[TimedStep]) -> float | None:
    """Return the seconds that a training will still take; None before its second step.

    A pause between two steps hardly counts: the median of the times between recent ones decides,
    and for what happens between epochs the shortest so far.

    Parameters
    ----------
    steps
        In order, of one training.
    """
    within: list[float] = []
    between: list[float] = []
    steps_per_epoch = None
    for (before, first), (after, second) in pairwise(steps):
        (within if first.epoch == second.epoch else between).append(after - before)
        if first.epoch != second.epoch:
            steps_per_epoch = (second.step - 1) // second.epoch
    recent = within[-_RECENT:] or between
    if not recent:
        return None
    last, pace = steps[-1][1], median(recent)
    left = pace * (last.steps - last.step)
    if steps_per_epoch is not None:
        ends = last.steps // steps_per_epoch - last.epoch
        left += max(min(between) - pace, 0.0) * ends
    return left


def spoken(seconds: float) -> str:
    """Say a time as a person would: "about 4 minutes"."""
    return f"about {_counted(*_rounded(seconds))}"


def spoken_range(low: float, high: float) -> str:
    """Say a range of times as a person would: "about 2 to 4 minutes"."""
    (least, unit), (most, largest) = _rounded(low), _rounded(high)
    if (least, unit) == (most, largest):
        return spoken(high)
    start = f"{least}" if unit == largest else _counted(least, unit)
    return f"about {start} to {_counted(most, largest)}"


def _rounded(seconds: float) -> tuple[int, str]:
    """Round to what can be said of an estimate, in the unit that fits."""
    if seconds < 10:
        return max(round(seconds), 1), "second"
    if seconds < _MINUTE - 5:
        return round(seconds / 10) * 10, "second"
    if seconds < 100 * _MINUTE:
        minutes = max(round(seconds / _MINUTE), 1)
        return (minutes if minutes < 20 else round(minutes / 5) * 5), "minute"
    if seconds < 2 * _DAY:
        return round(seconds / _HOUR), "hour"
    return round(seconds / _DAY), "day"


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _estimate_network(
    prepared: Prepared, folder: Path, clock: Callable[[], float]
) -> Job[Estimate | None]:
    """Time the first steps, without what comes at the end of an epoch."""
    config = prepared.request.config
    inputs = replace(training_inputs(prepared, folder), held_out=(), score=None)
    device = prepared.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = clock()
    paces: list[float] = []
    with closing(train_network(inputs, config)) as training:
        while not paces or (len(paces) < _STEPS and clock() - start < _SECONDS):
            before = clock()
            event = next(training, None)
            if event is None or isinstance(event, EpochFinished):
                break
            if isinstance(event, StepFinished):
                paces.append(clock() - before)
                event = Progress("Measuring the pace", len(paces), _STEPS)
            if _is_told(event) and (yield event) is Request.STOP:
                return None
    paces = paces[1:] or paces  # the first step also warms up
    looked_at = (len(prepared.held_out) + len(prepared.masked)) / config.batch_size
    steps = -(-len(prepared.training) // config.batch_size) * config.epochs
    costs = steps + _LOOKING * looked_at * config.epochs
    return Estimate(
        seconds=(min(paces) * costs, max(paces) * costs * _SPREAD),
        images=len(prepared.training),
        steps=steps,
        peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


def _estimate_quick(
    project: Project,
    prepared: Prepared,
    folder: Path,
    cache_bytes: int,
    clock: Callable[[], float],
) -> Job[Estimate | None]:
    """Time the encoding of a few images and their fit; what is cached needs no encoding."""
    assert prepared.encoder is not None
    assert isinstance(prepared.model, EvidenceModel)
    items = encode_items(tuple(prepared.training))
    cache = feature_cache(project, cache_bytes)
    known = cache.results(prepared.encoder.identity, FeatureKind.DENSE)
    missing = len({i.content_hash for i in items if i.content_hash not in known})
    chosen = prepared.training[:: max(len(items) // _ENCODED, 1)][:_ENCODED]
    some, labels = encode_items(tuple(chosen)), [image.label for image in chosen]
    encoding = encode_dense(
        prepared.encoder,
        some,
        FeatureCache(folder, cache_bytes),
        batch_size=_ENCODED_AT_ONCE,
        read=reader_of(prepared.training),
    )
    encoded = yield from _timed(encoding, clock)
    if encoded is None:
        return None
    dense, paces = encoded
    fitted = yield from _timed(
        fit_evidence(prepared.model, dense, some, labels, prepared.request.config), clock
    )
    if fitted is None:
        return None
    _, (*comparing, fit) = fitted
    per_batch = median(paces[1:-1] or paces)  # the first also warms up, after the last is none
    fitting = len(items) * (median(comparing) + fit / len(some))
    seconds = missing * per_batch / _ENCODED_AT_ONCE + fitting
    return Estimate((seconds / _SPREAD, seconds * _SPREAD), len(items), steps=0, peak_bytes=None)


def _timed(job: Job[Result], clock: Callable[[], float]) -> Job[tuple[Result, list[float]] | None]:
    """Return the result of a job, and how long it took to each event that is told, and to its end.

    Of the others, no page is to take a step for that of a training.
    """
    durations: list[float] = []
    with closing(job):
        before = clock()
        while True:
            try:
                event = next(job)
            except StopIteration as end:
                return end.value, [*durations, clock() - before]
            if not _is_told(event):
                continue
            durations.append(clock() - before)
            if (yield event) is Request.STOP:
                return None
            before = clock()


def _is_told(event: Event) -> bool:
    """Tell whether a person should hear of it though the training is only tried."""
    if isinstance(event, Notice):
        return event.severity is Severity.WARNING
    return isinstance(event, Progress)
