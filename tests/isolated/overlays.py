"""So many overlays (the argument), in views and in others' memory: nothing leaks."""

import contextlib
import faulthandler
import mmap as standard
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import safemmap

faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
count = int(sys.argv[1])
PAGE = safemmap.PAGESIZE
PAGES = 200  # below this many holes each is an overlay of its own

fd = os.memfd_create("file")
data = b"d" * PAGES * PAGE
os.write(fd, data)
ours = safemmap.mmap(fd, 4 * PAGE)
plain = standard.mmap(fd, 4 * PAGE)
large = standard.mmap(fd, PAGES * PAGE)


def in_a_view() -> None:
    os.pwrite(fd, data[: 4 * PAGE], 0)
    ours.reset()
    with memoryview(ours) as view:
        os.ftruncate(fd, PAGE)
        assert view[2 * PAGE] == 0
    assert ours.faulted


def in_what_is_protected() -> None:
    """The file has one page."""
    protected(plain, lambda: plain[2 * PAGE])


def many_at_once() -> None:
    protected(large, lambda: sum(large[PAGE::PAGE]))


def protected(memory: standard.mmap, work: Callable[[], int]) -> None:
    try:
        with safemmap.protect(memory):
            assert work() == 0
    except safemmap.BusError:
        return
    raise AssertionError("no BusError")


def used() -> tuple[int, int, int]:
    """Mappings, descriptors and memory in bytes."""
    return (
        Path("/proc/self/maps").read_text().count("\n"),
        len(os.listdir("/proc/self/fd")),
        int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
    )


events = 0


def repeat(times: int, work: Callable[[], None]) -> None:
    global events
    for i in range(times):
        work()
        if i % 500 == 0:
            taken = safemmap.faults()
            events += len(taken) + taken.dropped
    taken = safemmap.faults()
    events += len(taken) + taken.dropped


def cycles(total: int) -> None:
    repeat(total // 10, in_a_view)
    repeat(total // 10, in_what_is_protected)
    repeat(total * 8 // 10 // (PAGES - 1) + 1, many_at_once)


safemmap.fault_fd()
cycles(2000)  # whatever is allocated once is allocated now
before = used()
events = 0
cycles(count)
after = used()
assert events >= count, events
# (malloc may have needed one more arena, for a thread.)
assert after[0] - before[0] < 16, (before, after)
assert after[1] == before[1], (before, after)
assert after[2] - before[2] < 2 << 20, (before, after)
with contextlib.suppress(safemmap.BusError):
    ours.check()  # told, so that closing is silent
ours.close()
print("survived")
