"""Who may write to a project: one process, which a file in its folder names."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from napari_protoseg.errors import ProjectLockedError
from napari_protoseg.events import Notice, Severity
from napari_protoseg.storage import storage_errors, would_wait, write_atomically

LOCK = "project.lock"
"""Name of the file in the project folder."""

# The clock that tells when a process has started may be set anew by so much meanwhile.
_CLOCK_SECONDS = 2.0

_MOST_BYTES = 2**16
_LONGEST_NAME = 255

_WAY_OUT = (
    "Close it there, then open it here again. If that program is gone, take the project over."
)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # at the end of the calendar
        raise ValueError("no such time in UTC") from error


class LockOwner(BaseModel):
    """The process that writes to a project.

    Parameters
    ----------
    host
        Name of its machine.
    process
        Its number there; None where the file in the project cannot be read.
    started
        When it has started, in seconds since 1970: numbers of processes are given again.
    ticks, boot
        The same on Linux by what no clock that is set can change, in ticks since its machine has
        started, and which start of the machine that was; None elsewhere.
    user
        Who runs it.
    since
        When it has opened the project; None where it is not known.
    """

    model_config = ConfigDict(frozen=True)

    host: str = Field(default="an unknown machine", max_length=_LONGEST_NAME)
    process: int | None = Field(default=None, ge=0)
    started: float = Field(default=0.0, allow_inf_nan=False)
    ticks: int | None = None
    boot: str | None = Field(default=None, max_length=_LONGEST_NAME)
    user: str = Field(default="somebody", max_length=_LONGEST_NAME)
    since: Annotated[datetime, AfterValidator(_in_utc)] | None = None

    @classmethod
    def here(cls) -> LockOwner:
        """Return this process, from now on."""
        return cls(
            host=socket.gethostname(),
            process=os.getpid(),
            started=psutil.Process().create_time(),
            ticks=_ticks(os.getpid()),
            boot=_boot(),
            user=_user(),
            since=datetime.now(UTC),
        )

    @cached_property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended: only one of this machine is."""
        if self.process is None or self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.process)
            started: float = process.create_time()
            if process.status() == psutil.STATUS_ZOMBIE:  # killed, and nobody has looked yet
                return True
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:  # it is another's process, and there
            return False
        ticks, boot = _ticks(self.process), _boot()
        if None not in (self.ticks, self.boot, ticks, boot):
            return (ticks, boot) != (self.ticks, self.boot)
        return abs(started - self.started) > _CLOCK_SECONDS

    def __str__(self) -> str:
        if self.process is None or self.since is None:
            return f"{self.user} on {self.host}"
        since = f"{self.since:%Y-%m-%d %H:%M} UTC"
        return f"{self.user} on {self.host} (process {self.process}, since {since})"


@dataclass
class _Sharing:
    """What the openings of a project in this process share.

    `openings` is how many there are; 0 where all have let go of the lock. `text` is that of the
    lock, `former` that of the one before, which may be given back.
    """

    text: bytes
    openings: int = 0
    former: bytes | None = None
    has_changed: bool = False


