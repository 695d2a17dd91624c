"""What changes a mapping, with each system call that it makes failing in turn.

Runs with the library of failing_calls.c loaded before libc, whose path is the argument.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import safemmap
from safemmap import BusError

PAGE = safemmap.PAGESIZE
SIZE = 8 * PAGE
DATA = bytes(range(1, 251)) * (SIZE // 250 + 1)
DATA = DATA[:SIZE]
CALLS = ("mmap", "munmap", "mremap", "ftruncate", "fstat", "close")

shim = ctypes.CDLL(sys.argv[1])


class State(NamedTuple):
    """All that a failed operation must leave as it was."""

    content: bytes | None  # None where it is poisoned
    position: int
    file_size: int | None
    closed: bool


class Case:
    """A mapping, with changes of its own, and what is tried on it."""

    def __init__(self, **arguments: Any) -> None:
        self.fd = os.memfd_create("file", os.MFD_ALLOW_SEALING)
        os.write(self.fd, DATA)
        self.arguments = arguments

    def map(self, fd: int | None = None) -> safemmap.mmap:
        self.m = safemmap.mmap(self.fd if fd is None else fd, SIZE, **self.arguments)
        if self.m[0:1] and self.arguments.get("prot") != safemmap.PROT_READ:
            self.m[PAGE + 7] = 250
            self.m[SIZE - 9] = 251
        self.m.seek(100)
        return self.m

    def state(self) -> State:
        if self.m.closed:
            return State(None, 0, os.fstat(self.fd).st_size, True)
        content = None
        if not self.m.faulted:
            content = self.m[:]
        return State(content, self.m.tell(), os.fstat(self.fd).st_size, False)

    def end(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.m.close()
        os.close(self.fd)


def shared() -> Case:
    case = Case()
    case.map()
    return case


def private_without_the_right_to_truncate() -> Case:
    case = Case(flags=safemmap.MAP_PRIVATE)
    fd = os.open(f"/proc/self/fd/{case.fd}", os.O_RDONLY)
    case.map(fd)
    os.close(fd)
    return case


def private_of_a_sealed_file() -> Case:
    case = Case(flags=safemmap.MAP_PRIVATE)
    safemmap.add_seals(case.fd, safemmap.Seal.SHRINK)
    case.map()
    return case


def shared_of_a_file_that_cannot_grow() -> Case:
    case = Case()
    safemmap.add_seals(case.fd, safemmap.Seal.GROW)
    case.map()
    return case


def read_only() -> Case:
    case = Case(prot=safemmap.PROT_READ)
    case.map()
    return case


def anonymous() -> Case:
    case = Case(flags=safemmap.MAP_PRIVATE)
    case.map(-1)
    return case


def poisoned() -> Case:
    case = Case(prot=safemmap.PROT_READ)
    m = case.map()
    os.ftruncate(case.fd, PAGE)
    with memoryview(m) as view:
        assert view[5 * PAGE] == 0
    os.pwrite(case.fd, DATA, 0)
    assert m.faulted
    return case


OPERATIONS: dict[str, Callable[[safemmap.mmap], object]] = {
    "shrink": lambda m: m.resize(3 * PAGE + 5),
    "shrink within a page": lambda m: m.resize(SIZE - 3),
    "to the same size": lambda m: m.resize(SIZE),
    "to nothing": lambda m: m.resize(0),
    "grow": lambda m: m.resize(20 * PAGE),
    "follow down": lambda m: m.resize(2 * PAGE, truncate=False),
    "follow up": lambda m: m.resize(SIZE, truncate=False),
    "move": lambda m: m.move(0, PAGE, 3 * PAGE),
    "reset": lambda m: m.reset(),
    "close": lambda m: m.close(),
}
CASES = (
    shared,
    private_without_the_right_to_truncate,
    private_of_a_sealed_file,
    shared_of_a_file_that_cannot_grow,
    read_only,
    anonymous,
    poisoned,
)


def attempt(make: Callable[[], Case], name: str, call: str, nth: int) -> bool:
    """Whether there was such a call."""
    case = make()
    before = case.state()
    length = len(case.m)
    error = None
    shim.arm(call.encode(), nth, errno.ENOMEM)
    try:
        OPERATIONS[name](case.m)
    except (OSError, ValueError, TypeError, MemoryError) as raised:
        error = raised
    reached = bool(shim.disarm())
    where = (make.__name__, name, call, nth, error)
    after = case.state()
    if error is not None:
        assert not reached or not isinstance(error, BusError), where
        assert after == before, where
        assert len(case.m) == length, where
    elif not after.closed:
        assert after.content is not None, where
        assert len(after.content) == len(case.m), where
    case.end()
    return reached


tried = 0
for make in CASES:
    for name in OPERATIONS:
        if make is poisoned and name not in ("reset", "close"):
            continue
        attempt(make, name, "none", 1)
        for call in CALLS:
            nth = 1
            while attempt(make, name, call, nth):
                tried += 1
                nth += 1
print("survived" if tried > 60 else f"only {tried} calls failed")
