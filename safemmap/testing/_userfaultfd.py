"""As much of userfaultfd(2) as faults on purpose need. The numbers are those of
``linux/userfaultfd.h``."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import re
import struct
from typing import Self

__all__ = [
    "FEATURE_MINOR_SHMEM",
    "FEATURE_SIGBUS",
    "MINOR",
    "MISSING",
    "UserFaultFd",
    "let_go",
    "mappings_of",
    "missing",
    "unregister",
]

FEATURE_SIGBUS, FEATURE_MINOR_SHMEM = 1 << 7, 1 << 10
MISSING, MINOR = 1 << 0, 1 << 2

_NUMBER = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API_VERSION = 0xAA
_API, _REGISTER, _UNREGISTER = 0xC018AA3F, 0xC020AA00, 0x8010AA01
_LINE = re.compile(r"(\w+)-(\w+) (\S+) (\w+) (\w+):(\w+) (\d+)")


class UserFaultFd:
    """A userfaultfd for this process.

    :ivar fd: its descriptor, which does not block.
    :param features: ``FEATURE_...``, all of which it must have.
    :raises OSError: as userfaultfd(2) has it; ``ENOSYS`` where it is not known.
    """

    def __init__(self, features: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        number = _NUMBER.get(platform.machine(), -1)
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        self.fd = libc.syscall(number, flags)
        if self.fd < 0 and ctypes.get_errno() == errno.EPERM:
            # What everybody may: without the kernel's own faults.
            self.fd = libc.syscall(number, flags | _USER_MODE_ONLY)
        if self.fd < 0:
            raise _failure()
        try:
            fcntl.ioctl(self.fd, _API, struct.pack("QQQ", _API_VERSION, features, 0))
        except BaseException:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def register(self, area: range, mode: int) -> None:
        """Faults at these addresses, whole pages, are its own from now on."""
        query = struct.pack("QQQQ", area.start, len(area), mode, 0)
        fcntl.ioctl(self.fd, _REGISTER, query)


def _failure() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def unregister(fd: int, area: range) -> None:
    """End that, on any process that has the descriptor; who waits goes on. Does nothing
    where these addresses are not mapped any more."""
    try:
        fcntl.ioctl(fd, _UNREGISTER, struct.pack("QQ", area.start, len(area)))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def missing() -> str | None:
    """Why there is none to be had here; None if there is."""
    try:
        with UserFaultFd(FEATURE_SIGBUS | FEATURE_MINOR_SHMEM):
            return None
    except OSError as error:
        if error.errno == errno.EPERM:
            return "a sandbox forbids userfaultfd(2)"
        if error.errno == errno.EINVAL:
            return "the userfaultfd of this kernel lacks SIGBUS or MINOR_SHMEM (5.14)"
        return f"this kernel has no userfaultfd (CONFIG_USERFAULTFD): {error.strerror}"


def mappings_of(fd: int, offsets: range) -> list[range]:
    """The addresses at which this process has these bytes of the file mapped."""
    status = os.fstat(fd)
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    found = []
    with open("/proc/self/maps") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None or int(match[7]) != status.st_ino:
                continue
            if (int(match[5], 16), int(match[6], 16)) != device:
                continue
            start, end, offset = (int(match[group], 16) for group in (1, 2, 4))
            first = max(start, start + offsets.start - offset)
            last = min(end, start + offsets.stop - offset)
            if first < last:
                found.append(range(first, last))
    return found


def let_go(area: range) -> None:
    """Have the next access to these pages of a shared mapping fault, though the file
    has them."""
    libc = ctypes.CDLL(None, use_errno=True)
    address, size = ctypes.c_void_p(area.start), ctypes.c_size_t(len(area))
    if libc.madvise(address, size, mmap.MADV_DONTNEED) < 0:
        raise _failure()
