"""Looks up the mappings behind a range of addresses.

By the ``PROCMAP_QUERY`` ioctl of ``/proc/self/maps`` (Linux 6.11), or where there is
none from the text of the file, see proc_pid_maps(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from safemmap._core import query_mappings
from safemmap._standard import PAGESIZE, PROT_EXEC, PROT_READ, PROT_WRITE

_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (...)(.) ([0-9a-f]+) (\S+):(\S+) +(\d+) *(.*)\n"
)
# The memory file of the core, whose pages replace lost ones.
_OVERLAY = b"/memfd:safemmap zeros"
# Smallest of the huge pages that a mapping can be made of, in bytes.
_HUGE = 1 << 16


class Files(NamedTuple):
    """What there is to know of mapped files."""

    protection: int  #: ``PROT_*``
    page_size: int  #: in bytes
    path: str | None  #: of the first file, as the kernel names it


#: Of memory of the process's own.
PRIVATE = Files(PROT_READ | PROT_WRITE, PAGESIZE, None)


def file_behind(start: int, end: int) -> Files | None:
    """The files or shared memory mapped from address `start` to `end`, summed up; None
    if there is only private memory, which nobody can truncate.

    :raises OSError: that cannot be looked up.
    """
    try:
        mappings = query_mappings(start, end)
    except OSError:
        mappings = list(_parsed(start, end))
    protection = page_size = 0
    path = None
    for allowed, size, file, name in mappings:
        # (A filesystem may have a file of number 0.)
        if file == (0, 0, 0):
            continue
        protection |= allowed
        page_size = max(page_size, size)
        if path is None and name and not name.startswith(_OVERLAY):
            path = os.fsdecode(name)
    return Files(protection, page_size, path) if page_size else None


_Mapping = tuple[int, int, tuple[int, int, int], bytes]


def _parsed(start: int, end: int) -> Iterator[_Mapping]:
    """As `query_mappings`."""
    with _open() as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            first, last = int(match[1], 16), int(match[2], 16)
            if first >= end:
                return
            if last <= start:
                continue
            protection = 0
            for letter, bit in zip(
                b"rwx", (PROT_READ, PROT_WRITE, PROT_EXEC), strict=True
            ):
                protection |= bit if letter in match[3] else 0
            page_size = PAGESIZE
            if not (first | last | int(match[5], 16)) % _HUGE:
                page_size = _kernel_page_size(first)
            file = int(match[8]), int(match[6], 16), int(match[7], 16)
            yield protection, page_size, file, match[9].replace(b"\\012", b"\n")


def _open() -> BinaryIO:
    try:
        return open("/proc/self/maps", "rb")
    except OSError as error:
        raise OSError(
            error.errno,
            "what is behind this memory stands in /proc/self/maps, which cannot be "
            f"opened ({error.strerror}): mount /proc, or map the file with "
            "safemmap.mmap, which does without",
        ) from error


def _kernel_page_size(start: int) -> int:
    """That of the mapping which begins at `start`. Slow: the kernel walks the pages of
    all that come before."""
    found = False
    with open("/proc/self/smaps", "rb") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is not None:
                found = int(match[1], 16) == start
            elif found and line.startswith(b"KernelPageSize:"):
                return int(line.split()[1]) * 1024
    return PAGESIZE
