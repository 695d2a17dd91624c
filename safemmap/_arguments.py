"""What callers hand in: numbers and file descriptors, and errors that name them."""

from __future__ import annotations

import errno
import fcntl
import os
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["bad_descriptor", "descriptor", "integer", "natural"]


def descriptor(fd: FileDescriptorLike, function: str) -> int:
    """The number of a file descriptor, or of an object that has one (``fileno()``).

    :raises TypeError: `fd` is neither; for a path it says what to do.
    """
    try:
        return index(fd)  # type: ignore[arg-type]
    except TypeError:
        if hasattr(fd, "fileno"):
            return index(fd.fileno())
    _refuse(fd, function)


def _refuse(fd: Any, function: str) -> NoReturn:
    takes = f"{function} takes a file descriptor, or an object with fileno()"
    if isinstance(fd, (str, bytes, os.PathLike)):
        raise TypeError(
            f"{takes}, not a path: open {os.fspath(fd)!r} first, and pass what open() "
            "returns"
        )
    raise TypeError(f"{takes}, not {type(fd).__name__!r}")


def integer(name: str, value: Any) -> int:
    """:raises TypeError: the argument of that name is no integer."""
    if type(value) is int:
        return value
    try:
        return index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, not {type(value).__name__!r}"
        ) from None


def natural(name: str, value: Any) -> int:
    """:raises TypeError: the argument of that name is no integer.
    :raises ValueError: it is negative.
    """
    number = integer(name, value)
    if number < 0:
        raise ValueError(f"{name} must not be negative, and is {number}")
    return number


def bad_descriptor(fd: int) -> OSError:
    """What ``EBADF`` means for this one."""
    try:
        fcntl.fcntl(fd, fcntl.F_GETFL)
    except (OSError, ValueError):  # ValueError: it is negative
        return OSError(errno.EBADF, f"fd {fd} is not open")
    return OSError(errno.EBADF, f"fd {fd} was opened with O_PATH, for its name alone")
