"""How long a person is made to wait for a disk that neither writes nor fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path

from napari_protoseg.errors import StorageError

MOST_SECONDS = 120.0
AGAIN_SECONDS = 2.0
"""How long where a person has waited in vain before, and the disk has not answered since."""


class Patience:
    """Waits for a disk, once for long."""

    def __init__(self) -> None:
        self._is_spent = False

    def wait(self, action: Callable[[float], object], where: Path) -> None:
        """Do something that may wait for the disk.

        Parameters
        ----------
        action
            Is given how many seconds it may wait, and raises `TimeoutError` then.
        where
            The place on the disk, for a person to read.

        Raises
        ------
        StorageError
            The disk has not answered.
        ProtosegError
            Of `action`.
        """
        was_spent, self._is_spent = self._is_spent, False
        try:
            action(AGAIN_SECONDS if was_spent else MOST_SECONDS)
        except TimeoutError as error:
            self._is_spent = True
            raise StorageError(
                str(error), where=where, remedy="The disk does not answer: wait, or bring it back."
            ) from error


def close_in_time(close: Callable[[], None], seconds: float) -> None:
    """Close a project in a thread of its own, and wait for it.

    Parameters
    ----------
    close
        Closes it.
    seconds
        How long to wait.

    Raises
    ------
    TimeoutError
        It has taken longer; it goes on, and the program does not wait for it as it ends.
    """
    done: Future[None] = Future()

    def work() -> None:
        try:
            close()
        except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=work, name="closing", daemon=True).start()
    if not wait([done], seconds).done:
        raise TimeoutError("the project is not closed yet; all that was saved is on disk")
    done.result()
