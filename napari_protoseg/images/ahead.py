"""Reading ahead: threads prepare what comes next while the caller works on what is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")

_READERS = 4


def read_ahead(
    read: Callable[[Item], Read],
    items: Iterable[Item],
    *,
    cost: Callable[[Item], int],
    most: int,
) -> Generator[Read, None, None]:
    """Yield what `read` gives for each item, in order.

    Parameters
    ----------
    read
        Called from threads; what it raises is raised where its result would have come.
    items
        To read.
    cost
        Of holding the result of an item, such as its pixels.
    most
        Of all results that are read, or being read, before they are asked for. What costs more
        than that by itself is read when it is asked for, alone.
    """
    waiting: deque[tuple[Future[Read], int]] = deque()
    held = 0
    coming = iter(items)
    following = next(coming, None)
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            while following is not None or waiting:
                while following is not None and (not waiting or held + cost(following) <= most):
                    waiting.append((pool.submit(read, following), cost(following)))
                    held += waiting[-1][1]
                    following = next(coming, None)
                future, size = waiting.popleft()
                held -= size
                yield future.result()
        finally:
            for future, _ in waiting:
                future.cancel()
