"""What is done to a file, by this process or by a peer."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable
from typing import Literal, NamedTuple

__all__ = ["MADV_HWPOISON", "Step", "perform"]

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 0x1, 0x2
MADV_HWPOISON = 100

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Step(NamedTuple):
    """``truncate`` to `stop` bytes; ``write`` `data` at `start`; ``punch`` a hole from
    `start` to `stop`; ``fill`` the filesystem with this file; ``poison`` the memory of
    the pages from `start` to `stop`."""

    kind: Literal["truncate", "write", "punch", "fill", "poison"]
    fd: int
    start: int = 0
    stop: int = 0
    data: bytes = b""


def perform(steps: Iterable[Step]) -> None:
    """:raises OSError: as the kernel has it."""
    for step in steps:
        match step.kind:
            case "truncate":
                os.ftruncate(step.fd, step.stop)
            case "write":
                os.pwrite(step.fd, step.data, step.start)
            case "punch":
                _punch(step)
            case "fill":
                _fill(step.fd)
            case "poison":
                _poison(step)


def _punch(step: Step) -> None:
    how = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    if _libc.fallocate(step.fd, how, step.start, step.stop - step.start) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: a hole in the file")


def _fill(fd: int) -> None:
    block = bytes(mmap.PAGESIZE)
    os.lseek(fd, 0, os.SEEK_END)
    try:
        while True:
            os.write(fd, block)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _poison(step: Step) -> None:
    with mmap.mmap(step.fd, step.stop) as memory:
        for at in range(step.start, step.stop, mmap.PAGESIZE):
            memory[at]  # the page itself, not the hole
            memory.madvise(MADV_HWPOISON, at, mmap.PAGESIZE)
