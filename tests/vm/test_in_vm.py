"""Faults that most machines cannot have: memory that fails, a disk that does.

In a virtual machine, see `run`: what is poisoned here is lost until the next start.
"""

from __future__ import annotations

import errno
import mmap as standard
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
from conftest import PAGE, libc, pattern

import safemmap
from safemmap import BusCode, BusError
from safemmap._commands.compare.approaches import APPROACHES
from safemmap._commands.compare.survival import run_all
from safemmap.testing import PoisonedMemory

if os.environ.get("SAFEMMAP_VM") != "1":  # asked for by name
    pytest.skip("damages this machine's memory: tests/vm/run", allow_module_level=True)

MADV_HWPOISON = 100
EHWPOISON = 133  # errno has it since Python 3.14
# linux/prctl.h
PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, PR_MCE_KILL_DEFAULT = 33, 1, 1, 2


def test_memory_can_be_poisoned() -> None:
    assert PoisonedMemory.missing() is None


@pytest.fixture
def poisoned() -> Iterator[PoisonedMemory]:
    """Not yet."""
    with PoisonedMemory() as source:
        yield source


def check(error: BusError, offset: int) -> None:
    assert (error.errno, error.strerror) == (EHWPOISON, os.strerror(EHWPOISON))
    assert error.code is BusCode.MCEERR_AR
    assert error.offset == offset


@pytest.mark.parametrize("start", [PAGE, PAGE + 100, 3 * PAGE])
def test_guarded(poisoned: PoisonedMemory, start: int) -> None:
    with safemmap.mmap(poisoned.fd, poisoned.size, protection="guarded") as m:
        assert m[:] == poisoned.data
        poisoned.strike()
        with pytest.raises(BusError) as caught:
            m[start:]
        check(caught.value, start)
        assert "memory that the hardware reports as damaged" in str(caught.value)
        assert not caught.value.poisoned
        assert m[:PAGE] == poisoned.data[:PAGE]


def test_guarded_mapped_later(poisoned: PoisonedMemory) -> None:
    poisoned.strike()
    with safemmap.mmap(poisoned.fd, poisoned.size, protection="guarded") as m:
        with pytest.raises(BusError) as caught:
            m[PAGE - 1 : PAGE + 1]
        check(caught.value, PAGE)


def test_guarded_write(poisoned: PoisonedMemory) -> None:
    with safemmap.mmap(poisoned.fd, poisoned.size, protection="guarded") as m:
        poisoned.strike()
        with pytest.raises(BusError) as caught:
            m[2 * PAGE] = 1
        check(caught.value, 2 * PAGE)


def test_view(poisoned: PoisonedMemory) -> None:
    with safemmap.mmap(poisoned.fd, poisoned.size) as m:
        with pytest.raises(BusError) as caught, m.access() as view:
            poisoned.strike()
            read = bytes(view)
        check(caught.value, PAGE)
        assert caught.value.poisoned
        assert read == poisoned.data[:PAGE] + bytes(3 * PAGE)
        with pytest.raises(BusError) as caught:
            m[0]
        check(caught.value, PAGE)


def test_reset(poisoned: PoisonedMemory) -> None:
    """Gives back the pages of the file; the damage is still there."""
    with safemmap.mmap(poisoned.fd, poisoned.size, protection="guarded") as m:
        poisoned.strike()
        with pytest.raises(BusError), m.access(PAGE, 1) as view:
            view[0]
        m.reset()
        assert m[:PAGE] == poisoned.data[:PAGE]
        with pytest.raises(BusError) as caught:
            m[PAGE]
        check(caught.value, PAGE)


def tell(when: int) -> None:
    assert libc.prctl(PR_MCE_KILL, PR_MCE_KILL_SET, when, 0, 0) == 0


def test_view_told_early(poisoned: PoisonedMemory) -> None:
    """A process that wants to be told at once is, without touching the page."""
    reader, writer = os.pipe()
    with (
        safemmap.mmap(poisoned.fd, poisoned.size) as m,
        pytest.raises(BusError) as caught,
        m.access() as view,
    ):
        assert bytes(view) == poisoned.data
        peer = os.fork()
        if peer == 0:  # which does not want it
            os.read(reader, 1)
            poisoned.strike()
            os._exit(0)
        tell(PR_MCE_KILL_EARLY)
        os.write(writer, b"!")
        os.waitpid(peer, 0)
        tell(PR_MCE_KILL_DEFAULT)
    assert (caught.value.errno, caught.value.offset) == (EHWPOISON, PAGE)
    assert caught.value.code is BusCode.MCEERR_AO
    os.close(reader)
    os.close(writer)


def test_kernel(poisoned: PoisonedMemory) -> None:
    with safemmap.mmap(poisoned.fd, poisoned.size, protection="kernel") as m:
        assert m[:] == poisoned.data
        poisoned.strike()
        with pytest.raises(BusError) as caught:
            m[:]
        assert caught.value.offset == PAGE


def test_protect(poisoned: PoisonedMemory) -> None:
    with standard.mmap(poisoned.fd, poisoned.size) as m:
        with pytest.raises(BusError) as caught, safemmap.protect(m):
            poisoned.strike()
            assert m[2 * PAGE] == 0
        check(caught.value, 2 * PAGE)


def test_unprotected(poisoned: PoisonedMemory) -> None:
    """What all of this is about."""
    with standard.mmap(poisoned.fd, poisoned.size) as m:
        poisoned.strike()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            m[PAGE]
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGBUS


