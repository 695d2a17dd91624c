"""open() and memmap(): a file by its name."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from safemmap import (
    ACCESS_COPY,
    ACCESS_READ,
    ACCESS_WRITE,
    ALLOCATIONGRANULARITY,
)
from safemmap._arguments import natural
from safemmap._core import mmap, owned

if TYPE_CHECKING:
    from _typeshed import StrPath
    from numpy.typing import DTypeLike, NDArray

__all__ = ["memmap", "open"]

_MODES = {
    "r": (ACCESS_READ, os.O_RDONLY),
    "r+": (ACCESS_WRITE, os.O_RDWR),
    "c": (ACCESS_COPY, os.O_RDONLY),
}


def open(
    path: StrPath,
    mode: Literal["r", "r+", "c"] = "r",
    *,
    length: int = 0,
    offset: int = 0,
    protection: Literal["auto", "sealed", "guarded", "kernel"] = "auto",
    views: Literal["auto", "deferred", "interrupt", "deny", "crash"] = "auto",
) -> mmap:
    """Map a file by its name.

        with safemmap.open("data.bin") as m:
            header = m[:64]

    :param path: of a file that there is.
    :param mode: ``"r"`` to read; ``"r+"`` to change the file, too; ``"c"`` for changes
        that stay private (copy-on-write).
    :param length: how many bytes; 0 for all from `offset` on.
    :param offset: where in the file to begin, in bytes; a multiple of
        ``ALLOCATIONGRANULARITY``.
    :param protection: see `mmap`.
    :param views: see `mmap`.
    :raises TypeError: `path` is none, such as a descriptor, which `wrap` maps.
    :raises ValueError: `mode` is none of these, the file is empty or too short, or
        `length` or `offset` is negative, or `offset` not aligned.
    :raises IsADirectoryError: it is a directory.
    :raises OSError: as open(2) and mmap(2) have it.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        hint = ""
        if isinstance(path, int) or hasattr(path, "fileno"):
            hint = "; wrap() and mmap() map a file that is open"
        raise TypeError(f"open takes a path, not {type(path).__name__!r}{hint}")
    if mode not in _MODES:
        raise ValueError(f"mode must be 'r', 'r+' or 'c', not {mode!r}")
    access, flags = _MODES[mode]
    length = natural("length", length)
    offset = natural("offset", offset)
    if offset % ALLOCATIONGRANULARITY != 0:
        raise ValueError(
            f"offset {offset} is not a multiple of ALLOCATIONGRANULARITY "
            f"({ALLOCATIONGRANULARITY})"
        )
    own = owned(os.open, path, flags | os.O_CLOEXEC)
    try:
        _check_file(own.fileno(), path, length, offset)
        return mmap(
            own,  # type: ignore[arg-type]
            length,
            access=access,
            offset=offset,
            protection=protection,
            views=views,
        )
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    finally:
        own.close()


def _check_file(fd: int, path: StrPath, length: int, offset: int) -> None:
    """Refuse what mmap(2) refuses, with an error that says why."""
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        return
    name, size = repr(os.fspath(path)), status.st_size
    if size == 0:
        raise ValueError(
            f"cannot map {name}: it is empty, and a mapping has at least one byte"
        )
    if offset + (length or 1) > size:
        end = f"to byte {offset + length}" if length else f"from byte {offset} on"
        raise ValueError(f"cannot map {name} {end}: it has {size} bytes")


def memmap(
    path: StrPath,
    dtype: DTypeLike = "u1",
    mode: Literal["r", "r+", "c"] = "r",
    *,
    offset: int = 0,
    shape: SupportsIndex | Iterable[SupportsIndex] | None = None,
    order: Literal["C", "F"] = "C",
    views: Literal["deferred", "interrupt"] = "interrupt",
) -> NDArray[Any]:
    """A NumPy array of a file, which is protected for as long as the array lives.

    In the place of `numpy.memmap`, whose arguments these are: the call that touches a
    lost page raises `BusError` (see `views` of `mmap`).

    :param path: of a file that there is.
    :param mode: as `open` has it.
    :param offset: of the first element in the file, in bytes; any number.
    :param shape: of the array; if omitted, it has one dimension, and all that the file
        holds from `offset` on.
    :raises ValueError: what `open` refuses; or the file does not hold whole elements,
        and `shape` is omitted; or `dtype` has Python objects in it, which are pointers,
        or elements of no bytes; or `shape` is negative.
    """
    import numpy

    if views not in ("deferred", "interrupt"):
        raise ValueError(f"views must be 'deferred' or 'interrupt' here, not {views!r}")

    dtype = numpy.dtype(dtype)
    if dtype.hasobject:
        raise ValueError(f"no file holds Python objects: dtype must not be {dtype}")
    if dtype.itemsize == 0:
        raise ValueError(f"dtype must have elements of one byte or more, not {dtype}")
    offset = natural("offset", offset)
    start = offset - offset % ALLOCATIONGRANULARITY
    before = offset - start
    length = 0
    if shape is not None:
        shape = _lengths(shape)
        length = before + math.prod(shape) * dtype.itemsize
    with contextlib.ExitStack() as on_error:
        m = open(path, mode, length=length, offset=start, views=views)
        on_error.callback(m.close)
        if shape is None:
            count, rest = divmod(len(m) - before, dtype.itemsize)
            if rest:
                raise ValueError(
                    f"{len(m) - before} bytes from offset {offset} on are no whole "
                    f"number of elements of {dtype.itemsize} bytes ({dtype})"
                )
            shape = (count,)
        # Its base is `m`, whose memory is registered as long as it is open.
        array = numpy.ndarray(shape, dtype, m, before, order=order)
        on_error.pop_all()
    return array


def _lengths(shape: SupportsIndex | Iterable[SupportsIndex]) -> tuple[int, ...]:
    given = shape if isinstance(shape, Iterable) else (shape,)
    return tuple(natural("shape", length) for length in given)
