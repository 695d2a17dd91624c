"""Files of real huge pages, of which four are free. Argument: which case."""

import contextlib
import ctypes
import faulthandler
import mmap as standard
import os
import sys
import warnings
from collections.abc import Iterator

import safemmap

faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
HUGE = 2 << 20
libc = ctypes.CDLL(None, use_errno=True)


def free() -> int:
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) for line in info if "HugePages_Free" in line)


def new_file() -> int:
    fd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(fd, 3 * HUGE)
    with standard.mmap(fd, 3 * HUGE) as m:
        for page in range(3):
            m[page * HUGE : (page + 1) * HUGE] = bytes([page + 1]) * HUGE
    return fd


def guarded(fd: int) -> None:
    with safemmap.mmap(fd, 3 * HUGE) as m:
        assert m[HUGE] == 2
        os.ftruncate(fd, HUGE)
        try:
            m[HUGE - 5 : HUGE + 5]
        except safemmap.BusError as error:
            assert (error.offset, error.poisoned) == (HUGE, False)
        else:
            sys.exit("no BusError")
        assert m[HUGE - 5 : HUGE] == b"\1" * 5


def view(fd: int) -> None:
    with safemmap.mmap(fd, 3 * HUGE) as m:
        with memoryview(m) as view:
            os.ftruncate(fd, HUGE)
            assert (view[0], view[2 * HUGE + 5]) == (1, 0)
            view[HUGE + 7] = 9  # reaches nobody
            assert (view[HUGE + 7], view[HUGE + 8], view[HUGE - 1]) == (9, 0, 1)
        assert m.fault is not None
        assert m.fault.offset == 2 * HUGE + 5
        os.ftruncate(fd, 3 * HUGE)
        m.reset()
        assert m[HUGE + 7] == 0
        assert m[0] == 1


def hole(fd: int) -> None:
    """Without a page to fill it."""
    with safemmap.mmap(fd, 3 * HUGE, flags=safemmap.MAP_SHARED | 0x4000) as m:
        with memoryview(m) as view:
            how, at, size = 3, ctypes.c_int64(HUGE), ctypes.c_int64(HUGE)
            assert libc.fallocate(fd, how, at, size) == 0
            with taken(free()):
                assert (view[0], view[HUGE], view[2 * HUGE]) == (1, 0, 3)
        assert m.faulted
        with contextlib.suppress(safemmap.BusError):
            m.check()


@contextlib.contextmanager
def taken(number: int) -> Iterator[None]:
    """All the free pages, for a while."""
    fd = os.memfd_create("others", os.MFD_HUGETLB)
    os.ftruncate(fd, number * HUGE)
    with standard.mmap(fd, number * HUGE):
        yield
    os.close(fd)


def protect(fd: int) -> None:
    """Refused: huge pages cannot be moved aside, and zeros would stay."""
    plain = standard.mmap(fd, 3 * HUGE)
    try:
        safemmap.protect(plain)
    except BufferError as error:
        assert "huge pages" in str(error)
    else:
        sys.exit("accepted")
    plain.close()


fd = new_file()
globals()[sys.argv[1]](fd)
os.close(fd)
print("survived")
