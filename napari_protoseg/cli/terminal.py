"""Driving a job on a terminal: progress, notices, Ctrl+C, exit codes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TypeVar
from unicodedata import category

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as ProgressBar,
)

from napari_protoseg.errors import ProtosegError, StorageError, with_command
from napari_protoseg.events import Event, Job, Notice, Progress, Request, Severity
from napari_protoseg.training.events import EpochFinished, StepFinished

Result = TypeVar("Result")

_TENTHS = 10

# Control characters, parts of no character, and ends of lines and of paragraphs.
_STEERING = ("Cc", "Cs", "Zl", "Zp")
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Codes
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class Exit(IntEnum):
    """Exit codes; 2 is wrong usage, by the convention of shells."""

    DONE = 0
    PROBLEMS = 1
    INPUT = 3
    STORAGE = 4
    STOPPED = 130


class Terminal:
    """Standard output for results, standard error for everything said on the way.

    Parameters
    ----------
    quiet
        Say nothing on the way but warnings.
    as_json
        Print the result as JSON.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self.stopped = False
        self._out = Console(highlight=False, soft_wrap=True, emoji=False)
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def run(self, job: Job[Result]) -> Result:
        """Drive `job` to its end; the first Ctrl+C asks it to stop, the second leaves it.

        `stopped` tells afterwards whether it was asked to.
        """
        with _interrupts() as asked, _Display(self._console, quiet=self.quiet) as display:
            answer: Request | None = None
            while True:
                try:
                    event = job.send(answer)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                finally:
                    self.stopped = bool(asked)
                display.show(event)
                answer = Request.STOP if asked else None

    def tell(self, notice: Notice) -> None:
        """Show a sentence that is of no job."""
        _Display(self._console, quiet=self.quiet).show(notice)

    def result(self, text: str, record: dict[str, Any]) -> None:
        """Print the result: `record` where JSON is wanted, else `text`."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, indent=2, default=str, allow_nan=False) + "\n")
        else:
            self._out.print(escape(visible(text)))

    def leave(self, how_to_go_on: str) -> NoReturn:
        """Exit after a stop, saying how to go on."""
        self._console.print(escape(f"Stopped. {how_to_go_on}"))
        raise typer.Exit(Exit.STOPPED)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn a typed error into a sentence and an exit code."""
        try:
            yield
        except StorageError as error:
            self._fail(error, Exit.STORAGE)
        except ProtosegError as error:
            # A job that has nothing to keep of what it was stopped in says so by an error.
            self._fail(error, Exit.STOPPED if self.stopped else Exit.INPUT)
        except KeyboardInterrupt as error:
            self._console.print("Left at once.")
            raise typer.Exit(Exit.STOPPED) from error

    def _fail(self, error: ProtosegError, code: Exit) -> NoReturn:
        said = with_command(str(error), error.on_terminal)
        word = "Stopped:" if code is Exit.STOPPED else "[red]Error:[/red]"
        self._console.print(f"{word} {escape(visible(said, newline=True))}")
        raise typer.Exit(code) from error


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first Ctrl+C in a list; the second raises KeyboardInterrupt."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Display:
    """Shows events: bars on a terminal, a line for each tenth elsewhere."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._bar: ProgressBar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._bar = ProgressBar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Notice):
            text = escape(visible(with_command(event.text, event.on_terminal)))
            if event.severity is Severity.WARNING:
                self._console.print(f"[yellow]Note:[/yellow] {text}")
            elif not self._quiet:
                self._console.print(text)
        elif self._quiet:
            return
        elif isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, StepFinished):
            self._advance(event.progress, f"loss {event.loss:.3f}")
        elif isinstance(event, EpochFinished):
            self._console.print(_epoch_line(event))

    def _advance(self, progress: Progress, detail: str = "") -> None:
        stage, done, total = progress.stage, progress.done, progress.total
        described = f"{stage} ({detail})" if detail else stage
        if self._bar is not None:
            # Stages may take turns, as those of each epoch do.
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(escape(described), total=total)
            self._bar.update(
                self._tasks[stage], completed=done, total=total, description=escape(described)
            )
            return
        tenth = _TENTHS * done // max(total, 1)
        if tenth != self._tenths.get(stage):
            self._tenths[stage] = tenth
            self._console.print(escape(f"{described}: {done} of {total}"))


def visible(text: str, *, newline: bool = False) -> str:
    """Return text as a terminal may be given it: what would steer it, or turn it, is spelled out.

    Names of files and classes may hold any of that.

    Parameters
    ----------
    text
        What is to be said.
    newline
        Spell newlines out, too: what is said is one sentence.
    """
    kept = "" if newline else "\n"
    return "".join(
        character
        if character in kept or not (category(character) in _STEERING or character in _TURNING)
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _epoch_line(event: EpochFinished) -> str:
    parts = [f"Epoch {event.epoch + 1} of {event.epochs}: loss {event.loss:.3f}"]
    if event.held_out_loss is not None and event.held_out_accuracy is not None:
        parts.append(
            f"held-out loss {event.held_out_loss:.3f}, accuracy {event.held_out_accuracy:.1%}"
        )
    if event.score is not None:
        parts.append(f"mIoU {event.score:.3f}")
    return ", ".join(parts) + (" (best so far)" if event.best else "")
