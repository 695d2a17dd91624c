"""What protect() says where zeros stay in memory that belongs to somebody else.

Runs with the library of failing_calls.c loaded before libc, whose path is the argument.
"""

import ctypes
import errno
import mmap
import os
import sys
import warnings
from collections.abc import Callable

import safemmap
from safemmap import BusError, FaultWarning, Protected

PAGE = safemmap.PAGESIZE
DATA = b"d" * PAGE

shim = ctypes.CDLL(sys.argv[1])


def close(protection: Protected) -> None:
    protection.close()


def close_after_a_check(protection: Protected) -> None:
    assert protection.faulted
    protection.close()


def leave_the_scope(protection: Protected) -> None:
    with protection:
        pass


def drop(protection: Protected) -> None:
    """Here for its name: the caller drops the last reference."""


ENDS: tuple[Callable[[Protected], None], ...] = (
    close,
    close_after_a_check,
    leave_the_scope,
    drop,
)

for end in ENDS:
    for failing in ("aside", "back"):
        fd = os.memfd_create("file")
        os.write(fd, DATA)
        memory = mmap.mmap(fd, 0)
        protection = safemmap.protect(memory)
        os.ftruncate(fd, 0)
        if failing == "aside":
            shim.arm(b"mremap", 1, errno.EPERM)
        assert memory[0] == 0
        os.pwrite(fd, DATA, 0)
        if failing == "back":
            shim.arm(b"mremap", 1, errno.EPERM)
        error = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                end(protection)
                del protection
                for _ in range(1000):
                    os.getpid()
            except BusError as raised:
                error = raised
        assert shim.disarm(), (end, failing)
        assert memory[0] == 0, (end, failing)
        assert error is not None, (end, failing)
        told = [str(each.message) for each in caught if each.category is FaultWarning]
        assert any("could not be put back" in text for text in told), (end, told)
        memory.close()
        os.close(fd)
print("survived")