class ProjectLock:
    """The lock of one project as one opening of it sees it.

    All that is open of a project in one process shares its lock; the last to be closed gives it
    up. `take`, `require`, `give_up` and `give_back` are called within a writing transaction of
    the database, which no other process has at the same time.

    Parameters
    ----------
    path
        Of the file; it may be missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: bytes | None = None
        self.former: LockOwner | None = None

    @property
    def is_held(self) -> bool:
        """Whether this opening may write; see `require`, which looks whether that still holds."""
        return self._text is not None

    def other(self) -> LockOwner | None:
        """Return the process that has the lock; None where it is free, or this one has it."""
        return self._other(self._read())

    def take(self, *, take_over: bool = False) -> bool:
        """Take the lock where it is free, or its process is gone; return whether it was taken.

        `former` is afterwards the process that had left it behind, or had to give it up.

        Parameters
        ----------
        take_over
            Take it from whoever has it.

        Raises
        ------
        StorageError
            The folder cannot be written.
        """
        with _guard:
            text = self._read()
            shared = None if text is None else _sharing.get(self._key(text))
            if text is None or shared is None or shared.openings == 0:
                if not take_over and self._other(text) is not None:
                    return False
                former = None if text is None or self._is_let_go(text) else text
                self.former = None if former is None else _owner_of(former)
                before, text = text, LockOwner.here().model_dump_json().encode()
                write_atomically(self._path, text)
                self._remove_sign(before)
                shared = _sharing.setdefault(self._key(text), _Sharing(text, former=former))
            self._text = text
            shared.openings += 1
        return True

    def note_change(self) -> None:
        """Note that something was changed under the lock: it is given back to nobody then."""
        with _guard:
            if self._text is not None:
                _sharing[self._key(self._text)].has_changed = True

    def notice(self) -> Notice | None:
        """Say why the project is read-only, or whose lock was taken; None where neither is so."""
        if self._text is None:
            owner = self.other()
            if owner is None:
                before = "it was open for writing elsewhere. Open it again."
                return Notice(f"The project is read-only here: {before}", Severity.WARNING)
            return Notice(
                f"The project is read-only here: it is open for writing by {owner}. {_WAY_OUT}",
                Severity.WARNING,
                on_terminal=self._take_over_command,
            )
        if self.former is None:
            return None
        if self.former.is_gone:
            return Notice(
                f"The project was left open by {self.former}; it is open for writing here now."
            )
        return Notice(
            f"The project was taken over from {self.former}; only here can it be written to now.",
            Severity.WARNING,
        )

    def require(self) -> None:
        """Make sure that this opening still has the lock.

        Raises
        ------
        ProjectLockedError
            Another process has it, or has had it in between: this opening is read-only for good.
        """
        if self._text is not None and self._read() == self._text:
            return
        text = self._forget()
        if text is not None and self._read() is not None:
            self._leave_sign(text)
        owner = self.other()
        if owner is not None:
            raise ProjectLockedError(
                f"the project is read-only here, for it is open for writing by {owner}",
                where=self._path.parent,
                remedy=_WAY_OUT,
                on_terminal=self._take_over_command,
            )
        raise ProjectLockedError(
            "the project was open for writing elsewhere, and may have changed since",
            where=self._path.parent,
            remedy="Open it again to go on.",
        )

    def give_up(self) -> None:
        """Give the lock up; without one, nothing happens."""
        shared = self._shared_by_none()
        if shared is not None:
            self._remove(shared)

    def give_back(self) -> None:
        """Give the lock up as if it had not been taken: whoever had it then goes on with it.

        Where something was changed under it, by whichever opening, nobody has it afterwards.

        Raises
        ------
        StorageError
            The folder cannot be written. Nobody has the lock then; where it cannot be removed
            either, others read that this process has it until that has ended.
        """
        shared = self._shared_by_none()
        if shared is None:
            return
        former = None if shared.has_changed else shared.former
        if former is None or _owner_of(former).is_gone:
            self._remove(shared)
            return
        try:
            write_atomically(self._path, former)
        except BaseException:
            self._remove(shared)
            raise

    def _other(self, text: bytes | None) -> LockOwner | None:
        """Return the other process that may write under a lock; None where none does."""
        if text is None or self._key(text) in _sharing or self._is_let_go(text):
            return None
        owner = _owner_of(text)
        return None if owner.is_gone else owner

    def _is_let_go(self, text: bytes) -> bool:
        """Tell whether its process has no opening any more that may write under a lock."""
        return os.path.lexists(self._sign(text)) or any(
            # Under whatever path: the folder may have been moved since.
            (process, known) == (os.getpid(), text) and not shared.openings
            for (process, _, known), shared in list(_sharing.items())
        )

    def _shared_by_none(self) -> _Sharing | None:
        """Let go of the lock; return what was shared where it is still there, and of none now."""
        text = self._forget()
        if text is None:
            return None
        found = self._read()
        if found == text:
            return _sharing[self._key(text)]
        if found is not None:  # who has taken it over may yet give it back
            self._leave_sign(text)
        return None

    def _remove(self, shared: _Sharing) -> None:
        self._remove_sign(shared.former)
        try:
            self._path.unlink(missing_ok=True)
        except OSError:  # Windows removes no file that is just being read
            self._leave_sign(shared.text)

    def _sign(self, text: bytes) -> Path:
        """Return the file that says of a lock that its process has let go of it.

        It is named as what killed programs leave behind, so that a check removes it.
        """
        return self._path.with_name(f".{LOCK}.{hashlib.sha256(text).hexdigest()[:8]}")

    def _leave_sign(self, text: bytes) -> None:
        # Where the folder cannot be written, the lock is that of this process until it ends.
        with suppress(OSError):
            self._sign(text).touch(exist_ok=False)

    def _remove_sign(self, text: bytes | None) -> None:
        if text is not None:
            with suppress(OSError):
                self._sign(text).unlink(missing_ok=True)

    @property
    def _take_over_command(self) -> str:
        return f"protoseg check {self._path.parent} --take-over"

    def _forget(self) -> bytes | None:
        """Let go of the lock; return its text where no opening of this process has it now."""
        with _guard:
            text, self._text = self._text, None
            if text is None:
                return None
            shared = _sharing[self._key(text)]
            shared.openings -= 1
            return None if shared.openings else text

    def _read(self) -> bytes | None:
        with storage_errors(self._path):
            try:
                if would_wait(self._path.stat().st_mode):
                    return b""
                with self._path.open("rb") as file:
                    return file.read(_MOST_BYTES)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _key(self, text: bytes) -> tuple[int, Path, bytes]:
        return os.getpid(), self._path, text


def _owner_of(text: bytes) -> LockOwner:
    try:
        return LockOwner.model_validate_json(text)
    except ValidationError:  # no program of ours has written it: it is not known to be gone
        return LockOwner()


def _ticks(process: int) -> int | None:
    """Return when a process has started, in ticks since the machine has; None where not known."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
        # The name of the program stands in parentheses, and may hold any character.
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, LookupError, ValueError):
        return None


def _boot() -> str | None:
    """Return what tells this start of the machine from every other; None where not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in some containers
        return "somebody"


# Of each project that this process has or had the lock of, by the text of that.
_sharing: dict[tuple[int, Path, bytes], _Sharing] = {}
_guard = threading.Lock()
