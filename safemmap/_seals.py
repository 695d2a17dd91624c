"""Seals: what nobody can do to a file in memory any more, see fcntl(2).

The sender's side. A file that is sealed against shrinking, with all its memory there,
gives its reader no reason for a SIGBUS; but punching holes into it, which takes memory
away again, is forbidden by `Seal.WRITE` alone.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
from operator import index
from typing import TYPE_CHECKING

from safemmap._arguments import bad_descriptor, descriptor
from safemmap._core import Descriptor, owned
from safemmap._enumeration import Listed
from safemmap._errors import SealError

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike, ReadableBuffer

__all__ = ["Seal", "add_seals", "get_seals", "memfd", "seal_file"]


class Seal(enum.IntFlag, metaclass=Listed):
    """What is forbidden from now on. The values are those of linux/fcntl.h.

    Test for one with ``in``, never with ``==``: the kernel may have added others.
    """

    SEAL = 0x01  #: adding seals
    SHRINK = 0x02  #: making the file shorter
    GROW = 0x04  #: making the file longer
    WRITE = 0x08  #: changing what is in it, or punching holes
    FUTURE_WRITE = 0x10  #: the same, save through mappings that exist (Linux 5.1)
    EXEC = 0x20  #: changing whether it is executable (Linux 6.3)


_LONGEST_NAME = 255 - len("memfd:")  # in bytes
_MFD_NOEXEC_SEAL = 0x08  # linux/memfd.h, since 6.3; os has it from Python 3.14 on


def get_seals(fd: FileDescriptorLike) -> Seal:
    """The seals of a file in memory.

    A file on a tmpfs, and a memfd made without ``MFD_ALLOW_SEALING``, have
    `Seal.SEAL` alone.

    :param fd: a file descriptor, or an object that has one (``fileno()``).
    :raises SealError: the file is of a kind that has no seals (``EINVAL``).
    :raises OSError: `fd` is not open, or was opened with ``O_PATH`` (``EBADF``).
    """
    fileno = descriptor(fd, "get_seals")  # `fd` may own it, and lives on
    try:
        return Seal(fcntl.fcntl(fileno, fcntl.F_GET_SEALS))
    except (OSError, ValueError) as error:  # ValueError: it is negative
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise _no_seals(f"fd {fileno}") from None
        raise bad_descriptor(fileno) from None


def add_seals(fd: FileDescriptorLike, seals: Seal) -> None:
    """Add seals to a file in memory, all of them or none. They stay for good.

    :param fd: a file descriptor, or an object that has one (``fileno()``).
    :raises SealError: the file is of a kind that has no seals, or this kernel does not
        have all of `seals` (``EINVAL``); the file takes no more seals, or `fd` is not
        open for writing (``EPERM``); `Seal.WRITE` is asked for while somebody can
        write through a mapping (``EBUSY``).
    :raises OverflowError: `seals` is negative, or has more than 32 bits.
    :raises OSError: `fd` is not open, or was opened with ``O_PATH`` (``EBADF``).
    """
    fileno = descriptor(fd, "add_seals")  # `fd` may own it, and lives on
    if not isinstance(seals, int):
        raise TypeError(f"seals must be a Seal, not {type(seals).__name__!r}")
    if seals < 0:
        raise OverflowError(f"seals must not be negative, and are {seals}")
    seals = Seal(seals)
    if seals.bit_length() > 32:  # which fcntl would cut off
        raise OverflowError(f"seals are a number of 32 bits, and {seals:#x} is not")
    seal_file(fileno, seals, f"fd {fileno}")


def seal_file(fd: int, seals: Seal, name: str) -> None:
    """`add_seals`, with errors that call the file `name`."""
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError) or error.errno == errno.EBADF:
            raise bad_descriptor(fd) from None
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.EBUSY):
            raise
        raise _reason(fd, seals, name, error.errno) from None


def memfd(
    data_or_size: ReadableBuffer | int,
    *,
    name: str = "safemmap",
    seals: Seal = Seal.SHRINK | Seal.GROW | Seal.SEAL,
) -> int:
    """Make a file in memory that a peer can map without a risk: a sealed one.

    All its memory is allocated before it is sealed, so that a lack of it is an error
    here and not a SIGBUS in whoever maps the file. The descriptor is yours to close;
    it is close-on-exec, stands at the start of the file, and the file cannot be made
    executable (from Linux 6.3 on, where it has `Seal.EXEC` as well).

    :param data_or_size: what is in the file: a bytes-like object, contiguous or not; or
        how many zeros, in bytes. A file of none is made too, but nobody can map it.
    :param name: what it is called in /proc/PID/fd and /proc/PID/maps, for debugging.
    :param seals: the default lets whoever has the file change what is in it (and punch
        holes), but not its size.
    :raises TypeError: `data_or_size` is neither, or `name` no string.
    :raises ValueError: `name` has more than 249 bytes (memfd_create(2)), or a null
        character.
    :raises OverflowError: the size is negative, or more than fits.
    :raises SealError: see `add_seals`.
    :raises OSError: there is not the memory (``ENOMEM``), or the process may not make
        files that large (``EFBIG``). The limit of a cgroup is not looked at: there the
        kernel kills instead.
    """
    content = _content(data_or_size)
    _check_name(name)
    _check_memory(content.nbytes if isinstance(content, memoryview) else content)
    own = _create(name)
    try:
        if isinstance(content, memoryview):
            _write(own.fileno(), content)
        elif content > 0:
            os.posix_fallocate(own.fileno(), 0, content)
        add_seals(own, seals)
    except BaseException:
        own.close()
        raise
    return own.detach()  # last: what is raised from here on loses it


def _content(data_or_size: ReadableBuffer | int) -> int | memoryview:
    if hasattr(type(data_or_size), "__index__"):
        try:
            size = index(data_or_size)  # type: ignore[arg-type]
        except TypeError:
            pass  # an array of NumPy, which has the method for its scalars
        else:
            if size < 0:
                raise OverflowError(f"size must not be negative, and is {size}")
            return size
    try:
        return memoryview(data_or_size)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            "memfd takes a bytes-like object or a size in bytes, not "
            f"{type(data_or_size).__name__!r}"
        ) from None


def _check_name(name: str) -> None:
    try:
        encoded = os.fsencode(name)
    except TypeError:
        raise TypeError(f"name must be a string, not {type(name).__name__!r}") from None
    if len(encoded) > _LONGEST_NAME:
        raise ValueError(
            f"name must have at most {_LONGEST_NAME} bytes, and has {len(encoded)}"
        )
    if b"\0" in encoded:
        raise ValueError("name must not have a null character")


def _check_memory(size: int) -> None:
    """Raise OSError (``ENOMEM``) if the machine has not got `size` bytes.

    The kernel knows no such error: it starts killing processes, this one or others.
    """
    if size <= os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE"):
        return
    try:
        with open("/proc/meminfo") as file:
            rows = dict(line.split(":") for line in file)
    except OSError:  # no /proc
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    else:
        kib = (int(rows[row].split()[0]) for row in ("MemAvailable", "SwapFree"))
        available = sum(kib) << 10
    if size > available:
        raise OSError(
            errno.ENOMEM,
            f"a file of {size} bytes in memory cannot be had: {available} bytes of "
            "memory and swap are available",
        )


def _create(name: str) -> Descriptor:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return owned(os.memfd_create, name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return owned(os.memfd_create, name, flags)


def _write(fd: int, data: memoryview) -> None:
    if data.nbytes == 0:  # which cannot be cast
        return
    with memoryview(data if data.c_contiguous else data.tobytes()).cast("B") as left:
        done = 0
        while done < len(left):  # at most 2 GiB at a time
            done += os.pwrite(fd, left[done:], done)


def _reason(fd: int, seals: Seal, name: str, number: int) -> SealError:
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return _no_seals(name)
    what = f"{_names(seals)} cannot be added to {name}"
    if number == errno.EBUSY:
        why = "it is mapped for writing, or its pages are in use by a device"
    elif number == errno.EINVAL:
        why = f"this kernel does not have {_names(_unknown(seals))}"
    elif fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        why = "it is not open for writing"
    else:
        why = (
            "it takes no more seals (SEAL is set, from the start where it lies on a "
            "tmpfs or was made without MFD_ALLOW_SEALING)"
        )
    return SealError(number, f"{what}: {why}")


def _no_seals(name: str) -> SealError:
    return SealError(
        errno.EINVAL,
        f"{name} is of a kind that has no seals: they are for memfds, and files on a "
        "tmpfs or hugetlbfs",
    )


def _unknown(seals: Seal) -> Seal:
    """Those that this kernel does not know.

    It says ``EINVAL`` to them, and ``EPERM`` to the others, of a file that takes none.
    """
    unknown = Seal(0)
    scratch = owned(os.memfd_create, "safemmap seals")
    try:
        for bit in range(seals.bit_length()):
            seal = seals & Seal(1 << bit)
            try:
                fcntl.fcntl(scratch, fcntl.F_ADD_SEALS, seal)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    unknown |= seal
    finally:
        scratch.close()
    return unknown


def _names(seals: Seal) -> str:
    names = [seal.name or "" for seal in seals]
    rest = seals & ~sum(Seal)
    return "|".join([*names, hex(rest)] if rest else names)
