"""Looks up the mappings behind a range of addresses.

From the ``PROCMAP_QUERY`` ioctl of ``/proc/self/maps`` (Linux 6.11; the numbers are
those of ``linux/fs.h``), or where there is none from the text of the file, see
proc_pid_maps(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import typing  # noqa: F401 (all of it, for dataclass())
from collections.abc import Iterator
from dataclasses import dataclass

from safemmap._core import address_of
from safemmap._standard import PAGESIZE, PROT_EXEC, PROT_READ, PROT_WRITE

_QUERY = 0xC0686611
_QUERY_LAYOUT = struct.Struct("=9Q4I2Q")
_COVERING_OR_NEXT = 0x10
_READABLE, _WRITABLE, _EXECUTABLE = 0x1, 0x2, 0x4

_LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (...)(.) ([0-9a-f]+) (\S+ +\d+) *(.*)\n")
_LONGEST_PATH = 4096 + len(" (deleted)")
# The memory file of the core, whose pages replace lost ones.
_OVERLAY = "/memfd:safemmap zeros"
# Smallest of the huge pages that a mapping can be made of, in bytes.
_HUGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Area:
    """A mapping: from `start` to before `end`."""

    start: int
    end: int
    protection: int  #: ``PROT_*``
    page_size: int  #: in bytes
    has_file: bool
    path: str | None = None  #: of the file, as the kernel names it


#: Memory of the process's own.
PRIVATE = Area(0, 0, PROT_READ | PROT_WRITE, PAGESIZE, has_file=False)


def file_behind(start: int, end: int) -> Area | None:
    """The mappings of files or shared memory from address `start` to `end`, summed up
    as one `Area`; None if there is only private memory, which nobody can truncate.
    """
    areas = [area for area in areas_in(start, end) if area.has_file]
    if not areas:
        return None
    protection = 0
    for area in areas:
        protection |= area.protection
    page_size = max(area.page_size for area in areas)
    paths = (area.path for area in areas if area.path is not None)
    path = next((path for path in paths if not path.startswith(_OVERLAY)), None)
    return Area(start, end, protection, page_size, has_file=True, path=path)


def areas_in(start: int, end: int) -> Iterator[Area]:
    """The mappings that overlap this range, in order.

    :raises OSError: they cannot be looked up.
    """
    try:
        fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(
            error.errno,
            "what is behind this memory stands in /proc/self/maps, which cannot be "
            f"opened ({error.strerror}): mount /proc, or map the file with "
            "safemmap.mmap, which does without",
        ) from error
    try:
        while start < end:
            area = _query(fd, start)
            if area is None or area.start >= end:
                return
            yield area
            start = area.end
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        yield from _parsed(start, end)
    finally:
        os.close(fd)


def _query(fd: int, address: int) -> Area | None:
    """The mapping that holds `address`, or the next one."""
    name = bytearray(_LONGEST_PATH)
    query = bytearray(
        _QUERY_LAYOUT.pack(
            *(_QUERY_LAYOUT.size, _COVERING_OR_NEXT, address, *[0] * 8),
            *(len(name), 0, address_of(name), 0),
        )
    )
    try:
        fcntl.ioctl(fd, _QUERY, query)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    fields = _QUERY_LAYOUT.unpack(query)
    _, _, _, start, end, flags, page_size, _, inode, major, minor, length, *_ = fields
    protection = (
        (PROT_READ if flags & _READABLE else 0)
        | (PROT_WRITE if flags & _WRITABLE else 0)
        | (PROT_EXEC if flags & _EXECUTABLE else 0)
    )
    # (A filesystem may have a file of number 0.)
    has_file = any((inode, major, minor))
    path = os.fsdecode(bytes(name[: length - 1])) if has_file and length else None
    return Area(start, end, protection, page_size, has_file, path)


def _parsed(start: int, end: int) -> Iterator[Area]:
    with open("/proc/self/maps", "rb") as lines:
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
            has_file = match[6].strip(b"0: ") != b""
            path = os.fsdecode(match[7].replace(b"\\012", b"\n")) if has_file else None
            yield Area(first, last, protection, page_size, has_file, path)


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
