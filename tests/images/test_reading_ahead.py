"""Threads read what comes next, in order and within bounds."""

from __future__ import annotations

import threading

import pytest

from napari_protoseg.images.ahead import read_ahead


def test_results_come_in_order() -> None:
    read = read_ahead(lambda number: number**2, range(50), cost=lambda number: 1, most=7)
    assert list(read) == [number**2 for number in range(50)]


def test_the_next_ones_are_read_before_they_are_asked_for() -> None:
    begun = threading.Semaphore(0)

    def read(number: int) -> int:
        begun.release()
        return number

    reading = read_ahead(read, range(9), cost=lambda number: 1, most=3)
    assert next(reading) == 0
    for _ in range(3):
        assert begun.acquire(timeout=20)
    reading.close()


def test_no_more_is_held_than_may_be() -> None:
    begun: list[int] = []
    reading = read_ahead(begun.append, [5, 1, 1, 9, 1], cost=lambda size: size, most=6)
    next(reading)
    assert sum(begun) <= 6
    for _ in range(2):
        next(reading)
    assert begun[:3] == [5, 1, 1]
    assert len(list(reading)) == 2


def test_an_error_comes_in_the_place_of_its_result() -> None:
    reading = read_ahead(lambda number: 1 // number, [1, 0, 1], cost=lambda number: 1, most=9)
    assert next(reading) == 1
    with pytest.raises(ZeroDivisionError):
        next(reading)
