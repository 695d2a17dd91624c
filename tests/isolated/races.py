"""races.py NAME: several threads use one mapping at once. Fails where something is not
as it is when the threads take turns."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial

import safemmap
from safemmap import handler

THREADS = 4
ROUNDS = 150
SIZE = 1 << 16
BULK = 1 << 19

# What the operations raise while another thread closes, resizes or cuts.
EXPECTED = (ValueError, BufferError, safemmap.BusError)


def file(size: int = SIZE) -> int:
    fd = os.memfd_create("race")
    os.ftruncate(fd, size)
    os.pwrite(fd, b"\1" * size, 0)
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


globals()[sys.argv[1]]()
