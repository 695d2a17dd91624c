"""What the tests share: files that lose pages, and children that may die."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap as standard
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from packages import installed as installed
from packages import sdist as sdist
from packages import wheel as wheel

import safemmap

PAGE = safemmap.PAGESIZE
ISOLATED = Path(__file__).parent / "isolated"

# A shell that starts pytest in the background has it ignore SIGINT, and what the tests
# start to interrupt it would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Mounts are made in a namespace of their own, which ends with the child.
NAMESPACE = ["unshare", "--mount"]
if os.geteuid() != 0:
    NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]

# What multiprocessing shares, its locks included, are files in there.
needs_shared_memory = pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK), reason="/dev/shm is not writable"
)

# Why the library refuses to interrupt threads that fault.
WITHOUT_GIL = "needs the GIL, which PYTHON_GIL=0 or -X gil=0 forbids"
needs_gil = pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED") == 1
    and "0" in (os.environ.get("PYTHON_GIL"), sys._xoptions.get("gil")),
    reason=WITHOUT_GIL,
)


def not_under_asan(why: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        "asan" in os.environ.get("LD_PRELOAD", ""), reason=f"AddressSanitizer {why}"
    )


libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
on_glibc = hasattr(libc, "gnu_get_libc_version")
MAP_FIXED = 0x10


def pattern(size: int) -> bytes:
    """Random bytes, always the same, without a zero among them."""
    return bytes(random.Random(size).choices(range(1, 256), k=size))


class LossyFile:
    """A memfd with a pattern, whose pages can be taken away and given back.

    `shrink` does it as a peer would. `lose` takes pages out of the middle of one
    mapping, which no truncation can do: it maps pages beyond the end of an empty
    file over them.
    """

    def __init__(self, size: int) -> None:
        self.data = pattern(size)
        self.fd = os.memfd_create("lossy")
        os.write(self.fd, self.data)
        self._empty = os.memfd_create("empty")

    def shrink(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def restore(self) -> None:
        os.pwrite(self.fd, self.data, 0)

    def lose(self, mapping: safemmap.mmap, pages: Iterable[int]) -> None:
        for page in pages:
            self._map_over(mapping, page, self._empty, 0)

    def give_back(self, mapping: safemmap.mmap, pages: Iterable[int]) -> None:
        for page in pages:
            self._map_over(mapping, page, self.fd, page * PAGE)

    def _map_over(self, mapping: safemmap.mmap, page: int, fd: int, at: int) -> None:
        address = address_of(mapping) + page * PAGE
        prot = standard.PROT_READ | standard.PROT_WRITE
        flags = standard.MAP_SHARED | MAP_FIXED
        assert libc.mmap(address, PAGE, prot, flags, fd, at) == address

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._empty)


def address_of(mapping: safemmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


@pytest.fixture
def lossy() -> Iterator[LossyFile]:
    file = LossyFile(8 * PAGE)
    yield file
    file.close()


def open_fds() -> set[int]:
    """The descriptors of this process, without the one that lists them, and those for
    zeroed pages and of the list of mappings, which stay once they are there."""
    found = set()
    kept = "/memfd:safemmap zeros (deleted)", f"/proc/{os.getpid()}/maps"
    with os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) not in kept:
                    found.add(int(entry.name))
    return {fd for fd in found if is_open(fd)}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test gives back the descriptors, children and mask it started with."""
    before = open_fds()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert open_fds() <= before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


HUGE_PAGES_SETTING = Path("/proc/sys/vm/nr_hugepages")
HUGE_PAGES = 4


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Four that are free. Set aside here, and not by the child: that one may die."""
    try:
        lock = HUGE_PAGES_SETTING.open("r+")
    except OSError as error:
        pytest.skip(f"huge pages cannot be set aside: {error}")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # against others who do the same
        before = lock.read()
        try:
            HUGE_PAGES_SETTING.write_text(str(int(before) + HUGE_PAGES))
            info = Path("/proc/meminfo").read_text()
            free = re.search(r"HugePages_Free: +(\d+)", info)
            if free is None or int(free[1]) < HUGE_PAGES:
                pytest.skip("there is no memory in pieces that are large enough")
            if "Hugepagesize:       2048 kB" not in info:
                pytest.skip("huge pages have another size here")
            yield
        finally:
            HUGE_PAGES_SETTING.write_text(before)


def possible(*command: str) -> bool:
    """Whether a command can be run here, and succeeds."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def run_isolated(
    script: str,
    *args: str,
    inside: Sequence[str] = (),
    timeout: float = 60,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a script of `isolated/` in an interpreter of its own, `inside` a command."""
    child = subprocess.run(
        [*inside, sys.executable, str(ISOLATED / script), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )
    if WITHOUT_GIL in child.stderr:
        pytest.skip(WITHOUT_GIL)
    return child


def members(session: int) -> int:
    """How many processes a session has."""
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        count += int(fields[3]) == session and fields[0] != "Z"
    return count
