"""Two threads over one, in Python and in C: copies of 1 MiB out of 64.

The time is that of 1 MiB. Where two threads do twice as much as one the ratio is 0.5.
"""

from __future__ import annotations

import mmap as standard
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from native import Memory

import safemmap

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two processors (see taskset(1))"
)

MIB, BLOCKS = 1 << 20, 64
SIZE = BLOCKS * MIB
#: The start of the threads is not to show.
PASSES = 4


class Threads:
    """So many of them, each of which copies all, to a target of its own if it will."""

    def __init__(self, threads: int, copy: Callable[[bytearray], None]) -> None:
        self.count = threads * PASSES * BLOCKS
        self._copy = copy
        self._targets = [bytearray(MIB) for _ in range(threads)]

    def __call__(self) -> None:
        threads = [
            threading.Thread(target=self._run, args=[target])
            for target in self._targets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, target: bytearray) -> None:
        for _ in range(PASSES):
            self._copy(target)


class Bare:
    """A function of memory.c, by so many threads."""

    def __init__(self, function: Callable[..., None], m: standard.mmap, threads: int):
        self.count = threads * BLOCKS
        self._run = partial(function, m, threads)

    def __call__(self) -> None:
        self._run()


@pytest.fixture
def mapped(
    memfd: Callable[[int], int],
) -> Iterator[tuple[safemmap.mmap, standard.mmap]]:
    fd = memfd(SIZE)
    with safemmap.mmap(fd, SIZE) as ours, standard.mmap(fd, SIZE) as theirs:
        ours.find(b"x"), theirs.find(b"x")
        yield ours, theirs


@pytest.mark.parametrize("way", ["slices", "readinto"])
def test_copies(
    compare: Callable[..., None],
    mapped: tuple[safemmap.mmap, standard.mmap],
    memory: Memory,
    way: str,
) -> None:
    """Against one thread, and against two that copy in C."""
    ours, theirs = mapped

    def slices(_: bytearray) -> None:
        for at in range(0, SIZE, MIB):
            ours[at : at + MIB]

    def readinto(target: bytearray) -> None:
        for at in range(0, SIZE, MIB):
            ours.readinto(target, at)

    copy = slices if way == "slices" else readinto
    compare(
        f"two threads, {way}",
        safemmap=Threads(2, copy),
        one_thread=Threads(1, copy),
        memcpy=Bare(memory.copy, theirs, 2),
    )


@pytest.mark.parametrize("way", ["copy", "read"])
def test_bare(
    compare: Callable[..., None],
    mapped: tuple[safemmap.mmap, standard.mmap],
    memory: Memory,
    way: str,
) -> None:
    """In C; what reads adds the bytes up, and writes nothing."""
    function = getattr(memory, way)
    compare(
        f"two threads, {way} in C",
        C=Bare(function, mapped[1], 2),
        one_thread=Bare(function, mapped[1], 1),
    )
