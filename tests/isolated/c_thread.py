"""The first fault of a thread that C code has made. Arguments: what the thread does,
and the library of C helpers. Prints "survived" where it is right."""

import ctypes
import faulthandler
import mmap as standard
import os
import resource
import sys
import warnings

import safemmap

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.disable()
# On a busy machine it may take its time to ask for a fault.
warnings.simplefilter("ignore", safemmap.FaultWarning)
what, library = sys.argv[1:]
neighbours = ctypes.CDLL(library)
neighbours.neighbour_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_bool]
PAGE = safemmap.PAGESIZE

fd = os.memfd_create("file")
os.ftruncate(fd, 2 * PAGE)
m = safemmap.mmap(fd, 2 * PAGE)


def start_of(mapping: safemmap.mmap | standard.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def read_view(stack_size: int, own_stack_for_signals: bool) -> None:
    """By the pointer, as a C library would: the thread never sees Python."""
    view = memoryview(m)
    os.ftruncate(fd, PAGE)
    at = start_of(m) + PAGE + 1
    assert neighbours.neighbour_read(at, stack_size, own_stack_for_signals) == 0
    assert view[PAGE] == 0
    assert m.fault is not None
    assert m.fault.address == at
    try:
        m.check()
    except safemmap.BusError:
        print("survived")


def read_guarded() -> None:
    """The thread calls Python, and the first thing there is a fault."""
    caught = []

    def first_call() -> None:
        for read in (lambda: m[PAGE], lambda: m[:], lambda: m.find(b"x")):
            try:
                read()
            except safemmap.BusError as error:
                caught.append(error.offset)

    callback = ctypes.CFUNCTYPE(None)(first_call)
    os.ftruncate(fd, PAGE)
    for _ in range(100):
        assert neighbours.neighbour_call(callback) == 0
    if caught == [PAGE] * 300:
        print("survived")


def read_unprotected() -> None:
    foreign = standard.mmap(fd, 2 * PAGE)
    os.ftruncate(fd, 0)
    neighbours.neighbour_read(start_of(foreign), 0, False)


ENOUGH = 1 << 20
match what:
    case "view":
        read_view(ENOUGH, False)
    case "view, small stack":
        read_view(0, False)
    case "view, stack for signals":
        read_view(ENOUGH, True)
    case "view, small stack and stack for signals":
        read_view(0, True)
    case "guard":
        read_guarded()
    case "unprotected":
        read_unprotected()
