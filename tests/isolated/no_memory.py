"""Each allocation of Python's fails once, in turn. Argument: what is tried."""

import _testcapi
import os
import sys

import safemmap
from safemmap import _core

PAGE = safemmap.PAGESIZE
ATTEMPTS = 40

fd = os.memfd_create("memory")
os.ftruncate(fd, PAGE)
# The ids of regions are objects of their own from here on.
for _ in range(300):
    with safemmap.mmap(fd, PAGE) as mapping:
        memoryview(mapping).release()


def attempt(nth: int, operation: str) -> bytes:
    """With the nth allocation failing."""
    _testcapi.set_nomemory(nth, nth + 1)
    try:
        if operation == "view":
            memoryview(mapping).release()
        elif operation == "reset":
            mapping.reset()
        elif operation == "read":
            value = bytes(view)
            os.getppid()  # any call, in which the exception is raised
            return value
    finally:
        _testcapi.remove_mem_hooks()
    return b""


failures = 0
for nth in range(ATTEMPTS):
    os.ftruncate(fd, PAGE)
    os.pwrite(fd, b"d" * PAGE, 0)
    mapping = safemmap.mmap(
        fd, PAGE, views="interrupt" if sys.argv[1] == "read" else "deferred"
    )
    if sys.argv[1] == "reset":
        with memoryview(mapping) as view:
            os.ftruncate(fd, 0)
            view[0]
        os.ftruncate(fd, PAGE)
        assert mapping.faulted  # who asks is not warned
    if sys.argv[1] == "read":
        view = memoryview(mapping)
        os.ftruncate(fd, 0)
    try:
        value = attempt(nth, sys.argv[1])
        assert not any(value), value
        if sys.argv[1] == "read":
            sys.exit(f"allocation {nth}: zeros, and no exception")
    except (MemoryError, safemmap.BusError):
        failures += 1
    if sys.argv[1] == "read":
        view.release()
    mapping.close()
    assert _core.region_count() == 0, nth
    # Refused while a region is registered.
    assert _core.uninstall_handler() == 0, nth
    _core.install_handler()
assert failures > 0
print("survived")
