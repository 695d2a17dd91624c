"""The interpreter ends while something of ours is under way. Arguments: what, when
faulthandler is enabled, and the library of C helpers.

Prints "end" before that, and what else is to be seen of it.
"""

import atexit
import ctypes
import faulthandler
import os
import resource
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.disable()
# A daemon thread may have met a fault, and not have come to asking for it.
warnings.simplefilter("ignore", safemmap.FaultWarning)
what, enabled, library = sys.argv[1:]
PAGE = safemmap.PAGESIZE
BULK = 512 * 1024  # from 256 KiB on the GIL is given up
THREADS = 3
kept: list[object] = []
running = threading.Barrier(THREADS + 1)


def new_mapping(gone: int = PAGE) -> safemmap.mmap:
    fd = os.memfd_create("file")
    os.ftruncate(fd, BULK)
    m = safemmap.mmap(fd, BULK)
    os.ftruncate(fd, BULK - gone)
    os.close(fd)
    return m


def fault(m: safemmap.mmap) -> None:
    for read in (lambda: m[BULK - 1], lambda: m[:], lambda: m.find(b"x")):
        try:
            read()
        except safemmap.BusError:
            continue
        raise AssertionError("no BusError")


def fault_in_view() -> None:
    m = new_mapping()
    with memoryview(m) as view:
        zlib.crc32(view)  # without the GIL
    try:
        m.check()
    except safemmap.BusError:
        m.close()
        return
    raise AssertionError("not poisoned")


def on_daemon_threads(work: Callable[[], object]) -> None:
    def run() -> None:
        work()
        running.wait()
        while True:
            work()

    for _ in range(THREADS):
        threading.Thread(target=run, daemon=True).start()
    running.wait()


def read_in_scope() -> None:
    m = new_mapping(gone=0)
    with m.access() as view:
        zlib.crc32(view)
    m.close()


class FaultsWhenTornDown:
    def __init__(self) -> None:
        self.mapping = new_mapping()

    def __del__(self) -> None:
        fault(self.mapping)
        print("torn down")


def faults_at_exit() -> None:
    m = new_mapping()
    atexit.register(fault, m)
    kept.append(m)


def scope_left_open() -> None:
    scope = new_mapping(gone=0).access()
    kept.extend([scope, scope.__enter__()])


def c_code_reads_last() -> None:
    """A library that has kept the pointer, and the view, beyond the interpreter."""
    m = new_mapping()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memoryview(m)))
    at = ctypes.addressof(ctypes.c_char.from_buffer(m)) + BULK - 1
    neighbours = ctypes.CDLL(library)
    neighbours.neighbour_read_at_exit.argtypes = [ctypes.c_void_p]
    assert neighbours.neighbour_read_at_exit(at) == 0


def generator_in_scope() -> Iterator[memoryview]:
    with new_mapping(gone=0).access() as view:
        yield view


def suspended_in_scope() -> None:
    generator = generator_in_scope()
    kept.extend([generator, next(generator)])


if enabled == "before":
    faulthandler.enable()
shared = new_mapping()
whole = new_mapping(gone=0)

VARIANTS: dict[str, Callable[[], object]] = {
    "mapping": lambda: kept.append(new_mapping()),
    "view": lambda: kept.append(memoryview(new_mapping())),
    "scope left open": scope_left_open,
    "generator in a scope": suspended_in_scope,
    "fault at exit": faults_at_exit,
    "fault in a finalizer": lambda: kept.append(FaultsWhenTornDown()),
    "C code reads last": c_code_reads_last,
    "threads that read": lambda: on_daemon_threads(lambda: whole.find(b"x")),
    "threads that fault": lambda: on_daemon_threads(lambda: fault(shared)),
    "threads in scopes": lambda: on_daemon_threads(read_in_scope),
    "threads that fault in views": lambda: on_daemon_threads(fault_in_view),
}

fault(shared)
if enabled == "after":
    faulthandler.enable()
    new_mapping()  # which looks who is on top
VARIANTS[what]()
time.sleep(0.01)
print("end", flush=True)
