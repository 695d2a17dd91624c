"""Faults on many threads at once, and operations while another thread closes or resizes
the mapping."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PAGE, LossyFile, open_fds

import safemmap
from safemmap import BusError

THREADS = 4
FAULTS_EACH = 25_000
BULK = 64 * 1024 * 1024


def together(count: int, work: Callable[[int], None]) -> None:
    """Run `work(0)`, `work(1)`, ... on threads that start at once."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run(index: int) -> None:
        barrier.wait()
        try:
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def mapping_count() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


def test_each_of_100_000_faults_reaches_its_own_thread(lossy: LossyFile) -> None:
    with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
        lossy.shrink(PAGE)

        def work(index: int) -> None:
            page = index + 1
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            for i in range(FAULTS_EACH):
                at = page * PAGE + i % PAGE
                try:
                    m[at]
                except BusError as error:
                    assert error.offset == at
                else:
                    raise AssertionError("no fault")
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask

        together(THREADS, work)  # whatever is allocated once is allocated now
        descriptors, mappings, memory = open_fds(), mapping_count(), resident()
        together(THREADS, work)
        assert open_fds() == descriptors
        # (malloc may have needed one more arena, for a thread.)
        assert mapping_count() - mappings < 50
        assert resident() - memory < 8 * 1024 * 1024


def new_bulk() -> safemmap.mmap:
    fd = os.memfd_create("bulk")
    os.ftruncate(fd, BULK)
    mapping = safemmap.mmap(fd, BULK)
    os.close(fd)
    return mapping


@pytest.fixture
def bulk() -> safemmap.mmap:
    return new_bulk()


def change_until_refused(change: Callable[[safemmap.mmap], None]) -> bool:
    """Whether it ever was, while another thread has one bulk operation after the other;
    or it closed the mapping between two of them, as it may."""
    bulk = new_bulk()
    refused = False
    stop = threading.Event()
    results = []

    def read() -> None:
        with contextlib.suppress(ValueError):  # it is closed
            while not stop.is_set():
                results.append(bulk.find(b"x"))

    thread = threading.Thread(target=read)
    thread.start()
    while not results:
        pass
    while not (refused or bulk.closed):
        try:
            change(bulk)
        except BufferError:
            refused = True
    stop.set()
    thread.join()
    bulk.close()
    assert set(results) == {-1}
    return refused


@pytest.mark.parametrize(
    "change",
    [lambda bulk: bulk.resize(BULK), safemmap.mmap.close],
    ids=["resize", "close"],
)
def test_close_and_resize_during_bulk_operations(
    change: Callable[[safemmap.mmap], None],
) -> None:
    """BufferError while one is under way on another thread, which ends unharmed."""
    for _ in range(3):
        while not change_until_refused(change):
            pass


def test_threads_that_read_get_different_bytes() -> None:
    """A bulk read gives up the GIL, and still takes its place in the file alone."""
    size = 1 << 20
    fd = os.memfd_create("shared position")
    for number in range(64):
        os.write(fd, bytes([number]) * size)
    with safemmap.mmap(fd, 64 * size) as m:
        got: list[bytes] = []
        together(4, lambda index: got.extend(m.read(size) for _ in range(16)))
        assert sorted(block[0] for block in got) == list(range(64))
        assert all(block == block[:1] * size for block in got)
        assert m.tell() == 64 * size
    os.close(fd)


def test_a_fault_in_a_bulk_read_gives_the_position_back(bulk: safemmap.mmap) -> None:
    fd = os.memfd_create("shrinks")
    os.ftruncate(fd, BULK)
    with safemmap.mmap(fd, BULK) as m:
        m.seek(100)
        os.ftruncate(fd, BULK - PAGE)
        for call in (m.read, m.readline, lambda: m.write(bytes(BULK - 100))):
            with pytest.raises(BusError):
                call()
            assert m.tell() == 100
    os.close(fd)
    bulk.close()


def test_a_peer_that_shrinks_and_grows_all_the_time() -> None:
    """Each read is whole, or short of the page that was gone at that moment."""
    file = LossyFile(64 * PAGE)
    stop = threading.Event()

    def peer() -> None:
        while not stop.is_set():
            file.shrink(16 * PAGE)
            file.restore()

    thread = threading.Thread(target=peer)
    thread.start()
    outcomes = {"read": 0, "fault": 0}

    def work(index: int) -> None:
        with safemmap.mmap(file.fd, 64 * PAGE) as m:
            for _ in range(3000):
                try:
                    data = m[:]
                except BusError as error:
                    outcomes["fault"] += 1
                    assert 16 * PAGE <= error.offset < 64 * PAGE
                else:
                    outcomes["read"] += 1
                    # What was gone and came back may read as zeros.
                    assert data[: 16 * PAGE] == file.data[: 16 * PAGE]

    while True:
        try:
            safemmap.mmap(file.fd, 64 * PAGE).close()
            break
        except ValueError:
            continue
    try:
        together(2, retrying(work))
    finally:
        stop.set()
        thread.join()
    assert outcomes["fault"] > 0
    file.close()


def retrying(work: Callable[[int], None]) -> Callable[[int], None]:
    """The peer may have shrunk the file just as it was to be mapped."""

    def run(index: int) -> None:
        while True:
            try:
                return work(index)
            except ValueError:
                continue

    return run


def test_fault_on_a_thread_with_a_small_stack(lossy: LossyFile) -> None:
    before = threading.stack_size(64 * 1024)
    try:
        with safemmap.mmap(lossy.fd, 8 * PAGE) as m:
            lossy.shrink(0)

            def work(index: int) -> None:
                for _ in range(100):
                    with pytest.raises(BusError):
                        m[index]

            together(2, work)
    finally:
        threading.stack_size(before)
