"""Processes that do real work in a folder, and are killed in the middle of it.

``python victims.py LIBRARY`` is started with that library before all others. It reads orders, a
line of JSON each, and for each of them forks a process that does one of the works of this folder
and lets its deeds be counted, noted and cut short. So what they import is imported once.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from disk_calls import Call, read_log

from napari_protoseg.errors import ProtosegError

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent


@dataclass(frozen=True)
class Harm:
    """What is done to the folder of a process while it works.

    Parameters
    ----------
    after
        After how many things that it has acknowledged.
    read_only
        A folder in it in which nothing can be written from then on.
    removed
        A pattern of files in it that are removed.
    """

    after: int
    read_only: str | None = None
    removed: str | None = None

    def do(self, workspace: Path) -> None:
        if self.removed is not None:
            found = list(workspace.glob(self.removed))
            assert found, f"nothing is called {self.removed}"
            for path in found:
                path.unlink()
        if self.read_only is not None:
            folder = workspace / self.read_only
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)


@dataclass(frozen=True)
class Ended:
    """What has become of a process.

    Parameters
    ----------
    killed
        Whether it was killed, by the number that it was given.
    refusal
        The error that it has ended with, if it was one for a person to read: its type and text.
    calls
        What it has done to the disk, in order, with what it has acknowledged in between.
    states
        After each thing that it has acknowledged, where they were asked for.
    """

    killed: bool
    refusal: str | None
    calls: tuple[Call, ...]
    states: tuple[dict[str, object], ...]

    @property
    def acknowledged(self) -> int:
        """How many things it has acknowledged before its end."""
        return sum(call.kind == "note" for call in self.calls)


class Victims:
    """Starts such processes.

    Parameters
    ----------
    library
        Compiled `disk_calls.c`.
    place
        Folder for logs.
    before
        What the command begins with.
    """

    def __init__(self, library: Path, place: Path, before: Sequence[str] = ()) -> None:
        self._place = place
        paths = [TESTS.parent, FOLDER, TESTS, TESTS / "jobs", TESTS / "training"]
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        self._server = subprocess.Popen(
            [*before, sys.executable, __file__, str(library)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate(timeout=60)

    def run(
        self,
        work: str,
        workspace: Path,
        *,
        fatal: int = 0,
        kept: int = 0,
        with_bytes: bool = False,
        with_states: bool = False,
        harm: Harm | None = None,
    ) -> Ended:
        """Let a process work in a folder to its end.

        Parameters
        ----------
        work
            Name of a module of this folder.
        workspace
            Where; below it calls to the disk are counted.
        fatal
            Number of the call before which the process is killed; 0: it is not.
        kept
            Where it is not 0, the process is killed within the write with the number `fatal`, of
            those of more than one byte, when so many percent of its bytes are written.
        with_bytes
            Keep what is written.
        with_states
            Look at the state after each thing that is acknowledged.
        harm
            What is done to its folder meanwhile.
        """
        log, states, refusal = (self._place / name for name in ("log", "states", "refusal"))
        for path in (log, states, refusal):
            path.unlink(missing_ok=True)
        order = {
            "work": work,
            "workspace": str(workspace.resolve()),
            "log": str(log),
            "states": str(states) if with_states else None,
            "refusal": str(refusal),
            "harm": None if harm is None else asdict(harm),
            "fatal": fatal,
            "kept": kept,
            "with_bytes": with_bytes,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(order), file=self._server.stdin, flush=True)
        status = json.loads(self._server.stdout.readline())
        calls = tuple(read_log(log))
        killed = calls[-1].kind == "killed"
        assert status == (-9 if killed else 0), f"{work} has ended with {status}"
        found = states.read_text().splitlines() if with_states else []
        refused = refusal.read_text() if refusal.exists() else None
        return Ended(killed, refused, calls, tuple(map(json.loads, found)))


def _serve(library: Path) -> None:
    shim = ctypes.CDLL(str(library))
    shim.watch.argtypes = [ctypes.c_char_p] * 2 + [ctypes.c_int] + [ctypes.c_long] * 2
    for line in sys.stdin:
        order = json.loads(line)
        importlib.import_module(order["work"])
        child = os.fork()
        if child == 0:
            _work(shim, order)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _work(shim: ctypes.CDLL, order: dict[str, Any]) -> None:
    """Do what is ordered, and end this process."""
    try:
        module = importlib.import_module(order["work"])
        workspace = Path(order["workspace"])
        harm = None if order["harm"] is None else Harm(**order["harm"])
        acknowledged = itertools.count(1)

        def acknowledge(what: object) -> None:
            shim.note(str(what).encode())
            if harm is not None and next(acknowledged) == harm.after:
                harm.do(workspace)
            if order["states"] is not None:
                with Path(order["states"]).open("a") as states:
                    print(json.dumps(module.state(workspace)), file=states)

        shim.watch(
            str(workspace).encode(),
            order["log"].encode(),
            order["with_bytes"],
            order["fatal"],
            order["kept"],
        )
        try:
            module.work(workspace, acknowledge)
        except ProtosegError as error:
            Path(order["refusal"]).write_text(f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001 (this process must not go on as the one it was forked from)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
