"""races.py NAME: several threads use one mapping at once. Fails where something is not
as it is when the threads take turns."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import safemmap
from safemmap import handler

THREADS = 4
ROUNDS = 150
SIZE = 1 << 16
BULK = 1 << 19

# What the operations raise while another thread closes, resizes or cuts.
EXPECTED = (ValueError, IndexError, BufferError, safemmap.BusError)


def file(size: int = SIZE, byte: bytes = b"\1") -> int:
    fd = os.memfd_create("race")
    os.pwrite(fd, byte * size, 0)
    return fd


def together(*jobs: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def again(job: Callable[[], object], rounds: int = ROUNDS) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(rounds):
            with contextlib.suppress(*EXPECTED):
                job()

    return repeat


def renewed(use: Callable[[safemmap.mmap], object], size: int = SIZE) -> None:
    """One thread closes the mapping and makes another while others use it."""
    fd = file(size)
    box = [safemmap.mmap(fd, 0)]

    def renew() -> None:
        box[0].close()
        box[0] = safemmap.mmap(fd, 0)

    uses = [again(lambda: use(box[0]))] * (THREADS - 1)
    together(*uses, again(renew))


def view(m: safemmap.mmap) -> None:
    with memoryview(m) as v:
        v[0], v[-1], bytes(v[:100])


def close_while_reading() -> None:
    renewed(lambda m: (m[10:5000], m[5], m.find(b"\2"), m.read(3), b"\1" in m))


def close_while_copying_much() -> None:
    renewed(lambda m: m[0:BULK], 2 * BULK)


def first_views() -> None:
    renewed(view)


def resized(use: Callable[[safemmap.mmap], object]) -> None:
    m = safemmap.mmap(file(), 0)

    def resize() -> None:
        m.resize(SIZE // 4)
        m.resize(SIZE)

    together(*[again(lambda: use(m))] * (THREADS - 1), again(resize))


def resize_while_reading() -> None:
    resized(lambda m: (m[10 : len(m) - 5], m[len(m) - 1]))


def resize_while_viewing() -> None:
    resized(view)


def exports_are_counted() -> None:
    m = safemmap.mmap(file(), 0)
    together(*[again(lambda: view(m))] * THREADS)
    m.close()


def scopes_are_counted() -> None:
    m = safemmap.mmap(file(), 0)

    def scope() -> None:
        with m.access() as v:
            v[0]

    together(*[again(scope)] * THREADS)
    m.close()


def operations_are_counted() -> None:
    m = safemmap.mmap(file(BULK), 0)
    buffers = [bytearray(BULK) for _ in range(THREADS)]
    together(*(again(partial(m.readinto, b, 0), 20) for b in buffers))
    m.close()
    handler.uninstall()


def position() -> None:
    m = safemmap.mmap(file(), 0)
    sizes: list[int] = []

    def read() -> None:
        size = 0
        while piece := m.read(7):
            size += len(piece)
        sizes.append(size)

    together(*[read] * THREADS)
    assert sum(sizes) == SIZE, sizes


def iterator() -> None:
    bytes_of = iter(safemmap.mmap(file(), 0))
    counts: list[int] = []
    together(*[lambda: counts.append(sum(1 for _ in bytes_of))] * THREADS)
    assert sum(counts) == SIZE, counts


def faults_and_reset() -> None:
    warnings.simplefilter("ignore")
    fd = file()
    m = safemmap.mmap(fd, 0)

    def cut() -> None:
        os.ftruncate(fd, 0)
        os.ftruncate(fd, SIZE)
        m.reset()

    views = [again(lambda: view(m))] * 2
    together(*views, again(lambda: (m.faulted, m.fault)), again(cut))


def faults_are_taken_once() -> None:
    warnings.simplefilter("ignore")
    taken: list[safemmap.Fault] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set():
            taken.extend(safemmap.faults())

    def fault() -> None:
        try:
            for _ in range(ROUNDS):
                fd = file(1)
                with safemmap.mmap(fd, 0) as m, memoryview(m) as v:
                    os.ftruncate(fd, 0)
                    v[0]
                os.close(fd)
        finally:
            done.set()

    together(fault, take, take, take)
    taken.extend(safemmap.faults())
    assert len({fault.time for fault in taken}) == len(taken) == ROUNDS, len(taken)


def protection_ends_twice() -> None:
    m = mmap.mmap(file(), 0)
    box = [safemmap.protect(m)]

    def renew() -> None:
        box[0] = safemmap.protect(m)

    def end() -> None:
        assert not box[0].faulted
        box[0].close()

    uses = [again(end)] * (THREADS - 1)
    together(*uses, again(renew))


def threads_come_and_go() -> None:
    warnings.simplefilter("ignore")

    def fault() -> None:
        fd = file(1)
        try:
            with safemmap.mmap(fd, 0, views="interrupt") as m, memoryview(m) as v:
                os.ftruncate(fd, 0)
                v[0]
                len(range(1))
        finally:
            os.close(fd)

    def start() -> None:
        threading.Thread(target=int).start()

    together(again(fault, 40), again(fault, 40), again(start, 100))


def guarded_faults() -> None:
    fd = file()
    m = safemmap.mmap(fd, 0)
    os.ftruncate(fd, 0)

    def read() -> None:
        for _ in range(ROUNDS):
            try:
                m[4097:5000]
            except safemmap.BusError as error:
                assert error.offset == 4097, error

    together(*[read] * THREADS)


def reading() -> None:
    m = safemmap.mmap(file(), 0)

    def read() -> None:
        for _ in range(ROUNDS):
            assert m[4097:5000] == b"\1" * 903
            assert m[7] == 1
            assert m.find(b"\2") == -1

    together(*[read] * THREADS)


# ---- Short reads, which take no lock ----------------------------------------


#: Almost bulk: threads are often interrupted within.
SHORT = BULK // 2 - 4096
ONES = b"\1" * SHORT


def read_ones(m: safemmap.mmap) -> None:
    """The file has held nothing else at any time."""
    assert m[:] in (ONES, ONES[: SHORT // 4])
    assert m[7] == m[-7] == 1
    assert m[4090:4190] == m[-100:] == b"\1" * 100
    assert m.find(b"\1", 100) == 100
    assert m.find(b"\1\1\2") == m.rfind(b"\2") == -1
    assert b"\2" not in m
    assert next(iter(m)) == b"\1"


def beside_reads(change: Callable[[], object], box: list[safemmap.mmap]) -> None:
    """Threads read what is in the box, and one changes it as they begin."""
    begun, done = threading.Event(), threading.Event()

    def read() -> None:
        while not done.is_set():
            with contextlib.suppress(*EXPECTED):
                begun.set()
                read_ones(box[0])

    def change_it() -> None:
        try:
            for _ in range(ROUNDS // 3):
                begun.wait(1)  # (They may have failed.)
                begun.clear()
                change()
        finally:
            done.set()

    together(*[read] * (THREADS - 1), change_it)


def close_beside_reads() -> None:
    ones, twos = file(SHORT), file(SHORT, b"\2")
    box = [safemmap.mmap(ones, 0)]

    def renew() -> None:
        box[0].close()
        with mmap.mmap(twos, 0, mmap.MAP_SHARED | mmap.MAP_POPULATE):
            pass  # it lies where that one was
        box[0] = safemmap.mmap(ones, 0)

    beside_reads(renew, box)


def resize_beside_reads() -> None:
    ones, twos = file(SHORT), file(SHORT, b"\2")
    m = safemmap.mmap(ones, 0)

    def resize() -> None:
        m.resize(SHORT // 4, truncate=False)
        with mmap.mmap(twos, 0, mmap.MAP_SHARED | mmap.MAP_POPULATE):
            m.resize(SHORT, truncate=False)

    beside_reads(resize, [m])


def poison(m: safemmap.mmap, fd: int) -> None:
    """Have a view replace the pages by zeros, and fill the file with ones again."""
    with memoryview(m) as v:
        os.ftruncate(fd, 0)
        v[7], v[-7]
    os.pwrite(fd, ONES, 0)


def first_view_beside_reads() -> None:
    warnings.simplefilter("ignore")
    fd = file(SHORT)
    box = [safemmap.mmap(fd, 0)]

    def renew() -> None:
        poison(box[0], fd)
        box[0].close()
        box[0] = safemmap.mmap(fd, 0)

    beside_reads(renew, box)


def reset_beside_reads() -> None:
    warnings.simplefilter("ignore")
    fd = file(SHORT)
    m = safemmap.mmap(fd, 0)

    def reset() -> None:
        poison(m, fd)
        m.reset()

    beside_reads(reset, [m])


def error_unpickled_beside_readers() -> None:
    fd = file()
    met: Any = None
    with safemmap.mmap(fd, SIZE) as m:
        os.ftruncate(fd, 0)
        try:
            m[0]
        except safemmap.BusError as error:
            met = error
    state = met.__reduce__()[2]

    def read() -> None:
        met.operation, met.path, met.name, str(met)

    unpickle = again(lambda: met.__setstate__(state), 100 * ROUNDS)
    together(unpickle, *(again(read, 100 * ROUNDS),) * 2)


def fork_beside_reads() -> None:
    """By a library: Python would stop the threads, and none would be reading."""
    mapping = safemmap.mmap(file(SHORT), 0)
    done = threading.Event()

    # (Not of the enclosing function: the lock of a variable that functions share may be
    # held by a thread that the child does not have.)
    def read(m: safemmap.mmap = mapping) -> None:
        while not done.is_set():
            m[:]

    def fork_all(m: safemmap.mmap = mapping) -> None:
        fork = ctypes.PyDLL(None).fork
        try:
            for _ in range(20):
                child = fork()
                if child == 0:
                    signal.alarm(30)
                    m.close()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            done.set()

    together(*[read] * (THREADS - 1), fork_all)


globals()[sys.argv[1]]()
