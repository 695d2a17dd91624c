"""Faults of views, and what comes after one: the end of the scope, and reset().

A fault takes the page away, so each one has the file cut before it, and mapped anew
after it, while the clock stands.
"""

from __future__ import annotations

import mmap as standard
import os
import time
from collections.abc import Callable

import pytest
from native import Memory
from statement import Statement

import safemmap


class Faults:
    """What happens around one fault after the other, of which a part is timed."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = fd, size
        self._map = safemmap.mmap(fd, size)
        with self._map.access():
            pass  # from here on it is registered

    def timeit(self, number: int) -> float:
        passed = 0
        for _ in range(number):
            os.ftruncate(self._fd, 0)
            passed += self._fault()
            os.ftruncate(self._fd, self._size)
            passed += self._after()
        return passed

    def _fault(self) -> int:
        raise NotImplementedError

    def _after(self) -> int:
        return 0


class OfAView(Faults):
    """To the BusError at the end of the scope."""

    def _fault(self) -> int:
        mapping, error, clock = self._map, safemmap.BusError, time.perf_counter_ns
        start = clock()
        try:
            with mapping.access() as view:
                view[0]
        except error:
            pass
        return clock() - start

    def _after(self) -> int:
        self._map.reset()
        return 0


class Guarded(Faults):
    def _fault(self) -> int:
        mapping, error, clock = self._map, safemmap.BusError, time.perf_counter_ns
        start = clock()
        try:  # noqa: SIM105 (which would be in the figure)
            mapping[0]
        except error:
            pass
        return clock() - start


class Reset(Faults):
    def _fault(self) -> int:
        try:
            with self._map.access() as view:
                view[0]
        except safemmap.BusError:
            pass
        return 0

    def _after(self) -> int:
        reset, clock = self._map.reset, time.perf_counter_ns
        start = clock()
        reset()
        return clock() - start


class Mapping:
    """mmap(2) and munmap(2), in C."""

    def __init__(self, memory: Memory, fd: int, size: int) -> None:
        self._memory, self._fd, self._size = memory, fd, size

    def timeit(self, number: int) -> float:
        return self._memory.map_and_unmap(self._fd, self._size, number)


class CallsOfReset(Mapping):
    """The system calls of `reset`, in C, where a page was replaced."""

    def timeit(self, number: int) -> float:
        return self._memory.reset(self._fd, self._size, number)


SIZES = {"64 KiB": 1 << 16, "64 MiB": 1 << 26}


@pytest.mark.parametrize("size", SIZES)
def test_fault(
    compare: Callable[..., None], memfd: Callable[[int], int], size: str
) -> None:
    fds = [memfd(SIZES[size]) for _ in range(2)]
    compare(
        f"fault of a view of {size}",
        view=OfAView(fds[0], SIZES[size]),
        guarded=Guarded(fds[1], SIZES[size]),
    )


@pytest.mark.parametrize("size", SIZES)
def test_reset(
    compare: Callable[..., None],
    memfd: Callable[[int], int],
    memory: Memory,
    size: str,
) -> None:
    fds = [memfd(SIZES[size]) for _ in range(3)]
    compare(
        f"reset of {size}",
        reset=Reset(fds[0], SIZES[size]),
        mmap_and_munmap=Mapping(memory, fds[1], SIZES[size]),
        its_system_calls=CallsOfReset(memory, fds[2], SIZES[size]),
    )


def test_view(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    fd = memfd(65536)
    with safemmap.mmap(fd, 0) as ours, standard.mmap(fd, 0) as theirs:
        compare(
            "memoryview and release",
            safemmap=Statement("memoryview(m).release()", {"m": ours}),
            mmap=Statement("memoryview(m).release()", {"m": theirs}),
        )


def test_protect(compare: Callable[..., None], memfd: Callable[[int], int]) -> None:
    """Of memory that the standard class has mapped."""
    fd = memfd(65536)
    names = {"fd": fd, "protect": safemmap.protect, "mmap": standard.mmap}
    with standard.mmap(fd, 0) as theirs:
        compare(
            "protect, enter and exit",
            safemmap=Statement("with protect(m): pass", {**names, "m": theirs}),
            mmap_and_close=Statement("mmap(fd, 65536).close()", names),
        )