def test_without_the_right() -> None:
    """`missing` says so."""
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(PoisonedMemory.missing() is None)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_becomes_of_each_reader() -> None:
    found = {
        cell.approach: (cell.outcome.value, cell.detail)
        for cell in run_all(
            [(PoisonedMemory.name, approach) for approach in APPROACHES],
            destructive=True,
            workers=1,
        )
    }
    damaged = f"BusError: {os.strerror(EHWPOISON)}"
    assert found == {
        "mmap": ("killed", "SIGBUS"),
        "mmap, sealed": ("killed", "SIGBUS"),
        # The file cannot shrink, and nothing else is looked after.
        "sealed": ("killed", "SIGBUS"),
        "guarded": ("raised", damaged),
        "view": ("raised", damaged),
        # (It cannot tell: asking with MADV_POPULATE_READ hangs on a disk that fails.)
        "kernel": ("raised", f"BusError: {os.strerror(errno.EFAULT)}"),
        "protect": ("raised", damaged),
        "enable": ("raised", damaged),
        "pread": ("raised", f"OSError: {os.strerror(errno.EIO)}"),
        "populate": ("raised", f"OSError: {os.strerror(EHWPOISON)}"),
        "signal": ("hung", "until it was killed"),
    }


# ---- Huge pages ----------------------------------------------------------

HUGE = 2 << 20


@pytest.fixture
def huge() -> Iterator[int]:
    """A memfd of two huge pages, the second of which is to be poisoned."""
    pages = Path("/proc/sys/vm/nr_hugepages")
    pages.write_text("4")
    fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    os.ftruncate(fd, 2 * HUGE)
    with standard.mmap(fd, 2 * HUGE) as m:
        m[:] = b"x" * (2 * HUGE)
    yield fd
    os.close(fd)
    pages.write_text("0")


def poison_huge(fd: int) -> None:
    with standard.mmap(fd, 2 * HUGE) as m:
        m[HUGE]
        m.madvise(MADV_HWPOISON, HUGE, HUGE)


def test_huge(huge: int) -> None:
    with safemmap.mmap(huge, 2 * HUGE, protection="guarded") as m:
        assert m[HUGE] == ord("x")
        poison_huge(huge)
        with pytest.raises(BusError) as caught:
            m[HUGE - 1 :]
        check(caught.value, HUGE)
        assert m[:HUGE] == b"x" * HUGE


def test_huge_view(huge: int) -> None:
    with safemmap.mmap(huge, 2 * HUGE, protection="guarded") as m:
        assert m[HUGE] == ord("x")
        with pytest.raises(BusError) as caught, m.access() as view:
            poison_huge(huge)
            read = bytes(view)
        assert read == b"x" * HUGE + bytes(HUGE)
        check(caught.value, HUGE)


# ---- A disk --------------------------------------------------------------


def run(*command: str | Path) -> str:
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


class Disk:
    """A file with this data on an ext4, on a disk that can be broken and mended."""

    def __init__(self, folder: Path, stack: ExitStack, data: bytes) -> None:
        files, image, mount = folder / "files", folder / "image", folder / "mount"
        files.mkdir()
        mount.mkdir()
        (files / "file").write_bytes(data)
        with image.open("wb") as file:
            file.truncate(16 << 20)
        run("mkfs.ext4", "-q", "-d", files, image)
        loop = run("losetup", "--find", "--show", image)
        stack.callback(run, "losetup", "--detach", loop)
        self.table = f"0 {run('blockdev', '--getsz', loop)} linear {loop} 0"
        self.dm("create", "--table", self.table)
        stack.callback(self.dm, "remove")
        # (There is no udev that would give it a better name.)
        (node,) = Path("/dev").glob("dm-*")
        run("mount", "-o", "ro", node, mount)
        stack.callback(run, "umount", mount)
        self.file = mount / "file"

    def fail(self) -> None:
        self.dm("wipe_table", "--nolockfs")

    def mend(self) -> None:
        self.dm("load", "--table", self.table)
        self.dm("resume")

    @staticmethod
    def dm(command: str, *options: str) -> None:
        run("dmsetup", command, "disk", "--noudevrules", "--noudevsync", *options)


DATA = pattern(4 * PAGE)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        ExitStack() as stack,
    ):
        yield Disk(Path(folder), stack, DATA)


@pytest.mark.parametrize("protection", ["guarded", "kernel"])
def test_disk(disk: Disk, protection: Literal["guarded", "kernel"]) -> None:
    with disk.file.open("rb") as file:
        m = safemmap.mmap(
            file.fileno(), 0, access=safemmap.ACCESS_READ, protection=protection
        )
    with m:
        disk.fail()
        with pytest.raises(BusError) as caught:
            m[PAGE:]
        error = caught.value
        assert (error.errno, error.code) == (errno.EFAULT, BusCode.ADRERR)
        assert error.offset == PAGE
        assert "the device answers with an error" in str(error)
        disk.mend()
        assert m[:] == DATA


def test_disk_view(disk: Disk) -> None:
    with disk.file.open("rb") as file:
        m = safemmap.mmap(file.fileno(), 0, access=safemmap.ACCESS_READ)
    with m:
        with pytest.raises(BusError) as caught, m.access() as view:
            disk.fail()
            assert not any(view)
        assert (caught.value.errno, caught.value.offset) == (errno.EFAULT, 0)
        disk.mend()
        m.reset()
        assert m[:] == DATA
