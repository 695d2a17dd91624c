"""wrap(): checks a descriptor from an untrusted peer (type, mode, size, filesystem),
then maps it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Literal

from safemmap import (
    ACCESS_COPY,
    ACCESS_READ,
    ACCESS_WRITE,
    ALLOCATIONGRANULARITY,
)
from safemmap._arguments import bad_descriptor, descriptor, integer, natural
from safemmap._core import Descriptor, check_choices, mmap, open_flags
from safemmap._errors import PeerError, file_too_short
from safemmap._filesystems import OUT_OF_DESCRIPTORS, check_filesystem, check_name

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["wrap"]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a symbolic link"),
)

_NO_MEMORY = (
    "the kernel has no room for the mapping: no huge pages are free for a file of "
    "these, or the process may have no more memory or no more mappings"
)

_ACCESSES = {
    ACCESS_READ: ("reading", (os.O_RDONLY, os.O_RDWR)),
    ACCESS_COPY: ("reading", (os.O_RDONLY, os.O_RDWR)),
    ACCESS_WRITE: ("reading and writing", (os.O_RDWR,)),
}


def wrap(
    fd: FileDescriptorLike,
    length: int = 0,
    *,
    offset: int = 0,
    max_length: int | None = None,
    access: int = ACCESS_READ,
    protection: Literal["auto", "sealed", "guarded", "kernel"] = "auto",
    views: Literal["auto", "deferred", "interrupt", "deny", "crash"] = "auto",
    filesystems: Literal["memory", "local", "any"] = "local",
) -> mmap:
    """Map a file descriptor that an untrusted peer sent.

    Checks the type, the mode, the size and the filesystem of the file before it maps
    anything. All of it happens on a close-on-exec duplicate of `fd`, so that later
    changes to `fd` do not matter; `fd` stays open and yours to close (`close_fd`).

    Whatever the peer can do to make this fail, by its descriptor or by the numbers that
    came with it, is a `PeerError`. Other errors are the caller's own: arguments of the
    wrong type or none of those below, a descriptor that is not open, and a process
    that may have no more descriptors (``EMFILE``); what an audit hook or a signal
    handler of the program's raises; and why there can be no SIGBUS handler
    (``protection="guarded"``).

    :param fd: an open file descriptor of a regular file (a memfd is one), or an object
        that has one (``fileno()``).
    :param length: how many bytes to map, as the peer says; 0 for all there are.
    :param offset: where in the file to begin, in bytes; a multiple of
        ``ALLOCATIONGRANULARITY``.
    :param max_length: the most bytes to map. A peer can make a file of terabytes that
        takes no memory; a copy of it (``m[:]``) would.
    :param access: ``ACCESS_READ``, ``ACCESS_WRITE`` (changes reach the peer) or
        ``ACCESS_COPY`` (changes stay private).
    :param protection: how operations survive, see `mmap`.
    :param views: what becomes of a view when a page is gone, see `mmap`.
    :param filesystems: where the file may lie: in ``"memory"`` (a memfd, or a file on
        a tmpfs, hugetlbfs or ramfs); on a ``"local"`` disk too, but not on FUSE, a
        network filesystem, or one that this module does not know; or on ``"any"``,
        where the server of the file can make this function, and every page fault, wait
        for ever. The device below a disk, and the layers of an overlayfs, are not
        checked.
    :raises PeerError: the file is shorter than `length` and `offset` say, or
        empty; one of them is negative, or `offset` not aligned (all ``EINVAL``); it
        would be more than `max_length` (``EFBIG``); `fd` was opened with ``O_PATH``
        (``EBADF``), is not a regular file (``ENODEV``), is not open for what `access`
        asks (``EACCES``), or lies where `filesystems` does not admit it or cannot be
        found (``EOPNOTSUPP``); or mmap(2) refuses the file.
    :raises SealError: ``protection="sealed"``, and the file is not and cannot be. (It
        is a `PeerError`.)
    :raises TypeError: `fd` is neither (such as a path), or a number is no integer.
    :raises ValueError: `access`, `protection`, `views` or `filesystems` is none of the
        above, or `max_length` is negative.
    :raises OSError: `fd` is not open (``EBADF``), there are too many descriptors, or
        the SIGBUS handler cannot be installed.
    """
    fileno = descriptor(fd, "wrap")  # `fd` may own it, and lives on
    length = integer("length", length)
    offset = integer("offset", offset)
    access = integer("access", access)
    if max_length is not None:
        natural("max_length", max_length)
    if access not in _ACCESSES:
        raise ValueError(
            "wrap takes ACCESS_READ, ACCESS_WRITE or ACCESS_COPY for access, "
            f"not {access}"
        )
    check_name(filesystems)
    check_choices(protection, views)
    if length < 0:
        raise _negative("length", length)
    if offset < 0:
        raise _negative("offset", offset)
    if offset % ALLOCATIONGRANULARITY != 0:
        raise PeerError(
            errno.EINVAL,
            f"offset {offset} is not a multiple of ALLOCATIONGRANULARITY "
            f"({ALLOCATIONGRANULARITY})",
        )
    flags = _open_flags(fileno)
    # close() asks the filesystem too, so check before we duplicate.
    check_filesystem(fileno, filesystems)
    own = Descriptor(fileno)
    try:
        mode, size = own.status()
        _check_descriptor(fileno, mode, flags, access)
        length = _checked_length(size, length, offset, max_length)
        return mmap(
            own,  # type: ignore[arg-type]
            length,
            access=access,
            offset=offset,
            protection=protection,
            views=views,
        )
    except PeerError:
        raise
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS or not _is_about_file(error):
            raise
        why = _NO_MEMORY if error.errno == errno.ENOMEM else error.strerror
        raise PeerError(error.errno, why) from error
    finally:
        own.close()


def _is_about_file(error: OSError) -> bool:
    """Whether the kernel refuses the file, or it is memory of memfd_secret(2), which is
    the only ``EOPNOTSUPP``. An error with words of its own is the caller's: of an audit
    hook or a signal handler, or why there can be no SIGBUS handler."""
    if error.errno is None:
        return False
    words = os.strerror(error.errno)
    return error.errno == errno.EOPNOTSUPP or error.args == (error.errno, words)


def _negative(name: str, number: int) -> PeerError:
    return PeerError(errno.EINVAL, f"{name} must not be negative, and is {number}")


def _open_flags(fd: int) -> int:
    try:
        flags = open_flags(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        raise bad_descriptor(fd) from None
    if flags & os.O_PATH:
        raise PeerError(
            errno.EBADF, f"fd {fd} was opened with O_PATH and cannot be mapped"
        )
    return flags


def _check_descriptor(fd: int, mode: int, flags: int, access: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "an anonymous inode")
        raise PeerError(errno.ENODEV, f"fd {fd} is {kind}, not a regular file")
    purpose, modes = _ACCESSES[access]
    if flags & os.O_ACCMODE not in modes:
        raise PeerError(errno.EACCES, f"fd {fd} is not open for {purpose}")


def _checked_length(size: int, length: int, offset: int, maximum: int | None) -> int:
    if length == 0:
        if offset >= size:
            what = f"the file has {size} bytes" if size else "the file is empty"
            raise PeerError(errno.EINVAL, f"no bytes from offset {offset} on: {what}")
        length = size - offset
    elif offset + length > size:
        raise file_too_short(length, offset, size)
    if maximum is not None and length > maximum:
        raise PeerError(
            errno.EFBIG, f"{length} bytes are more than max_length admits: {maximum}"
        )
    return length
