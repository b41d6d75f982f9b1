"""Run cases of one reader, and say which of them ended in another way than they may.

    python tests/fuzz/case_runner.py READER FIRST STOP [STEP] [--branches FILE]

A case is reproduced by its number alone: ``... READER NUMBER NUMBER+1``. It passes where the
reader returns, or raises an error of the package that names the file, within 5 s of computing and
1 GB of memory, and nothing is written outside the folder of the case. What is said goes to the
standard output, one line of JSON for each failure; the last line counts the cases.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType

from fuzzed_reader import FuzzedReader

from napari_protoseg.errors import ProtosegError

SECONDS = 5.0
"""Of computing, that a case may take."""

MOST_BYTES = 10**9
"""That a case may take beyond what the program has taken before any case."""

_WAITING_SECONDS = 30
"""By the clock, that a case may take: one that waits does not compute."""

_DEAD_SECONDS = 120
"""After which a case that answers no signal ends the process, so that it is seen which it was."""

_LONGEST_MESSAGE = 10_000
_CANARY = "canary"
_HARMLESS = ("socket.__new__", "socket.bind", "socket.gethostname")
_OUTWARD = ("subprocess.", "os.system", "os.exec", "os.spawn", "socket.")


class Hang(BaseException):
    """A case computed for too long; no reader may catch it."""


class Outside(BaseException):
    """A case touched what is not its own; no reader may catch it."""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("reader")
    options.add_argument("first", type=int)
    options.add_argument("stop", type=int)
    options.add_argument("step", type=int, nargs="?", default=1)
    options.add_argument("--branches", type=Path)
    given = options.parse_args()
    numbers = range(given.first, given.stop, given.step)
    if given.branches is None:
        run(given.reader, importlib.import_module(f"{given.reader}_cases").READER, numbers)
        return
    import coverage

    measured = coverage.Coverage(
        branch=True,
        data_file=None,
        source=["napari_protoseg"],
        messages=False,
    )
    measured.start()
    reader = importlib.import_module(f"{given.reader}_cases").READER
    run(given.reader, reader, numbers)
    measured.stop()
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured.json_report(outfile=str(given.branches), show_contexts=False)


def run(name: str, reader: FuzzedReader, numbers: range) -> None:
    """Run the cases of `numbers`, and print what went wrong."""
    warnings.simplefilter("ignore")
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        sandbox = Path(place).resolve()
        (sandbox / _CANARY).write_text(_CANARY)
        os.environ["PROTOSEG_FUZZ_SANDBOX"] = str(sandbox)
        watch = _Watch(sandbox / "case")
        sys.addaudithook(watch)
        signal.signal(signal.SIGPROF, _hang)
        signal.signal(signal.SIGALRM, _hang)
        before = _peak()
        for number in numbers:
            print(number, file=sys.stderr, flush=True)  # the last one, where the process dies
            end, details = _ended(name, reader, number, watch)
            strange = sorted(p.name for p in sandbox.iterdir() if p.name not in (_CANARY, "case"))
            if strange or (sandbox / _CANARY).read_text() != _CANARY:
                end, details = "wrote outside", f"{strange}"
                for item in strange:
                    shutil.rmtree(sandbox / item, ignore_errors=True)
                    (sandbox / item).unlink(missing_ok=True)
                (sandbox / _CANARY).write_text(_CANARY)
            if _peak() - before > MOST_BYTES:
                end, details = "memory", f"{(_peak() - before) / 1e9:.1f} GB; then {details}"
                before = _peak()
            ends[end] += 1
            if end not in ("read", "refused"):
                failure = {"case": f"{name} {number}", "end": end, "details": details}
                print(json.dumps(failure), flush=True)
            shutil.rmtree(sandbox / "case")
    print(json.dumps({"reader": name, "cases": len(numbers), "ends": ends}), flush=True)


def _ended(name: str, reader: FuzzedReader, number: int, watch: _Watch) -> tuple[str, str]:
    """Run one case, and return how it ended, with details."""
    random = Random(f"{name} {number}")
    watch.folder.mkdir()
    path = reader.make(random, watch.folder)
    try:
        with _limits(), watch:
            reader.read(path, random)
    except ProtosegError as error:
        return _judged(error, path)
    except (Hang, Outside) as error:
        return type(error).__name__.lower(), traceback.format_exc(limit=-6)[-1500:] + str(error)
    except BaseException as error:  # noqa: BLE001 (what it is, is what is asked)
        return type(error).__name__, traceback.format_exc(limit=-8)[-2500:]
    return "read", ""


def _judged(error: ProtosegError, path: Path) -> tuple[str, str]:
    """Say whether `error` names the file that it is about, and is fit to be read."""
    text = str(error)
    names = {path.name, repr(path.name)[1:-1], ascii(path.name)[1:-1]}
    names |= {name.replace("'", "\\'") for name in names}  # beside one with both kinds of quotes
    if not any(name in text for name in names):
        return "nameless", text[:500]
    if len(text) > _LONGEST_MESSAGE:
        return "endless message", f"{len(text)} characters: {text[:300]}"
    return "refused", ""


def _peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _hang(signum: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {SECONDS} s of computing, or {_WAITING_SECONDS} s of waiting")


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """End what computes for too long; what does not even heed a signal takes the process along."""
    faulthandler.dump_traceback_later(_DEAD_SECONDS, exit=True)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, _WAITING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


class _Watch:
    """Refuses, while it is entered, to write outside a folder, to start a program or to connect."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entered = False

    def __enter__(self) -> None:
        self._entered = True

    def __exit__(self, *reason: object) -> None:
        self._entered = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._entered:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, (str, bytes)):
                real = os.path.realpath(os.fsdecode(path))
                if not real.startswith((str(self.folder), os.devnull)):
                    raise Outside(f"opened {real} to write ({mode})")
        elif event.startswith(_OUTWARD) and event not in _HARMLESS:
            raise Outside(f"{event} {arguments}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
