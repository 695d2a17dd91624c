"""Two threads over one: short reads of one mapping, and copies of 1 MiB out of 64, in
Python and in C.

The time is that of one read, and of 1 MiB. Where two threads do twice as much as one
the ratio is 0.5.
"""

from __future__ import annotations

import mmap as standard
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

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
READS = 100_000


class Threads:
    """A thread for each job, which does something so many times."""

    def __init__(self, times: int, *jobs: Callable[[], None]) -> None:
        self.count = times * len(jobs)
        self._jobs = jobs

    def __call__(self) -> None:
        threads = [threading.Thread(target=job) for job in self._jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def copying(threads: int, copy: Callable[[bytearray], None]) -> Threads:
    """Each copies all, to a target of its own if it will."""

    def run(target: bytearray) -> None:
        for _ in range(PASSES):
            copy(target)

    jobs = [partial(run, bytearray(MIB)) for _ in range(threads)]
    return Threads(PASSES * BLOCKS, *jobs)


def reading(
    threads: int,
    m: safemmap.mmap | standard.mmap,
    method: str,
    make_argument: Callable[[], object],
) -> Threads:
    """Each has a bound method and an argument of its own: without a GIL, to count the
    references to an object that they share makes threads wait for one another."""

    def run() -> None:
        read, argument = getattr(m, method), make_argument()
        for _ in repeat(None, READS):
            read(argument)

    return Threads(READS, *[run] * threads)


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


@pytest.mark.parametrize(
    ("name", "method", "make_argument"),
    [
        ("m[i]", "__getitem__", lambda: 5),
        ("m[0:64]", "__getitem__", lambda: slice(64)),
        ("find, hit after 79", "find", lambda: b"x"),
    ],
)
def test_short_reads(
    compare: Callable[..., None],
    memfd: Callable[[int], int],
    name: str,
    method: str,
    make_argument: Callable[[], object],
) -> None:
    """Against one thread, and against two with the standard class. With the GIL they
    take turns."""
    fd = memfd(4096)
    os.pwrite(fd, b"x", 79)
    with safemmap.mmap(fd, 0) as ours, standard.mmap(fd, 0) as theirs:
        compare(
            f"two threads, {name}",
            safemmap=reading(2, ours, method, make_argument),
            one_thread=reading(1, ours, method, make_argument),
            mmap=reading(2, theirs, method, make_argument),
        )


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
        safemmap=copying(2, copy),
        one_thread=copying(1, copy),
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
