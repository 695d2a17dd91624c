"""Files in memory: truncated, without huge pages, poisoned, left to userfaultfd(2)."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import ExitStack

from safemmap import PAGESIZE
from safemmap._seals import Seal, memfd
from safemmap.testing import _userfaultfd
from safemmap.testing._source import FaultSource
from safemmap.testing._steps import MADV_HWPOISON, Step

__all__ = [
    "HugePages",
    "PoisonedMemory",
    "Shrink",
    "ShrinkAndRegrow",
    "ShrinkInLastPage",
    "UserFault",
]

_HUGE = 2 << 20
_PROT_NONE = 0
_MAP_NORESERVE = 0x4000  # linux/mman.h


class _InMemory(FaultSource):
    def open(self, stack: ExitStack) -> int:
        fd = memfd(self.data, name=self.name, seals=Seal(0))
        stack.callback(os.close, fd)
        return fd

    def steps_back(self) -> list[Step]:
        return [Step("write", self.fd, data=self.data)]


class Shrink(_InMemory):
    """A memfd that is cut: the classical attack."""

    name = "shrink"
    description = "a memfd is cut"

    def steps(self) -> list[Step]:
        return [Step("truncate", self.fd, stop=self.gone.start)]


class ShrinkAndRegrow(_InMemory):
    """A memfd that is cut, and as long as before in the next moment. What was in it is
    zeros from then on, for whoever looks; no signal tells."""

    name = "shrink and regrow"
    description = "a memfd is cut, and grown again with zeros"
    raises_signal = False

    def steps(self) -> list[Step]:
        return [
            Step("truncate", self.fd, stop=self.gone.start),
            Step("truncate", self.fd, stop=self.size),
        ]


class ShrinkInLastPage(_InMemory):
    """A memfd that is cut inside its last page: zeros after the end, and no signal.
    `keep` is not looked at."""

    name = "shrink in the last page"
    description = "a memfd is cut inside its last page"
    raises_signal = False

    def __init__(self, size: int = 4 * PAGESIZE, keep: int = PAGESIZE) -> None:
        super().__init__(size, keep)
        self.gone = range(self.size - PAGESIZE // 2, self.size)

    def steps(self) -> list[Step]:
        return [Step("truncate", self.fd, stop=self.gone.start)]


class HugePages(FaultSource):
    """A memfd of huge pages (2 MiB) of which there is none: it must be mapped with
    ``MAP_NORESERVE``, and faults from the start. All of it is gone; `keep` is not
    looked at."""

    name = "no huge pages"
    description = "a memfd of huge pages, none of which is free"
    starts_whole = False
    restores = False
    page_size = _HUGE

    def __init__(self, size: int = _HUGE, keep: int = 0) -> None:
        super().__init__(size, 0)
        self.data = b""  # there never was any
        self.map_flags = mmap.MAP_SHARED | _MAP_NORESERVE

    @classmethod
    def missing(cls) -> str | None:
        try:
            with ExitStack() as stack:
                fd = cls().open(stack)
                # Without MAP_NORESERVE the pages are set aside, or refused, at once.
                mmap.mmap(fd, _HUGE).close()
        except OSError as error:
            if error.errno == errno.ENOMEM:
                return None
            return f"this kernel has no huge pages of 2 MiB: {error.strerror}"
        return "there are huge pages to be had (/proc/sys/vm/nr_hugepages is not 0)"

    def open(self, stack: ExitStack) -> int:
        flags = os.MFD_HUGETLB | os.MFD_HUGE_2MB | os.MFD_ALLOW_SEALING
        fd = os.memfd_create(self.name, os.MFD_CLOEXEC | flags)
        stack.callback(os.close, fd)
        os.ftruncate(fd, self.size)
        return fd


class PoisonedMemory(_InMemory):
    """A memfd in memory that the hardware reports as damaged (``MADV_HWPOISON``).

    Each page that is poisoned is lost to the machine until it is started again: use it
    in a virtual one.
    """

    name = "poisoned memory"
    description = "the memory of a memfd fails (MADV_HWPOISON)"
    destructive = True
    restores = False

    @classmethod
    def missing(cls) -> str | None:
        # What cannot be read is not poisoned (EFAULT); all else is looked at first.
        with mmap.mmap(-1, PAGESIZE, prot=_PROT_NONE) as nothing:
            try:
                nothing.madvise(MADV_HWPOISON)
            except OSError as error:
                if error.errno == errno.EPERM:
                    return "needs root (CAP_SYS_ADMIN)"
                if error.errno == errno.EINVAL:
                    return "needs a kernel with CONFIG_MEMORY_FAILURE"
        return None

    def steps(self) -> list[Step]:
        return [Step("poison", self.fd, self.gone.start, self.gone.stop)]


class UserFault(_InMemory):
    """A memfd of which the pages are left to userfaultfd(2), which has a signal sent
    (``UFFD_FEATURE_SIGBUS``): for the mappings that this process has when it strikes,
    and for no other way to read the file (which has holes in their place)."""

    name = "userfaultfd"
    description = "a userfaultfd answers faults in this process's mappings by SIGBUS"

    @classmethod
    def missing(cls) -> str | None:
        return _userfaultfd.missing()

    def open(self, stack: ExitStack) -> int:
        self._faults = stack.enter_context(ExitStack())
        return super().open(stack)

    def strike(self) -> None:
        super().strike()
        faults = self._faults.enter_context(
            _userfaultfd.UserFaultFd(_userfaultfd.FEATURE_SIGBUS)
        )
        for area in _userfaultfd.mappings_of(self.fd, self.gone):
            faults.register(area, _userfaultfd.MISSING)

    def restore(self) -> None:
        self._faults.close()
        super().restore()

    def steps(self) -> list[Step]:
        return [Step("punch", self.fd, self.gone.start, self.gone.stop)]
