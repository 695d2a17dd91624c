"""When the exception of `views="interrupt"` comes: for each access, how often the
program had used its result by then, and microseconds since the fault, the median and
the most. Prints a table.

    python bench/exceptions.py [TRIES]
"""

from __future__ import annotations

import ctypes
import mmap
import os
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy

import safemmap

PAGE = safemmap.PAGESIZE
SIZE = 256 * PAGE

Access = Callable[["Memory", list[object]], None]

without_gil = ctypes.CDLL(None).memcmp
without_gil.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]


class Memory:
    """A mapping of a file that is cut to one page."""

    def __init__(self) -> None:
        fd = os.memfd_create("gone")
        os.ftruncate(fd, SIZE)
        self.mapping = mmap.mmap(fd, SIZE)
        self.view = memoryview(self.mapping)
        self.array = numpy.ndarray(SIZE, "u1", self.mapping)
        os.ftruncate(fd, PAGE)
        os.close(fd)


def sums(memory: Memory, used: list[object]) -> None:
    used.append(memory.array.sum())


def loads(memory: Memory, used: list[object]) -> None:
    used.append(without_gil(memory.array.ctypes.data + PAGE, b"", 1))


def copies(memory: Memory, used: list[object]) -> None:
    used.append(bytes(memory.view))


def finds(memory: Memory, used: list[object]) -> None:
    used.append(memory.mapping.find(b"x"))


# No calls: the next one raises.
def indexes(memory: Memory, used: list[object]) -> None:
    last = memory.array[-1]
    hash(last)
    used.append(last)


def stores(memory: Memory, used: list[object]) -> None:
    memory.view[-1] = 1
    hash(None)
    used.append("stored")


ACCESSES: dict[str, Access] = {
    "`a.sum()`, without the GIL": sums,
    "a load by ctypes, without the GIL": loads,
    "`bytes(m)`": copies,
    "`m.find`": finds,
    "`a[-1]`, and a call": indexes,
    "`m[-1] = 1`, and a call": stores,
}


@contextmanager
def contention(threads: int) -> Iterator[None]:
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            sum(range(10))

    others = [threading.Thread(target=work) for _ in range(threads)]
    for other in others:
        other.start()
    yield
    done.set()
    for other in others:
        other.join()


def attempt(memory: Memory, access: Access, late: list[float]) -> bool:
    """Whether the result was used. Appends the seconds since the fault."""
    used: list[object] = []
    try:
        access(memory, used)
    except safemmap.BusError:
        now = time.time()
        late.append(now - safemmap.faults()[0].time)
        return bool(used)
    late.append(float("inf"))
    return True


def measure(memory: Memory, access: Access, tries: int, elsewhere: bool) -> str:
    late: list[float] = []
    count = []

    def work() -> None:
        count.append(sum(attempt(memory, access, late) for _ in range(tries)))

    if elsewhere:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
    median, most = statistics.median(late) * 1e6, max(late) * 1e6
    return f"{count[0]} of {tries}, {median:,.0f} ({most:,.0f})"


def main(tries: int = 15) -> None:
    warnings.simplefilter("ignore", safemmap.FaultWarning)
    columns = [
        (f"{where}, {how}", elsewhere, busy)
        for where, elsewhere in (("main thread", False), ("another", True))
        for how, busy in (("alone", 0), ("contended", 2))
    ]
    version = sys.version.split()[0]
    print(f"| {version} | " + " | ".join(column[0] for column in columns) + " |")
    print("|---" + "|--:" * len(columns) + "|")
    memory = Memory()
    with suppress(safemmap.BusError), safemmap.protect(memory.view, views="interrupt"):
        for name, access in ACCESSES.items():
            cells = []
            for _, elsewhere, busy in columns:
                with contention(busy):
                    cells.append(measure(memory, access, tries, elsewhere))
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
