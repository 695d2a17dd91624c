"""Threads fault, fork, and fault again in parent and child, while others do the same.

Arguments: how many threads, and how many forks of each. Prints how many children did
well.
"""

import contextlib
import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import warnings
import zlib

import safemmap

faulthandler.disable()
# Python 3.12 and later advise against what is done here.
warnings.simplefilter("ignore", DeprecationWarning)
# On a busy machine a thread may take its time to ask for its fault.
warnings.simplefilter("ignore", safemmap.FaultWarning)
threads, forks_each = map(int, sys.argv[1:])

PAGE = safemmap.PAGESIZE
BULK = 512 * 1024  # from 256 KiB on the GIL is given up: these faults are in flight
LIMIT = 10  # seconds for a child that takes milliseconds
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
started = threading.Barrier(threads)
failures: list[str] = []
children: list[int] = []


def mapping_with_a_page_gone() -> safemmap.mmap:
    fd = os.memfd_create("file")
    os.ftruncate(fd, BULK)
    m = safemmap.mmap(fd, BULK)
    os.ftruncate(fd, BULK - PAGE)
    os.close(fd)
    return m


def fault_under_a_guard(m: safemmap.mmap) -> None:
    for read in (lambda: m[BULK - 1], lambda: m[:]):
        try:
            read()
        except safemmap.BusError as error:
            assert not error.poisoned
            assert error.offset in (BULK - 1, BULK - PAGE)
        else:
            raise AssertionError("no BusError")


def fault_under_a_view(m: safemmap.mmap, view: memoryview) -> None:
    assert not m.faulted
    zlib.crc32(view)  # without the GIL
    assert m.faulted
    with contextlib.suppress(safemmap.BusError):
        m.check()
        raise AssertionError("not poisoned")


def fault_everywhere() -> None:
    m = mapping_with_a_page_gone()
    fault_under_a_guard(m)
    with memoryview(m) as view:
        fault_under_a_view(m, view)
    m.close()


def in_child(m: safemmap.mmap, inherited: safemmap.mmap, view: memoryview) -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    status = 1
    try:
        fault_under_a_guard(m)
        fault_under_a_view(inherited, view)
        fault_everywhere()
        status = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def status_of(child: int) -> int:
    """One that hangs is killed; it may have all other signals blocked."""
    pidfd = os.pidfd_open(child)
    if not select.select([pidfd], [], [], LIMIT)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(pidfd)
    return os.waitpid(child, 0)[1]


def fork_often() -> None:
    m = mapping_with_a_page_gone()
    started.wait()
    for _ in range(forks_each):
        if failures:  # on another thread
            break
        fault_everywhere()
        viewed = mapping_with_a_page_gone()
        with memoryview(viewed) as view:
            child = os.fork()
            if child == 0:
                in_child(m, viewed, view)
            fault_under_a_guard(m)
            status = status_of(child)
            assert status == 0, f"a child ended with status {status}"
            children.append(child)
            # What happened to the child has not happened to us.
            fault_under_a_view(viewed, view)
        viewed.close()
    m.close()


def run() -> None:
    try:
        fork_often()
    except BaseException as error:
        failures.append(repr(error))


workers = [threading.Thread(target=run) for _ in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
if failures:
    sys.exit("\n".join(failures))
print(len(children))
