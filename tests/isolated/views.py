"""Views whose faults would kill the process if nobody answered. Argument: which."""

import contextlib
import ctypes
import faulthandler
import os
import sys
import threading
import time
import warnings

import safemmap

faulthandler.disable()
# On a machine that is slow, a warning comes before the program asks.
warnings.simplefilter("ignore", safemmap.FaultWarning)
PAGE = safemmap.PAGESIZE
HUGE = 2 << 20
MAP_NORESERVE, MAP_HUGETLB = 0x4000, 0x40000


def check_zero_and_poison(m: safemmap.mmap, at: int) -> None:
    with memoryview(m) as view:
        assert view[at] == 0
    assert m.faulted
    try:
        m[at]
    except safemmap.BusError as error:
        assert error.poisoned
    else:
        sys.exit("no BusError")
    print("survived")


def anonymous_grown() -> None:
    m = safemmap.mmap(-1, PAGE)
    try:
        m.resize(2 * PAGE)  # the memory does not grow with it; refused from 3.14 on
    except ValueError:
        print("survived")
    else:
        check_zero_and_poison(m, PAGE)


def anonymous_huge() -> None:
    flags = safemmap.MAP_PRIVATE | safemmap.MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE
    check_zero_and_poison(safemmap.mmap(-1, HUGE, flags=flags), HUGE - 1)


def huge_file(trackfd: bool) -> None:
    fd = os.memfd_create("huge", os.MFD_HUGETLB)
    os.ftruncate(fd, 2 * HUGE)
    flags = safemmap.MAP_SHARED | MAP_NORESERVE
    m = safemmap.mmap(fd, HUGE + 5000, flags=flags, trackfd=trackfd)
    check_zero_and_poison(m, HUGE + 4999)


def many_holes() -> None:
    """As a peer could make them: few mappings must do for any number."""
    pages = 3000
    fd, empty = os.memfd_create("file"), os.memfd_create("empty")
    os.ftruncate(fd, pages * PAGE)
    m = safemmap.mmap(fd, pages * PAGE)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3]
    with memoryview(m) as view:
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
        for page in range(0, pages, 2):
            at = start + page * PAGE
            assert libc.mmap(at, PAGE, 3, 0x11, empty, 0) == at
        for page in range(0, pages, 2):
            assert view[page * PAGE] == 0
        with open("/proc/self/maps") as maps:
            assert len(maps.readlines()) < 700
    assert m.faulted
    with contextlib.suppress(safemmap.BusError):
        m.check()  # told, so that closing is silent
    print("survived")


def others_while_it_is_made_anew() -> None:
    """Other threads read and take views while a mapping is reset, and tells of a
    thousand faults of others."""
    sys.setswitchinterval(1e-6)
    fd = os.memfd_create("anew")
    os.write(fd, b"d" * 8 * PAGE)
    gone = os.memfd_create("gone")
    m = safemmap.mmap(fd, 8 * PAGE)
    wrong: list[bytes] = []
    stopping = threading.Event()

    def use() -> None:
        while not stopping.is_set():
            try:
                read = m[2 * PAGE : 2 * PAGE + 4]
                if read != b"dddd":
                    wrong.append(read)
                memoryview(m).release()
            except safemmap.BusError:
                pass

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        os.ftruncate(gone, PAGE)
        others = [safemmap.mmap(gone, PAGE) for _ in range(100)]
        os.ftruncate(gone, 0)
        for other in others:
            memoryview(other)[0]
        with memoryview(m) as view:
            os.ftruncate(fd, PAGE)
            assert view[2 * PAGE] == 0
        os.ftruncate(fd, 0)
        # Longer than before it is read: a hole would be zeros, too.
        os.pwrite(fd, b"d" * 8 * PAGE, 0)
        while m.faulted:
            with contextlib.suppress(BufferError):
                m.reset()
        for other in others:
            assert other.faulted
            other.close()
    stopping.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]
    print("survived")


def a_reader_lives_through_resets() -> None:
    """A thread without the GIL reads through a pointer that it has kept, while the file
    is cut and the mapping reset."""
    fd = os.memfd_create("file")
    os.ftruncate(fd, 2 * PAGE)
    m = safemmap.mmap(fd, 2 * PAGE)
    with memoryview(m) as view:
        reading = ctypes.CDLL(None).memcmp
        reading.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t)
        start = ctypes.addressof(ctypes.c_char.from_buffer(view))
    started, stopping = threading.Event(), threading.Event()

    def read() -> None:
        while not stopping.is_set():
            reading(start, start + PAGE, PAGE)
            started.set()

    def cut() -> None:
        while not stopping.is_set():
            os.ftruncate(fd, PAGE)
            os.ftruncate(fd, 2 * PAGE)

    threads = [threading.Thread(target=target) for target in (read, read, cut)]
    for thread in threads:
        thread.start()
    started.wait()
    for _ in range(100):
        while not m.faulted:
            time.sleep(0)
        while m.faulted:
            with contextlib.suppress(safemmap.BusError):
                m.reset()
            time.sleep(0)
    stopping.set()
    for thread in threads:
        thread.join()
    print("survived")


def pointer_kept_over_a_resize(how: str) -> None:
    fd = os.memfd_create("kept")
    os.ftruncate(fd, 8 * PAGE)
    m = safemmap.mmap(fd, 8 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))  # given back at once
    if how == "smaller":
        m.resize(4 * PAGE)
    elif how == "the same":
        m.resize(8 * PAGE, truncate=False)
    else:
        with contextlib.suppress(OSError):
            m.resize(1 << 62)
    assert address == ctypes.addressof(ctypes.c_char.from_buffer(m))
    os.ftruncate(fd, 0)
    assert ctypes.string_at(address, 1) == b"\0"
    assert m.faulted
    print("survived")


match sys.argv[1]:
    case "smaller" | "the same" | "impossible":
        pointer_kept_over_a_resize(sys.argv[1])
    case "a reader lives through resets":
        a_reader_lives_through_resets()
    case "others while it is made anew":
        others_while_it_is_made_anew()
    case "anonymous, grown":
        anonymous_grown()
    case "anonymous, huge":
        anonymous_huge()
    case "huge file":
        huge_file(True)
    case "huge file, not tracked":
        huge_file(False)
    case "many holes":
        many_holes()
